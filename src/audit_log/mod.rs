//! The audit log: whole lines appended, all or nothing, to a file that is rolled as it grows.
//!
//! This room owns the log's files and threads. It must not know what a request is, or what stands in a line beyond its
//! first two bytes, its newline, its `requestReceivedTimestamp`, and the closing brace that the chain stands before.
//!
//! | file | owns |
//! |---|---|
//! | mod | the interface |
//! | commit | who writes when: one writer at a time, and the lines of those who wait |
//! | writer | what is written to, with its metrics and outages |
//! | file | a regular file: whole lines or none |
//! | file/rotate | the file that comes after it |
//! | file/start | what an earlier process or a power cut has left |
//! | content | where whole lines end, and what is no log of ours |
//! | open | opening files that are ours, and no others |
//! | guard | the lock against a second process |
//! | chain | `--chain`: the member at each line's end; its format; the newest head |
//! | names, backups | the files beside the log: their names; which rolled files may go |
//! | stream | FIFOs, devices, standard output |
//! | watcher | the threads that look after the path, probe, and delete |
//! | status | whether appends work, for `/readyz` and for messages |
//! | error | what can go wrong, in words for an operator |
//! | proc | what /proc says of users and mounts |
//! | fs | the system calls |

mod backups;
pub(crate) mod chain;
mod commit;
mod content;
mod error;
#[cfg(test)]
mod faults;
mod file;
mod fs;
mod guard;
#[cfg(test)]
mod model;
mod names;
mod open;
mod proc;
#[cfg(test)]
mod random_faults;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

pub use error::{AppendError, OpenError};

pub(crate) use names::{Names, Stamp, directory_of, log_of};

use crate::files::chain_key::ChainKeyFile;
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;
use crate::record::Chained;
use backups::Retention;
use chain::format::Origin;
use chain::{Chain, Heads, Lines};
use commit::GroupCommit;
use file::{LogFile, Rules};
use fs::Fs;
use open::{is_stream, resolve};
use status::LogStatus;
use stream::Stream;
use watcher::{Kind, Pruner, Watcher};
use writer::{Sink, Writer};

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, made with its directory if missing; or a FIFO or device, which is only written: never made, rolled,
    /// locked or synced.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where audit lines go.
    pub target: Target,
    /// The file is rolled before it would grow past this many bytes; 0 never rolls it.
    pub max_size: u64,
    /// Rolled files kept; 0 keeps all.
    pub max_backups: usize,
    /// Rolled files that are older than this are deleted; zero never deletes one for its age.
    pub max_age: Duration,
    /// Most bytes of all rolled files together: the oldest are deleted first; 0 for no limit.
    pub max_total_size: u64,
    /// When lines are synced.
    pub sync: SyncMode,
    /// Permissions of newly created files.
    pub file_mode: u32,
    /// Whether each line gets a `chain` member.
    pub chain: ChainSetting,
}

/// When lines are synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// By the kernel, in its own time.
    Never,
    /// Before an append returns (fdatasync).
    Always,
}

/// Whether lines are chained.
#[derive(Debug, Clone)]
pub enum ChainSetting {
    /// They are written as they are appended.
    Off,
    /// Each says its number and a hash that covers it and all before it.
    Unsigned,
    /// Some are signed as well.
    Signed(Arc<ChainKeyFile>),
}

impl Settings {
    fn retention(&self) -> Retention {
        Retention { max_backups: self.max_backups, max_age: self.max_age, max_total_size: self.max_total_size }
    }
}

/// The audit log, opened and locked. Its threads do not run yet.
#[derive(Debug)]
pub struct OpenedLog {
    log: AuditLog,
    watcher: Watcher,
    /// For a file, which has rolled files.
    pruner: Option<Pruner>,
}

/// The audit log in use. Shared by reference; dropping it ends its threads.
#[derive(Debug)]
pub struct AuditLog {
    commit: Arc<GroupCommit>,
    status: Arc<LogStatus>,
    /// With a chain.
    heads: Option<Arc<Heads>>,
    /// The watcher, and for a file the thread that deletes rolled files.
    threads: Vec<JoinHandle<()>>,
}

