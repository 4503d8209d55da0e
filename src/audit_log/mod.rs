//! The audit log: whole lines appended, all or nothing, to a file that is rolled as it grows.
//!
//! | file | owns | must not know |
//! |---|---|---|
//! | mod | the interface | how lines are written |
//! | commit | one writer at a time, and the lines of those who wait | what lines are written to |
//! | writer | metrics and outages of what is written | who waits |
//! | file | a regular file: whole lines or none | threads |
//! | file/succession | the file that comes after it: rolled, moved, deleted | who appends |
//! | place | what kind of thing a path names | what it is for |
//! | tail | where whole lines end | whose file it is |
//! | guard | the lock against a second process | the log's content |
//! | names, backups | rolled files: their names, and which may go | the file being written |
//! | stream | FIFOs, devices, standard output | files |
//! | watcher | the thread that looks after the path, deletes, and probes | how lines are written |
//! | status | what these tell each other and `/readyz` | files |
//! | fs | the system calls | everything |

mod backups;
mod commit;
mod error;
#[cfg(test)]
mod faults;
mod file;
mod fs;
mod guard;
#[cfg(test)]
mod model;
mod names;
mod place;
mod status;
mod stream;
mod tail;
#[cfg(test)]
mod tests;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use error::{AppendError, OpenError};

pub(crate) use names::{Names, Stamp, log_of};

use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;
use backups::Retention;
use commit::GroupCommit;
use file::{LogFile, Rules};
use fs::Fs;
use place::{is_stream, resolve};
use status::{Look, Status};
use stream::Stream;
use watcher::Watcher;
use writer::{Sink, Writer};

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, made with its directory where missing; or a FIFO or device, which is then written and nothing else.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// How the log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where audit lines go.
    pub target: Target,
    /// The file is rolled before it would grow past this many bytes; 0 never rolls it.
    pub max_size: u64,
    /// Rolled files kept; 0 keeps all.
    pub max_backups: usize,
    /// Rolled files that are older are deleted; zero never deletes one for its age.
    pub max_age: Duration,
    /// Whether an append returns only when its lines are on the disk (fdatasync).
    pub sync: bool,
    /// Permissions of new files.
    pub file_mode: u32,
}

/// The open audit log. Shared by reference; dropping it ends its thread.
#[derive(Debug)]
pub struct AuditLog {
    commit: Arc<GroupCommit>,
    status: Arc<Status>,
    watcher: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens the log, with a torn tail cut off, and starts the thread that looks after it.
    ///
    /// # Errors
    /// The path cannot be opened or locked, another process has it, or nobody reads from it within 30 s (a FIFO).
    pub fn open(settings: Settings, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, OpenError> {
        Self::open_with(Fs::default(), settings, metrics, diagnostics)
    }

    fn open_with(
        fs: Fs,
        settings: Settings,
        metrics: Arc<Metrics>,
        diagnostics: Arc<Diagnostics>,
    ) -> Result<Self, OpenError> {
        let status = Arc::new(Status::new(metrics, diagnostics));
        let rules = Rules { max_size: settings.max_size, sync: settings.sync, mode: settings.file_mode };
        let sink = match settings.target {
            Target::Stdout => Sink::Stream(Stream::stdout(fs.clone())?),
            Target::File(path) => {
                let failed = |error| OpenError::io(&path, error);
                let resolved = resolve(&path).map_err(failed)?;
                if is_stream(&fs, &resolved).map_err(failed)? {
                    Sink::Stream(Stream::open(fs.clone(), &resolved, &status.diagnostics)?)
                } else {
                    let file = LogFile::open(fs.clone(), resolved, rules, Arc::clone(&status))?;
                    Sink::File(Box::new(file))
                }
            }
        };
        let writer = Writer::new(sink, Arc::clone(&status));
        let backups = writer.backups();
        let commit = Arc::new(GroupCommit::new(writer, settings.sync));
        let watcher = Watcher {
            fs,
            commit: Arc::clone(&commit),
            status: Arc::clone(&status),
            backups,
            retention: Retention { max_backups: settings.max_backups, max_age: settings.max_age },
            sync: settings.sync,
        };
        let watcher = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || watcher.run())
            .map_err(|error| OpenError::io(Path::new("the audit log's thread"), error))?;
        Ok(Self { commit, status, watcher: Some(watcher) })
    }

    /// Appends `lines`, one or more, each ending in `\n`: all of them or none. Returns when they have been given to the
    /// kernel, or, with [`Settings::sync`], are on the disk. Any number of threads may append at once; what a pipe's
    /// slow reader does not take holds them up.
    ///
    /// # Errors
    /// Nothing of `lines` is left in the log (but where it cannot be cut back: in a pipe whole lines may have gone out),
    /// and the error has been counted. A later append may succeed.
    pub fn append(&self, lines: &[u8]) -> Result<(), AppendError> {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\n"));
        if lines.is_empty() {
            return Ok(());
        }
        let outcome = self.commit.append(lines);
        if let Err(error) = &outcome {
            self.status.metrics.append_errors.increment(error.reason());
        }
        outcome
    }

    /// Opens the file at the log's path anew (SIGHUP), before the next line is written and within milliseconds.
    pub fn reopen(&self) {
        self.status.ask_look(Look::Reopen);
    }

    /// One line that says why appends fail, from the first that does to the first that would work again.
    pub fn failing(&self) -> Option<String> {
        self.status.failing()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.status.ask_stop();
        if let Some(watcher) = self.watcher.take() {
            // Its panic has been said by the panic hook.
            let _ = watcher.join();
        }
    }
}

/// A panic while a lock is held ends the program, except in tests.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
