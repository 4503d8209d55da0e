//! The program's own messages, one a line. They never carry a body, a token or a key.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::message;
pub use super::message::{Format, Level, Value};

/// Where messages go. Shared by reference; lines of different threads never mix.
pub struct Diagnostics {
    format: Format,
    sink: Mutex<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diagnostics").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Diagnostics {
    /// Messages to a sink, one `write_all` each. The caller waits until the sink has taken it; an
    /// [`Outlet`](super::outlet::Outlet) takes it at once.
    pub fn to_sink(format: Format, sink: Box<dyn Write + Send>) -> Self {
        Self { format, sink: Mutex::new(sink) }
    }

    /// A message that only `-v` shows.
    pub fn debug(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        if self.format == Format::Text {
            self.write(Level::Debug, msg, fields);
        }
    }

    /// A message about normal operation.
    pub fn info(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Info, msg, fields);
    }

    /// Something that an operator should look at, but not at once.
    pub fn warn(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Warn, msg, fields);
    }

    /// Something that an operator should look at now.
    pub fn error(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Error, msg, fields);
    }

    fn write(&self, level: Level, msg: &str, fields: &[(&str, Value<'_>)]) {
        let line = message::line(self.format, level, msg, fields);
        // There is nowhere to report that the sink itself fails. (The outlet never does, and counts what it drops.)
        let _ = self.sink.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

/// Keeps a flood of equal messages down to a few, and counts what it left out.
#[derive(Debug, Default)]
pub struct RateLimit {
    state: Mutex<RateState>,
}

#[derive(Debug, Default)]
struct RateState {
    /// When the present window began, once there is one.
    window: Option<Instant>,
    written: u64,
    left_out: u64,
}

impl RateLimit {
    /// Messages let through in each window.
    const MOST: u64 = 10;
    const WINDOW: Duration = Duration::from_secs(10);

    /// The first window begins with the first message.
    pub fn new() -> Self {
        Self::default()
    }

    /// `None` if a message at `now` is one too many. Otherwise how many were left out since the last one written.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window.is_none_or(|window| now.saturating_duration_since(window) >= Self::WINDOW) {
            (state.window, state.written) = (Some(now), 0);
        }
        if state.written >= Self::MOST {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

/// Remembers which fault was said last, so that a fault is said once however often it is met, and its end once.
#[derive(Debug)]
pub struct Latch<F> {
    /// The fault that was said last; none once its end was noticed.
    said: Option<F>,
}

impl<F> Default for Latch<F> {
    fn default() -> Self {
        Self { said: None }
    }
}

impl<F: PartialEq> Latch<F> {
    /// The fault was met. True if it is to be said: the last thing said was another fault, or none.
    pub fn fault(&mut self, fault: F) -> bool {
        let fresh = self.said.as_ref() != Some(&fault);
        self.said = Some(fault);
        fresh
    }

    /// All is well. True if that is to be said: a fault was said before.
    pub fn well(&mut self) -> bool {
        self.said.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_messages_is_cut_to_a_few_and_the_rest_counted() {
        let (limit, start) = (RateLimit::new(), Instant::now());
        let let_through = (0..100).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(let_through, 10);
        assert_eq!(limit.admit(start + Duration::from_secs(11)), Some(90));
        assert_eq!(limit.admit(start + Duration::from_secs(11)), Some(0));
    }

    #[test]
    fn a_fault_is_said_once_until_it_changes_and_its_end_once() {
        let mut latch = Latch::default();
        assert!(!latch.well());
        assert_eq!([1, 1, 2, 2, 1].map(|fault| latch.fault(fault)), [true, false, true, false, true]);
        assert_eq!([latch.well(), latch.well()], [true, false]);
        assert!(latch.fault(1));
    }
}