impl OpenedLog {
    /// Opens the log, with a torn tail cut off. A FIFO that nobody reads from yet is opened once somebody does; until
    /// then appends fail.
    ///
    /// # Errors
    /// The path cannot be opened or locked, another process has it, what is there is no log of ours, or it leads nowhere
    /// (standard output).
    pub fn open(settings: Settings, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, OpenError> {
        Self::open_with(Fs::default(), settings, metrics, diagnostics)
    }

    fn open_with(
        fs: Fs,
        settings: Settings,
        metrics: Arc<Metrics>,
        diagnostics: Arc<Diagnostics>,
    ) -> Result<Self, OpenError> {
        let status = Arc::new(LogStatus::new(metrics, diagnostics));
        let mut pruner = None;
        let mut origin = Origin::Nothing;
        let sink = match &settings.target {
            Target::Stdout => Sink::Stream(Stream::stdout(fs.clone(), Arc::clone(&status))?),
            Target::File(path) => {
                let failed = |error| OpenError::io(path, error);
                let resolved = resolve(path).map_err(failed)?;
                if is_stream(&resolved).map_err(failed)? {
                    Sink::Stream(Stream::open(fs.clone(), &resolved, Arc::clone(&status))?)
                } else {
                    let rules = Rules { max_size: settings.max_size, sync: settings.sync, mode: settings.file_mode };
                    let file = LogFile::open(fs.clone(), resolved, rules, Arc::clone(&status))?;
                    if !matches!(settings.chain, ChainSetting::Off) {
                        origin = file.last_point().map_or(Origin::Nothing, Origin::After);
                    }
                    pruner = Some(Pruner::new(fs.clone(), Arc::clone(&status), &file, settings.retention()));
                    Sink::File(Box::new(file))
                }
            }
        };
        let key = match &settings.chain {
            ChainSetting::Signed(key) => Some(Arc::clone(key)),
            ChainSetting::Off | ChainSetting::Unsigned => None,
        };
        let heads = match settings.chain {
            ChainSetting::Off => None,
            _ => Some(Arc::new(Heads::new(key.clone(), Arc::clone(&status.metrics)))),
        };
        let chain = heads.as_ref().map(|heads| Chain::begin(origin, key, Arc::clone(heads)));
        let chain = chain.transpose().map_err(|error| OpenError::io(Path::new("--chain"), error))?;
        if let Some(heads) = &heads {
            heads.say_begin(&origin, &status.diagnostics);
        }
        let kind = if pruner.is_some() { Kind::File } else { Kind::Stream };
        let writer = Writer::new(sink, Arc::clone(&status), chain);
        let commit = Arc::new(GroupCommit::new(writer, settings.sync, settings.max_size));
        let watcher = Watcher {
            fs,
            commit: Arc::clone(&commit),
            status: Arc::clone(&status),
            heads: heads.clone(),
            kind,
            sync: settings.sync,
        };
        Ok(Self { log: AuditLog { commit, status, heads, threads: Vec::new() }, watcher, pruner })
    }

    /// Starts the threads that look after the log.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self) -> io::Result<AuditLog> {
        let Self { mut log, watcher, pruner } = self;
        log.spawn("audit-log", move || watcher.run())?;
        if let Some(pruner) = pruner {
            let thread = log.spawn("audit-log-prune", move || pruner.run())?;
            // Nothing else sets it.
            let _ = log.status.pruner.set(thread);
        }
        Ok(log)
    }
}

impl AuditLog {
    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10);
        let handle = builder.spawn(run)?;
        let thread = handle.thread().clone();
        self.threads.push(handle);
        Ok(thread)
    }

    /// Appends `lines`, each ending in `\n`, all of them or none; if there are none, it does nothing. Returns when they
    /// have been given to the kernel, or, with [`Settings::sync`], are on the disk. Any number of threads may append at
    /// once; what a pipe's slow reader does not take holds them up.
    ///
    /// # Errors
    /// The error has been counted, and a later append may succeed. Nothing of `lines` is left in a file; what has gone
    /// into a pipe stays there.
    pub fn append(&self, lines: &[u8]) -> Result<(), AppendError> {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\n"));
        if lines.is_empty() {
            return Ok(());
        }
        let outcome = match self.heads {
            None => self.commit.append(Lines::Plain(lines)),
            Some(_) => self.commit.append(Lines::Many(lines, &chain::digests(lines))),
        };
        outcome.inspect_err(|error| self.count(error))
    }

    /// [`Self::append`] for a single line. No newline has to be searched for, and a `chain` member is put into it while it
    /// is written, so that it is not copied.
    ///
    /// # Errors
    /// Likewise.
    pub fn append_one(&self, line: &mut Vec<u8>) -> Result<(), AppendError> {
        let outcome = match self.heads {
            None => self.commit.append(Lines::Plain(line)),
            Some(_) => {
                let digest = chain::digest(line);
                self.commit.append(Lines::One(line, digest))
            }
        };
        outcome.inspect_err(|error| self.count(error))
    }

    fn count(&self, error: &AppendError) {
        self.status.metrics.append_errors.increment(error.reason());
    }

    /// Opens the log anew (SIGHUP), before the next line is written, and a file within milliseconds even without one.
    pub fn reopen(&self) {
        self.status.reopen.store(true, Relaxed);
        self.wake_threads();
    }

    /// One line that says why appends fail, or would.
    pub fn failing(&self) -> Option<String> {
        self.status.failing()
    }

    /// The head of the chain, `ID/SEQ/HASH` or `ID/SEQ/HASH/SIG`, for a reply: at most once a second, and of lines only
    /// that were appended with success. `None` without a chain.
    /// `takes` is asked, when one is due, whether this reply can carry it.
    pub fn head_due(&self, takes: impl FnOnce() -> bool) -> Option<String> {
        self.heads.as_ref()?.due(Instant::now(), takes)
    }

    /// Whether lines get a `chain` member.
    pub fn chained(&self) -> Chained {
        if self.heads.is_some() { Chained::Yes } else { Chained::No }
    }

    fn wake_threads(&self) {
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.status.stop.store(true, Relaxed);
        self.wake_threads();
        for thread in self.threads.drain(..) {
            // It fails if the thread has panicked, which has been said and ends the process.
            let _ = thread.join();
        }
        if let Some(heads) = &self.heads {
            heads.say(&self.status.diagnostics);
        }
    }
}

/// Takes the lock. It is never poisoned in the program, where a panic ends the process, but may be in tests.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Capacity that a buffer keeps for the next group of lines; what a larger group needed is given back.
const LARGEST_KEPT: usize = 256 << 10;

/// The buffer of a group that was written, for the next one.
fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.shrink_to(LARGEST_KEPT);
    buffer
}
