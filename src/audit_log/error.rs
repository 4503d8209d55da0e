//! What can go wrong with the audit log, in words for an operator.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::proc::ProcessIds;
use crate::observe::labels::AppendFault;

/// Why an append failed. A later one may succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendError {
    reason: AppendFault,
    message: String,
}

impl AppendError {
    /// The `reason` label of `append_errors_total`.
    pub fn reason(&self) -> AppendFault {
        self.reason
    }

    fn new(reason: AppendFault, message: String) -> Self {
        Self { reason, message }
    }

    pub(super) fn write(target: &str, error: &io::Error) -> Self {
        Self::new(fault(error), format!("cannot write to {target}: {error}"))
    }

    pub(super) fn sync(target: &str, error: &io::Error) -> Self {
        Self::new(AppendFault::Sync, format!("cannot sync {target} to its disk: {error}"))
    }

    pub(super) fn open(target: &str, error: &io::Error) -> Self {
        Self::new(AppendFault::Open, format!("cannot open {target}: {error}"))
    }

    pub(super) fn lock(target: &str, error: &io::Error) -> Self {
        let message = format!("the lock is lost: {target} is not written until it is ours again: {error}");
        Self::new(AppendFault::Lock, message)
    }

    pub(super) fn doubtful(target: &str, error: &io::Error) -> Self {
        let message = format!("the end of {target} is in doubt, and it has no successor yet: {error}");
        let fault = match fault(error) {
            AppendFault::Other => AppendFault::Io,
            known => known,
        };
        Self::new(fault, message)
    }
}

const EIO: i32 = 5;

fn fault(error: &io::Error) -> AppendFault {
    match error.kind() {
        io::ErrorKind::StorageFull => AppendFault::NoSpace,
        io::ErrorKind::QuotaExceeded => AppendFault::Quota,
        io::ErrorKind::FileTooLarge => AppendFault::FileTooLarge,
        io::ErrorKind::ReadOnlyFilesystem => AppendFault::ReadOnly,
        io::ErrorKind::BrokenPipe => AppendFault::BrokenPipe,
        io::ErrorKind::WouldBlock => AppendFault::PipeFull,
        _ if error.raw_os_error() == Some(EIO) => AppendFault::Io,
        _ => AppendFault::Other,
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AppendError {}

/// Why the audit log could not be opened at start. Its text names the path.
#[derive(Debug)]
pub enum OpenError {
    /// Another process writes to this log.
    InUse {
        /// The audit log.
        log: PathBuf,
        /// What the other process has locked: the lock file, or the log itself by another name.
        lock: PathBuf,
    },
    /// Standard output is closed, leads nowhere, or would not keep lines whole.
    Stdout(&'static str),
    /// A system call failed, or what is there cannot be used.
    Io {
        /// What it was about: the log, its lock file, its directory.
        path: PathBuf,
        /// The call's error, or why it cannot be used.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { log, lock } => {
                write!(f, "{}: in use by another process (it holds the lock on {})", log.display(), lock.display())
            }
            Self::Stdout(why) => write!(f, "standard output {why}"),
            Self::Io { path, error } => {
                write!(f, "{}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => not_ours(f, path),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Names the nearest directory above that exists, if `path` tells one, and the user that we are: an operator has to
/// compare the two.
fn not_ours(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    if let Some(directory) = path.ancestors().find(|above| above.is_dir()) {
        write!(f, " in the directory {}", directory.display())?;
    }
    ProcessIds::read().map_or(Ok(()), |ids| write!(f, " as uid {}", ids.user))
}

// The text has the system call's error in it, so there is no `source` that would say it again.
impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_doubt_is_counted_as_what_kept_it_from_being_cut() {
        let reason = |error: io::Error| AppendError::doubtful("audit.log", &error).reason();
        assert_eq!(reason(io::ErrorKind::ReadOnlyFilesystem.into()), AppendFault::ReadOnly);
        assert_eq!(reason(io::Error::from_raw_os_error(EIO)), AppendFault::Io);
        assert_eq!(reason(io::Error::other("it is not what it was cut to")), AppendFault::Io);
    }

    #[test]
    fn what_is_not_permitted_names_the_nearest_directory_and_none_that_is_no_directory() {
        let said = |path: &str| OpenError::io(Path::new(path), io::ErrorKind::PermissionDenied.into()).to_string();
        let user = ProcessIds::read().unwrap().user;
        assert_eq!(
            said("/proc/missing/audit.log"),
            format!("/proc/missing/audit.log: permission denied in the directory /proc as uid {user}")
        );
        assert_eq!(said("standard output"), format!("standard output: permission denied as uid {user}"));
    }
}
