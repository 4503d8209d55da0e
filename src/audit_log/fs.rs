//! The system calls on the audit log and its directory, one method each. In the program each is the plain call of the
//! standard library; in tests each can be made to fail (see `faults`).

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::Path;

/// The file system. Holds nothing, except in tests.
#[derive(Debug, Clone, Default)]
pub(super) struct Fs {
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<super::faults::Faults>,
}

/// Which call is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Open,
    Lock,
    Write,
    Sync,
    SetLen,
    Rename,
    Unlink,
    Stat,
    Read,
    MakeDirectory,
}

impl Fs {
    #[cfg(not(test))]
    #[inline(always)]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn may(&self, _call: Call) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn may(&self, call: Call) -> io::Result<()> {
        self.faults.may(call)
    }

    pub(super) fn open(&self, options: &OpenOptions, path: &Path) -> io::Result<File> {
        self.may(Call::Open)?;
        #[cfg(test)]
        let new = !path.exists();
        let file = options.open(path)?;
        #[cfg(test)]
        if new {
            self.faults.named(super::faults::Name::Made(path.to_owned()));
        }
        Ok(file)
    }

    /// Takes the lock of the file's inode (flock(2)) for this open file. Fails with `ResourceBusy` if another open file
    /// has it, and with `Unsupported` where the file system has no locks.
    pub(super) fn lock(&self, file: &File) -> io::Result<()> {
        self.may(Call::Lock)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::ResourceBusy.into(),
            TryLockError::Error(error) => error,
        })
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.may(Call::Write)?;
        #[cfg(test)]
        let bytes = self.faults.shortened(bytes);
        let mut file = file;
        file.write(bytes)
    }

    /// `file` must not be open for appending: Linux would append.
    pub(super) fn write_all_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.may(Call::Write)?;
        file.write_all_at(bytes, at)
    }

    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.may(Call::Sync)?;
        file.sync_data()?;
        #[cfg(test)]
        self.faults.synced(file);
        Ok(())
    }

    pub(super) fn sync_all(&self, file: &File) -> io::Result<()> {
        self.may(Call::Sync)?;
        file.sync_all()?;
        #[cfg(test)]
        self.faults.synced(file);
        Ok(())
    }

    /// Makes the names in `directory` durable.
    pub(super) fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let directory = self.open(OpenOptions::new().read(true), directory)?;
        self.sync_all(&directory)
    }

    pub(super) fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        self.may(Call::SetLen)?;
        file.set_len(length)
    }

    /// Sets the permissions of a file, from which the umask may have taken some when it was made. An error is ignored:
    /// a file system without modes refuses, and the file is used all the same.
    pub(super) fn set_mode(&self, file: &File, mode: u32) {
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.may(Call::Rename)?;
        std::fs::rename(from, to)?;
        #[cfg(test)]
        self.faults.named(super::faults::Name::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.may(Call::Unlink)?;
        std::fs::remove_file(path)
    }

    /// The metadata of what `path` names; a symbolic link is not followed.
    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.may(Call::Stat)?;
        std::fs::symlink_metadata(path)
    }

    pub(super) fn metadata_of(&self, file: &File) -> io::Result<Metadata> {
        self.may(Call::Stat)?;
        file.metadata()
    }

    pub(super) fn read_exact_at(&self, file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
        self.may(Call::Read)?;
        file.read_exact_at(into, at)
    }

    /// Makes `path` and what is missing above it, with mode 0755.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.may(Call::MakeDirectory)?;
        DirBuilder::new().recursive(true).mode(0o755).create(path)
    }
}
