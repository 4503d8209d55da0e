//! The two threads beside the appends. The watcher notices when the log was moved or its lock is lost, and finds out
//! when appends would work again. The other deletes rolled files, which may take long, and nobody waits for it.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::SyncMode;
use super::backups::{Backups, Retention, first_timestamp};
use super::chain::Heads;
use super::commit::GroupCommit;
use super::file::LogFile;
use super::fs::Fs;
use super::status::LogStatus;
use super::writer::Probe;
use crate::observe::diagnostics::Latch;

/// Between two looks at the log's path and its lock.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two probes while appends fail.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How often rolled files are looked through for those that have become too old.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Between two tries to learn the oldest line's time, while it is not known.
const OLDEST_EVERY: Duration = Duration::from_secs(1);
/// The fewest bytes that a probe writes to find out whether there is room again.
const LEAST_TRIED: usize = 64 << 10;
/// A stream's reader that has taken nothing for this long is said to stand still. Shorter than the time-out of most
/// webhooks.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// What the log is, for those who look after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Stream,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) fs: Fs,
    pub(super) commit: Arc<GroupCommit>,
    pub(super) status: Arc<LogStatus>,
    pub(super) heads: Option<Arc<Heads>>,
    pub(super) kind: Kind,
    /// Whether a probe must reach the disk.
    pub(super) sync: SyncMode,
}

impl Watcher {
    /// Runs until the log is dropped.
    pub(super) fn run(self) {
        let mut probed = Instant::now();
        let mut bytes_then = 0;
        while !self.status.stop.load(Relaxed) {
            thread::park_timeout(LOOK_EVERY);
            // For a metric in seconds this is exact enough, and no append has to look at the clock for it.
            let bytes_now = self.status.metrics.log_bytes_written.value();
            if bytes_now != bytes_then {
                self.status.metrics.last_append.mark();
            }
            bytes_then = bytes_now;
            if let Some(heads) = &self.heads {
                heads.say_if_due(&self.status.diagnostics);
            }
            match self.kind {
                Kind::File => self.commit.with_writer(|writer| writer.look()),
                // Whoever has the writer may be waiting for the stream's reader: this look must not wait for it.
                Kind::Stream => self.look_at_reader(),
            }
            if probed.elapsed() >= PROBE_EVERY {
                probed = Instant::now();
                self.probe();
            }
        }
    }

    fn look_at_reader(&self) {
        let waited = self.status.stream_waited().filter(|waited| *waited >= STANDS_STILL);
        self.status.set_obstacle(waited.map(|_| "the reader of the audit log stands still".to_owned()));
    }

    /// A pod that is not ready gets no traffic, and without traffic no append would ever find out that it may be ready
    /// again.
    fn probe(&self) {
        let Some(outage) = self.status.outage() else {
            return;
        };
        let failures = Some(outage.failures);
        match self.commit.with_writer(|writer| writer.probe()) {
            Probe::Fails => {}
            Probe::MayWork => self.status.end_outage("append may work again", failures),
            // As much as failed, so that a disk that has room only for small lines is not taken for mended.
            Probe::Scratch(path) => {
                if self.try_writing(&path, outage.bytes.max(LEAST_TRIED)).is_ok() {
                    self.status.end_outage("append would work again: a trial write did", failures);
                }
            }
        }
    }

    fn try_writing(&self, scratch: &Path, bytes: usize) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        // Whatever a crash has left there, or somebody has put there, is removed and not written to.
        let _ = std::fs::remove_file(scratch);
        let mut file = self.fs.open(&options, scratch)?;
        let written = io::copy(&mut io::repeat(b'\n').take(bytes as u64), &mut file);
        let outcome = match self.sync {
            SyncMode::Always => written.and_then(|_| self.fs.sync_data(&file)),
            SyncMode::Never => written.map(drop),
        };
        let removed = std::fs::remove_file(scratch);
        outcome.and(removed)
    }
}

/// Deletes rolled files over the limits, and knows how far back the log reaches.
#[derive(Debug)]
pub(super) struct Pruner {
    fs: Fs,
    status: Arc<LogStatus>,
    backups: Backups,
    retention: Retention,
    /// The audit log.
    log: PathBuf,
    /// What is said to fail.
    said: Latch<String>,
}

impl Pruner {
    pub(super) fn new(fs: Fs, status: Arc<LogStatus>, file: &LogFile, retention: Retention) -> Self {
        let (backups, log) = (file.backups().clone(), file.path().to_owned());
        Self { fs, status, backups, retention, log, said: Latch::default() }
    }

    /// Runs until the log is dropped. A deletion that is under way then is the last one.
    pub(super) fn run(mut self) {
        while !self.status.stop.load(Relaxed) {
            match self.prune() {
                Ok(()) => drop(self.said.well()),
                Err((msg, path, error)) => {
                    let path = path.display().to_string();
                    let error = error.to_string();
                    if self.said.fault(format!("{msg} {path} {error}")) {
                        self.status.warn(msg, &path, &error);
                    }
                }
            }
            let known = self.status.metrics.log_oldest_timestamp.value() > 0;
            thread::park_timeout(if known { PRUNE_EVERY } else { OLDEST_EVERY });
        }
    }

    /// Fails with the first error, after all has been tried.
    fn prune(&self) -> Result<(), (&'static str, PathBuf, io::Error)> {
        let metrics = &self.status.metrics;
        let backups = self.backups.list().map_err(|error| {
            metrics.log_retention_errors.increment();
            ("cannot list rolled files", self.backups.directory().to_owned(), error)
        })?;
        let (surplus, kept) = self.retention.part(backups, SystemTime::now());
        let mut left = kept.len();
        let mut outcome = Ok(());
        for backup in surplus {
            if self.status.stop.load(Relaxed) {
                return outcome;
            }
            match self.fs.remove(&backup.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    left += 1;
                    metrics.log_retention_errors.increment();
                    outcome = outcome.and(Err(("cannot delete a rolled file", backup.path, error)));
                }
                _ => {}
            }
        }
        metrics.log_backups.set(left);
        let files = kept.iter().map(|backup| backup.path.as_path()).chain([self.log.as_path()]);
        // A file that cannot be read, or has no such line, tells nothing; the next one may.
        let oldest = files.filter_map(|path| first_timestamp(path).ok().flatten()).next();
        metrics.log_oldest_timestamp.set(oldest.unwrap_or(0));
        outcome
    }
}
