//! How fast a body arrives.

use std::time::{Duration, Instant};

/// Bytes received are counted over windows of this length.
const WINDOW: Duration = Duration::from_millis(250);

/// A body of which fewer bytes than this came lately is slow. At 64 KiB a second a large body could not end in time.
pub(super) const SLOW: u64 = 16 * 1024;

/// Counts the bytes that come, window by window.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the window that is being counted began.
    began: Instant,
    bytes: u64,
    /// Bytes of the window before; `None` in the first.
    before: Option<u64>,
    /// What [`Pace::recent`] was when we stopped reading for want of memory. It holds until we read on.
    paused: Option<u64>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0, before: None, paused: None }
    }

    /// The body is not read for a while, which is not its sender's doing.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused = Some(self.recent(now));
    }

    pub(super) fn add(&mut self, count: u64, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Self { before: Some(self.recent(now)), ..Self::new(now) };
        }
        self.bytes = self.bytes.saturating_add(count);
    }

    /// Bytes that came in the last full window and since; [`u64::MAX`] before the first window is over, when nothing can
    /// be said yet.
    pub(super) fn recent(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began);
        if let Some(paused) = self.paused {
            paused
        } else if elapsed >= 2 * WINDOW {
            // What was counted came in the window that began at `began`; nothing has come in the window after it.
            0
        } else if elapsed >= WINDOW {
            self.bytes
        } else {
            self.before.map_or(u64::MAX, |before| before.saturating_add(self.bytes))
        }
    }
}
