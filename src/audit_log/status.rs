//! What the audit log's threads tell each other and the outside: is it failing, and what is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::error::AppendError;
use super::lock;
use crate::observe::diagnostics::{Diagnostics, RateLimit};
use crate::observe::metrics::Metrics;

/// Shared by the writer and the watcher.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) metrics: Arc<Metrics>,
    pub(super) diagnostics: Arc<Diagnostics>,
    /// Whether `outage` holds one: read on every append, so it costs no lock.
    failing: AtomicBool,
    outage: Mutex<Option<Outage>>,
    /// On a full disk small lines may still fit where large ones do not, and one outage follows the other.
    outage_messages: RateLimit,
    /// Bytes appended when [`Status::note_appends`] was last called.
    noted: AtomicU64,
    due: Mutex<Due>,
    changed: Condvar,
    /// Whether `due.look` or `due.reopen` is set: read on every append.
    look_due: AtomicBool,
}

/// From the first append that failed to the first that works again.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Its beginning was said, and so must its end be.
    said: bool,
    /// Of the last append that failed.
    error: String,
    /// Writes that failed. Tells whether one more did while a probe was under way.
    failures: u64,
    /// Bytes that the last of them was to write.
    bytes: usize,
}

/// What somebody has asked for and nobody has done yet.
#[derive(Debug, Default)]
struct Due {
    stop: bool,
    prune: bool,
    look: bool,
    reopen: bool,
    /// Wakes the watcher, once.
    hurry: bool,
}

/// What woke the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    /// The log is being dropped.
    pub(super) stop: bool,
    /// A rotation has left a rolled file more.
    pub(super) prune: bool,
}

/// Whether the look that is due is to end in a reopened file in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Reopen if the path names another file, or none.
    IfMoved,
    /// SIGHUP.
    Reopen,
}

impl Status {
    pub(super) fn new(metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Self {
        Self {
            metrics,
            diagnostics,
            failing: AtomicBool::new(false),
            outage: Mutex::default(),
            outage_messages: RateLimit::new(),
            noted: AtomicU64::new(0),
            due: Mutex::default(),
            changed: Condvar::new(),
            look_due: AtomicBool::new(false),
        }
    }

    /// An append of `bytes` (a group of them) has failed. Said once for each outage.
    pub(super) fn failed(&self, error: &AppendError, bytes: usize) {
        let mut outage = lock(&self.outage);
        if let Some(outage) = &mut *outage {
            outage.failures += 1;
            outage.bytes = bytes;
            outage.error = error.to_string();
            return;
        }
        let now = Instant::now();
        let left_out = self.outage_messages.admit(now);
        *outage = Some(Outage { since: now, said: left_out.is_some(), error: error.to_string(), failures: 1, bytes });
        self.failing.store(true, Relaxed);
        if let Some(left_out) = left_out {
            self.diagnostics.error(
                "append failed; events are answered 503 until it works again",
                &[
                    ("error", (&error.to_string()).into()),
                    ("reason", error.reason().into()),
                    ("outages_not_said", left_out.into()),
                ],
            );
        }
    }

    /// An append has succeeded.
    pub(super) fn succeeded(&self) {
        if self.failing.load(Relaxed) {
            self.end_outage("append works again", None);
        }
    }

    /// A probe has found that an append would succeed. Does not count if an append has failed since the probe began,
    /// after `failures`.
    pub(super) fn would_succeed(&self, failures: u64) {
        self.end_outage("append would work again: a trial write did", Some(failures));
    }

    fn end_outage(&self, msg: &str, unless_more_than: Option<u64>) {
        let mut slot = lock(&self.outage);
        let Some(outage) = &*slot else { return };
        if unless_more_than.is_some_and(|failures| failures != outage.failures) {
            return;
        }
        if outage.said {
            self.diagnostics.info(
                msg,
                &[("failed_writes", outage.failures.into()), ("seconds", outage.since.elapsed().as_secs().into())],
            );
        }
        *slot = None;
        self.failing.store(false, Relaxed);
    }

    /// How many writes have failed in this outage, and how many bytes the last was to write; `None` if there is none.
    pub(super) fn failures(&self) -> Option<(u64, usize)> {
        lock(&self.outage).as_ref().map(|outage| (outage.failures, outage.bytes))
    }

    /// The last append's error while appends fail.
    pub(super) fn failing(&self) -> Option<String> {
        lock(&self.outage).as_ref().map(|outage| outage.error.clone())
    }

    /// Marks the time of the last append, if there was one since the last call: often enough for a metric in seconds,
    /// and no append has to look at the clock for it.
    pub(super) fn note_appends(&self) {
        let written = self.metrics.log_bytes_written.value();
        if self.noted.swap(written, Relaxed) != written {
            self.metrics.last_append.mark();
        }
    }

    /// Asks the watcher to delete rolled files over the limits.
    pub(super) fn ask_prune(&self) {
        lock(&self.due).prune = true;
        self.changed.notify_all();
    }

    /// Asks whoever writes next, or the watcher, to look whether the path still names the open file.
    pub(super) fn ask_look(&self, look: Look) {
        let mut due = lock(&self.due);
        match look {
            Look::IfMoved => due.look = true,
            Look::Reopen => (due.reopen, due.hurry) = (true, true),
        }
        self.look_due.store(true, Relaxed);
        drop(due);
        self.changed.notify_all();
    }

    /// Takes the look that is due, if one is.
    #[inline]
    pub(super) fn take_look(&self) -> Option<Look> {
        if !self.look_due.load(Relaxed) {
            return None;
        }
        let mut due = lock(&self.due);
        self.look_due.store(false, Relaxed);
        let look = std::mem::take(&mut due.look);
        if std::mem::take(&mut due.reopen) {
            return Some(Look::Reopen);
        }
        look.then_some(Look::IfMoved)
    }

    /// Whether a look is due that nobody has done yet.
    pub(super) fn look_is_due(&self) -> bool {
        self.look_due.load(Relaxed)
    }

    /// Asks the watcher to end.
    pub(super) fn ask_stop(&self) {
        lock(&self.due).stop = true;
        self.changed.notify_all();
    }

    /// Waits until something other than a plain look is due, `timeout` at most.
    pub(super) fn wait(&self, timeout: Duration) -> Wake {
        let due = lock(&self.due);
        let (mut due, _) = self
            .changed
            .wait_timeout_while(due, timeout, |due| !due.stop && !due.prune && !due.hurry)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        due.hurry = false;
        Wake { stop: due.stop, prune: std::mem::take(&mut due.prune) }
    }
}
