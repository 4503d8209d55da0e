//! The lock of the log's name: on a hidden file beside it, which is never renamed. (The log file itself is locked too, by
//! whoever opens it.)

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::fs::Fs;
use super::open::{Identity, missing, open_or_make};

/// The lock and its file. Held as long as the log is open.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    /// Permissions of the lock file, those of the log: whoever may write the log must be able to lock it.
    mode: u32,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    /// The lock is ours as long as the file is open and has its name.
    Held { _file: File, identity: Identity },
    /// The file system has no locks.
    Unsupported,
    /// The lock file was deleted or replaced, and the lock could not be taken again yet.
    Lost,
}

impl Guard {
    /// Takes the lock of this lock file. Fails with `ResourceBusy` if another process has it.
    pub(super) fn take(fs: &Fs, path: &Path, mode: u32) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), mode, lock: Lock::take(fs, path, mode)? })
    }

    /// Whether the file system has no locks.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.lock, Lock::Unsupported)
    }

    /// Makes sure that the lock is ours: takes it again if its file was deleted, alone or with its directory.
    pub(super) fn hold(&mut self, fs: &Fs) -> io::Result<()> {
        match &self.lock {
            Lock::Unsupported => return Ok(()),
            Lock::Held { identity, .. } => match fs.metadata(&self.path) {
                Ok(metadata) if Identity::of(&metadata) == *identity => return Ok(()),
                // Whether it was replaced cannot be told now. The file that we hold open is still locked.
                Err(error) if !missing(&error) => return Ok(()),
                _ => self.lock = Lock::Lost,
            },
            Lock::Lost => {}
        }
        self.lock = Lock::take(fs, &self.path, self.mode)?;
        Ok(())
    }
}

impl Lock {
    fn take(fs: &Fs, path: &Path, mode: u32) -> io::Result<Self> {
        let opened = open_or_make(fs, path, mode)?;
        // An earlier start may have made it with another mode. If another user owns it, its mode stays.
        fs.set_mode(&opened.file, mode);
        match fs.lock(&opened.file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Self::Unsupported),
            Err(error) => return Err(error),
        }
        let identity = Identity::of(&opened.metadata);
        if Identity::of(&fs.metadata(path)?) != identity {
            return Err(io::Error::other("was replaced while it was being locked"));
        }
        Ok(Self::Held { _file: opened.file, identity })
    }
}
