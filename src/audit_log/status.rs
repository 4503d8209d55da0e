//! How the log is doing, for `/readyz` and for messages: the outage, if appends fail, and what else stands in their
//! way.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::error::AppendError;
use super::lock;
use crate::observe::diagnostics::{Diagnostics, RateLimit};
use crate::observe::metrics::Metrics;

/// Shared by the writer and the log's threads.
#[derive(Debug)]
pub(super) struct LogStatus {
    pub(super) metrics: Arc<Metrics>,
    pub(super) diagnostics: Arc<Diagnostics>,
    /// SIGHUP came: whoever has the writer next opens the log anew.
    pub(super) reopen: AtomicBool,
    /// The log is being dropped, and its threads are to end.
    pub(super) stop: AtomicBool,
    /// The thread that deletes rolled files, to be woken by a rotation.
    pub(super) pruner: OnceLock<Thread>,
    outage: Mutex<Option<Outage>>,
    /// Limits the messages about outages: on a full disk small lines may still fit where large ones do not, and one
    /// outage follows the other.
    outage_messages: RateLimit,
    /// What stands in the way of appends without an append having failed.
    obstacle: Mutex<Option<String>>,
    /// When the write to a stream began that is under way.
    waiting_since: Mutex<Option<Instant>>,
}

/// From the first append that failed to the first that works again.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    since: Instant,
    /// Whether its beginning was said; then its end is said as well.
    said: bool,
    /// Of the last append that failed.
    pub(super) error: AppendError,
    /// Writes that failed. A probe compares it to see whether one more failed meanwhile.
    pub(super) failures: u64,
    /// Bytes that the last of them was to write.
    pub(super) bytes: usize,
}

impl LogStatus {
    pub(super) fn new(metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Self {
        Self {
            metrics,
            diagnostics,
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            pruner: OnceLock::new(),
            outage: Mutex::default(),
            outage_messages: RateLimit::new(),
            obstacle: Mutex::default(),
            waiting_since: Mutex::default(),
        }
    }

    /// An append of `bytes` (a group of them) has failed, or a FIFO could not be opened for the first one. Said once for
    /// each outage.
    pub(super) fn failed(&self, error: &AppendError, bytes: usize) {
        let mut outage = lock(&self.outage);
        if let Some(outage) = &mut *outage {
            outage.failures += 1;
            outage.bytes = bytes;
            outage.error = error.clone();
            return;
        }
        let now = Instant::now();
        let left_out = self.outage_messages.admit(now);
        *outage = Some(Outage { since: now, said: left_out.is_some(), error: error.clone(), failures: 1, bytes });
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

    /// Ends the outage, if there is one. With `failures`, only if it has had exactly so many: a probe that succeeds says
    /// nothing if a write has failed since it began.
    pub(super) fn end_outage(&self, msg: &str, failures: Option<u64>) {
        let mut slot = lock(&self.outage);
        let Some(outage) = &*slot else { return };
        if failures.is_some_and(|failures| failures != outage.failures) {
            return;
        }
        if outage.said {
            self.diagnostics.info(
                msg,
                &[("failed_writes", outage.failures.into()), ("seconds", outage.since.elapsed().as_secs().into())],
            );
        }
        *slot = None;
    }

    /// The outage as it is now, if there is one.
    pub(super) fn outage(&self) -> Option<Outage> {
        lock(&self.outage).clone()
    }

    /// Sets what stands in the way of appends, or that nothing does. Said when it comes, and when it is gone.
    pub(super) fn set_obstacle(&self, obstacle: Option<String>) {
        let mut slot = lock(&self.obstacle);
        match (&*slot, &obstacle) {
            (None, Some(what)) => self.diagnostics.error("the audit log cannot be written", &[("error", what.into())]),
            (Some(what), None) => {
                self.diagnostics.info("the audit log can be written again", &[("after", what.into())]);
            }
            _ => {}
        }
        *slot = obstacle;
    }

    /// Why appends fail, or would.
    pub(super) fn failing(&self) -> Option<String> {
        self.outage().map(|outage| outage.error.to_string()).or_else(|| lock(&self.obstacle).clone())
    }

    /// A write to a stream begins, and may wait for the reader.
    pub(super) fn stream_waits(&self) {
        *lock(&self.waiting_since) = Some(Instant::now());
    }

    /// The write has returned.
    pub(super) fn stream_goes_on(&self) {
        *lock(&self.waiting_since) = None;
    }

    /// How long the write to a stream that is under way has been waiting.
    pub(super) fn stream_waited(&self) -> Option<Duration> {
        lock(&self.waiting_since).map(|since| since.elapsed())
    }

    /// Wakes the thread that deletes rolled files.
    pub(super) fn ask_prune(&self) {
        if let Some(thread) = self.pruner.get() {
            thread.unpark();
        }
    }

    /// A warning about the log at `path`.
    pub(super) fn warn(&self, msg: &str, path: &str, error: &str) {
        self.diagnostics.warn(msg, &[("path", path.into()), ("error", error.into())]);
    }

    /// The log at `path` was opened anew.
    pub(super) fn opened_anew(&self, path: &str) {
        self.metrics.log_reopens.increment();
        self.diagnostics.info("audit log opened anew", &[("path", path.into())]);
    }
}
