//! What a path names.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::fs::Fs;

/// Tells a file from any other that its path may come to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A file opened for appending.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) identity: Identity,
    pub(super) length: u64,
    /// It was not there before.
    pub(super) created: bool,
}

/// Opens the regular file `path` for appending, or makes it. Anything else is refused.
pub(super) fn open_or_make(fs: &Fs, path: &Path, mode: u32) -> io::Result<Opened> {
    let mut options = OpenOptions::new();
    // Reading is for finding the end of the last whole line.
    options.read(true).append(true).mode(mode);
    let mut new = options.clone();
    new.create_new(true);
    let (file, created) = match fs.open(&new, path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (fs.open(&options, path)?, false),
        Err(error) => return Err(error),
    };
    let metadata = fs.metadata_of(&file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file any more"));
    }
    if created && metadata.permissions().mode() & 0o7777 != mode {
        // The umask took some away. Where the file system has no modes, the file is as good as can be.
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    Ok(Opened { identity: Identity::of(&metadata), length: metadata.len(), file, created })
}

/// Whether `error` says that a path names nothing.
pub(super) fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Symbolic links followed as long as any.
const MOST_LINKS: usize = 40;

/// The path with a symbolic link at its end followed, since rotation renames the file and not the link. A link to what
/// is no regular file (`/dev/stdout`) stays.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = path.to_owned();
    for _ in 0..MOST_LINKS {
        if is_special_place(&resolved) {
            return Ok(resolved);
        }
        match std::fs::symlink_metadata(&resolved) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = std::fs::read_link(&resolved)?;
                resolved = match resolved.parent() {
                    Some(parent) => parent.join(target),
                    None => target,
                };
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(resolved),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// What is there is the kernel's, even if it looks like a regular file.
fn is_special_place(path: &Path) -> bool {
    path.starts_with("/proc") || (path.starts_with("/dev") && !path.starts_with("/dev/shm"))
}

/// Whether `path` is to be written and nothing else. A directory is neither, and an error.
pub(super) fn is_stream(fs: &Fs, path: &Path) -> io::Result<bool> {
    if is_special_place(path) {
        return Ok(true);
    }
    match fs.metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) => Ok(!metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
