//! Opening files that are ours, and no others.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::fs::Fs;
use super::proc::ProcessIds;

/// A FIFO is opened without waiting for its other end (open(2)).
pub(super) const O_NONBLOCK: i32 = 0o4000;

/// What tells a file from any other that the same path may name later.
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
    /// As it was when the file had been opened.
    pub(super) metadata: Metadata,
    /// Something about the file that an operator should be told.
    pub(super) warning: Option<String>,
}

/// Opens the regular file `path` for reading and appending, or makes it with `mode`. A symbolic link is not followed,
/// and a file that others may write is refused.
pub(super) fn open_or_make(fs: &Fs, path: &Path, mode: u32) -> io::Result<Opened> {
    let file = match fs.open(appending(mode).create_new(true), path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return open_found(fs, path, mode),
        file => file?,
    };
    fs.set_mode(&file, mode);
    let metadata = fs.metadata_of(&file)?;
    Ok(Opened { file, metadata, warning: None })
}

/// The same, but fails if there is no file.
pub(super) fn open_found(fs: &Fs, path: &Path, mode: u32) -> io::Result<Opened> {
    let before = fs.metadata(path)?;
    if !before.is_file() {
        let what = if before.is_symlink() {
            "is a symbolic link by now; links are followed at the program's start only"
        } else {
            "is no regular file"
        };
        return Err(io::Error::other(what));
    }
    let file = fs.open(&appending(mode), path)?;
    let metadata = fs.metadata_of(&file)?;
    if Identity::of(&metadata) != Identity::of(&before) {
        return Err(io::Error::other("was replaced while it was being opened"));
    }
    let warning = judge_owner(&metadata, mode)?;
    Ok(Opened { file, metadata, warning })
}

fn appending(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(mode);
    options
}

/// Refuses a file that anybody may write to, unless `wanted`, the mode of new files, lets anybody write. Refuses a file
/// that is neither ours nor root's (who may have made it for us), unless our group may write to it: then that is a
/// warning.
fn judge_owner(metadata: &Metadata, wanted: u32) -> io::Result<Option<String>> {
    const GROUP_WRITE: u32 = 0o020;
    const WORLD_WRITE: u32 = 0o002;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & WORLD_WRITE & !wanted != 0 {
        return Err(io::Error::other(format!("anybody may write to it (mode {mode:04o}), so it is not written")));
    }
    let ours = ProcessIds::read()?;
    let owner = metadata.uid();
    if owner == ours.user || owner == 0 {
        return Ok(None);
    }
    let said = format!("belongs to user {owner}, who is neither this process's ({}) nor root", ours.user);
    if mode & GROUP_WRITE != 0 && ours.groups.contains(&metadata.gid()) {
        return Ok(Some(said));
    }
    Err(io::Error::other(format!("{said}, so it is not written")))
}

/// Whether `error` says that a path names nothing.
pub(super) fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Symbolic links that are followed at the end of a path, as many as Linux follows: more are taken for a circle.
const MOST_LINKS: usize = 40;

/// The path with a symbolic link at its end followed, since rotation renames the file and not the link. Links in /proc
/// and /dev, such as `/dev/stdout`, are left to the kernel.
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

/// Whether the path is in /proc or /dev (but not /dev/shm). What is there is written as a stream, even if it leads to a
/// regular file.
fn is_special_place(path: &Path) -> bool {
    path.starts_with("/proc") || (path.starts_with("/dev") && !path.starts_with("/dev/shm"))
}

/// Whether `path` names a FIFO, a device or the like, which is only written, and not a file or nothing. A directory is
/// an error.
pub(super) fn is_stream(path: &Path) -> io::Result<bool> {
    if is_special_place(path) {
        return Ok(true);
    }
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) => Ok(!metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
