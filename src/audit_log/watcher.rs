//! The thread beside the appends: notices when the log was moved, deletes rolled files, and finds out when appends
//! would work again. It never waits for the writer.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::backups::{Backups, Retention};
use super::commit::GroupCommit;
use super::fs::Fs;
use super::status::{Look, Status};
use super::writer::Probe;

/// Between two looks at the log's path.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// While a look is due that somebody who is writing is to do.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Between two probes while appends fail.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How often rolled files are looked through for those that have become too old.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Written to find out whether there is room again.
const PROBE_BYTES: usize = 64 << 10;

pub(super) struct Watcher {
    pub(super) fs: Fs,
    pub(super) commit: Arc<GroupCommit>,
    pub(super) status: Arc<Status>,
    /// `None` if the log is never rolled.
    pub(super) backups: Option<Backups>,
    pub(super) retention: Retention,
    /// Whether a probe must reach the disk.
    pub(super) sync: bool,
}

impl Watcher {
    /// Until the log is dropped.
    pub(super) fn run(self) {
        let mut looked = Instant::now();
        let mut probed = Instant::now();
        let mut pruned = Instant::now();
        loop {
            let pause =
                if self.status.look_is_due() { LOOK_AGAIN } else { LOOK_EVERY.saturating_sub(looked.elapsed()) };
            let wake = self.status.wait(pause);
            if wake.stop {
                return;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.status.note_appends();
                self.status.ask_look(Look::IfMoved);
            }
            if self.backups.is_none() {
                // A stream is not looked at.
                let _ = self.status.take_look();
            } else if let Some(mut turn) = self.commit.try_turn() {
                // Whoever writes does it otherwise, before the next line.
                turn.look_if_due();
            }
            if wake.prune || pruned.elapsed() >= PRUNE_EVERY {
                pruned = Instant::now();
                self.prune();
            }
            if probed.elapsed() >= PROBE_EVERY {
                probed = Instant::now();
                self.probe();
            }
        }
    }

    fn prune(&self) {
        let Some(backups) = &self.backups else {
            return;
        };
        let metrics = &self.status.metrics;
        let list = match backups.list() {
            Ok(list) => list,
            Err(error) => {
                metrics.log_retention_errors.increment();
                self.warn("cannot list rolled files", backups.directory(), &error);
                return;
            }
        };
        let pruned = self.retention.enforce(&self.fs, list, SystemTime::now());
        metrics.log_backups.set(i64::try_from(pruned.left).unwrap_or(i64::MAX));
        for (path, error) in pruned.failed {
            metrics.log_retention_errors.increment();
            self.warn("cannot delete a rolled file", &path, &error);
        }
    }

    /// A pod that is not ready gets no traffic, and without traffic no append would ever find out that it may be ready
    /// again.
    fn probe(&self) {
        let Some((failures, bytes)) = self.status.failures() else {
            return;
        };
        let Some(probe) = self.commit.try_turn().and_then(|mut turn| turn.probe()) else {
            return;
        };
        let works = match probe {
            Probe::Hope => true,
            // As much as failed, so that a disk that has room only for small lines is not taken for mended.
            Probe::Scratch { path, length } => self.try_writing(&path, length, bytes.max(PROBE_BYTES)).is_ok(),
        };
        if works {
            self.status.would_succeed(failures);
        }
    }

    fn try_writing(&self, scratch: &Path, length: u64, bytes: usize) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = self.fs.open(&options, scratch)?;
        let outcome = file
            .write_all_at(&vec![b'\n'; bytes], length)
            .and_then(|()| if self.sync { self.fs.sync_data(&file) } else { Ok(()) });
        let removed = std::fs::remove_file(scratch);
        outcome.and(removed)
    }

    fn warn(&self, msg: &str, path: &Path, error: &io::Error) {
        self.status
            .diagnostics
            .warn(msg, &[("path", (&path.display().to_string()).into()), ("error", (&error.to_string()).into())]);
    }
}
