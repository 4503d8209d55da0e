//! The lock that keeps a second process off the log: on a hidden file beside it, which is never renamed. A shipper's
//! `*.log` does not match it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::fs::Fs;
use super::place::Identity;

/// Held as long as the log is open.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    /// Open, because closing it would give up the lock.
    _file: File,
    identity: Identity,
    unsupported: bool,
}

impl Guard {
    pub(super) fn path(directory: &Path, log: &OsStr) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(log);
        name.push(".lock");
        directory.join(name)
    }

    /// Fails with `ResourceBusy` if another process has it.
    pub(super) fn take(fs: &Fs, directory: &Path, log: &OsStr) -> io::Result<Self> {
        Self::take_at(fs, Self::path(directory, log))
    }

    fn take_at(fs: &Fs, path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Never truncated or written: it is only there to be locked.
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = fs.open(&options, &path)?;
        let unsupported = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let identity = Identity::of(&fs.metadata_of(&file)?);
        Ok(Self { path, _file: file, identity, unsupported })
    }

    /// Whether the file system has no locks.
    pub(super) fn unsupported(&self) -> bool {
        self.unsupported
    }

    /// Takes the lock again if its file was deleted, with its directory or alone.
    pub(super) fn renew(&mut self, fs: &Fs) -> io::Result<()> {
        match fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *self = Self::take_at(fs, self.path.clone())?;
        Ok(())
    }
}
