//! The chain's newest line, for those who put it where nobody can rewrite it: replies to the API server, which keeps them
//! in its own audit log, and the program's own messages.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::lock;
use super::format::{Origin, Point, head_text};
use crate::files::chain_key::ChainKeyFile;
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

/// Between two heads in replies.
const REPLY_EVERY: Duration = Duration::from_secs(1);

/// Between two messages while lines are written and the log is not rolled.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The newest head, shared by the writer and whoever hands it out.
#[derive(Debug)]
pub(in super::super) struct Heads {
    key: Option<Arc<ChainKeyFile>>,
    metrics: Arc<Metrics>,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    /// The last line of the last append that succeeded.
    point: Option<Point>,
    /// When a reply took one.
    replied: Option<Instant>,
    /// What was said last, when, and after how many rotations.
    said: Option<Point>,
    said_at: Option<Instant>,
    rotations: u64,
}

impl Heads {
    pub(in super::super) fn new(key: Option<Arc<ChainKeyFile>>, metrics: Arc<Metrics>) -> Self {
        Self { key, metrics, latest: Mutex::default() }
    }

    pub(super) fn publish(&self, point: Point) {
        lock(&self.latest).point = Some(point);
        self.metrics.chain_sequence.set(point.sequence);
    }

    /// The newest head, if the last one was taken by a reply a second ago or longer and this one `takes` it.
    pub(in super::super) fn due(&self, now: Instant, takes: impl FnOnce() -> bool) -> Option<String> {
        let is_due = |latest: &Latest| {
            latest.replied.is_none_or(|replied| now.saturating_duration_since(replied) >= REPLY_EVERY)
        };
        // The writer needs the lock, so nobody is asked while it is held.
        if !is_due(&lock(&self.latest)) || !takes() {
            return None;
        }
        let mut latest = lock(&self.latest);
        if !is_due(&latest) {
            return None;
        }
        let point = latest.point?;
        latest.replied = Some(now);
        drop(latest);
        Some(self.text(&point))
    }

    fn text(&self, point: &Point) -> String {
        let signature = self.key.as_ref().map(|key| key.current().sign(&point.signed_bytes()));
        head_text(point, signature.as_ref())
    }

    /// The chain begins.
    pub(in super::super) fn say_begin(&self, origin: &Origin, diagnostics: &Diagnostics) {
        let follows = match origin {
            Origin::Nothing => "none".to_owned(),
            Origin::After(point) => self.text(point),
        };
        lock(&self.latest).said_at = Some(Instant::now());
        diagnostics.info("chain begun", &[("log-head", (&follows).into())]);
    }

    /// Says the head if it is time to: the log was rolled, or a minute has passed, and lines were written since.
    pub(in super::super) fn say_if_due(&self, diagnostics: &Diagnostics) {
        let rotations = self.metrics.log_rotations.value();
        let rolled = std::mem::replace(&mut lock(&self.latest).rotations, rotations) != rotations;
        let waited = lock(&self.latest).said_at.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if rolled || waited {
            self.say(diagnostics);
        }
    }

    /// Says the head if lines were written since it was said last.
    pub(in super::super) fn say(&self, diagnostics: &Diagnostics) {
        let mut latest = lock(&self.latest);
        let Some(point) = latest.point.filter(|point| latest.said != Some(*point)) else {
            return;
        };
        (latest.said, latest.said_at) = (Some(point), Some(Instant::now()));
        drop(latest);
        diagnostics.info("chain head", &[("log-head", (&self.text(&point)).into())]);
    }
}
