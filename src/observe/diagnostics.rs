//! The program's own messages, one a line on standard error. They never carry a body, a token or a key.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::record::timestamp;

/// How messages look, and which are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `level`, `time`, `msg`, then the message's fields. No debug messages.
    Json,
    /// `time LEVEL msg field=value ...` for a person to read, debug messages included (`-v`).
    Text,
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only with `-v`.
    Debug,
    /// Something happened that belongs to normal life.
    Info,
    /// Something an operator should look at in daylight.
    Warn,
    /// Something an operator should look at now.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Written as a JSON string.
    Text(&'a str),
    /// Written as a JSON number.
    Number(i64),
    /// Written as `true` or `false`.
    Flag(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

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
    /// Messages to standard error.
    pub fn to_stderr(format: Format) -> Self {
        Self::to_sink(format, Box::new(std::io::stderr()))
    }

    /// Messages to any sink.
    pub fn to_sink(format: Format, sink: Box<dyn Write + Send>) -> Self {
        Self { format, sink: Mutex::new(sink) }
    }

    /// A message that only `-v` shows.
    pub fn debug(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        if self.format == Format::Text {
            self.write(Level::Debug, msg, fields);
        }
    }

    /// A message of normal life.
    pub fn info(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Info, msg, fields);
    }

    /// Something to look at in daylight.
    pub fn warn(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Warn, msg, fields);
    }

    /// Something to look at now.
    pub fn error(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        self.write(Level::Error, msg, fields);
    }

    fn write(&self, level: Level, msg: &str, fields: &[(&str, Value<'_>)]) {
        let time = timestamp::rfc3339(SystemTime::now());
        let time = str::from_utf8(&time).unwrap_or_default();
        let mut line = match self.format {
            Format::Json => json_line(level, time, msg, fields),
            Format::Text => text_line(level, time, msg, fields),
        };
        line.push('\n');
        // Nobody is left to be told when standard error itself fails.
        if let Ok(mut sink) = self.sink.lock() {
            let _ = sink.write_all(line.as_bytes());
        }
    }
}

/// Has a trouble said once, until it is over.
#[derive(Debug, Default)]
pub struct Latch {
    said: bool,
}

impl Latch {
    /// Whether this is the first time since [`Latch::reset`].
    pub fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.said, true)
    }

    /// The trouble is over: the next one is to be said.
    pub fn reset(&mut self) {
        self.said = false;
    }
}

/// Keeps a flood of equal messages down to a few, and counts what it left out.
#[derive(Debug)]
pub struct RateLimit {
    state: Mutex<RateState>,
}

#[derive(Debug)]
struct RateState {
    window: Instant,
    written: u64,
    left_out: u64,
}

impl RateLimit {
    /// Messages let through in each window.
    const MOST: u64 = 10;
    const WINDOW: Duration = Duration::from_secs(10);

    /// The first window begins now.
    pub fn new() -> Self {
        Self { state: Mutex::new(RateState { window: Instant::now(), written: 0, left_out: 0 }) }
    }

    /// Whether a message may be written at `now`: then how many were left out since the last one that was.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.window) >= Self::WINDOW {
            (state.window, state.written) = (now, 0);
        }
        if state.written >= Self::MOST {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

fn json_line(level: Level, time: &str, msg: &str, fields: &[(&str, Value<'_>)]) -> String {
    let mut line = format!("{{\"level\":\"{}\",\"time\":\"{time}\",\"msg\":{}", level.name(), quoted(msg));
    for (name, value) in fields {
        let _ = write!(line, ",{}:", quoted(name));
        let _ = match value {
            Value::Text(text) => write!(line, "{}", quoted(text)),
            Value::Number(number) => write!(line, "{number}"),
            Value::Flag(flag) => write!(line, "{flag}"),
        };
    }
    line.push('}');
    line
}

fn text_line(level: Level, time: &str, msg: &str, fields: &[(&str, Value<'_>)]) -> String {
    let mut line = format!("{time} {:5} {}", level.name().to_uppercase(), msg.escape_debug());
    for (name, value) in fields {
        let _ = match value {
            Value::Text(text) => write!(line, " {name}={text:?}"),
            Value::Number(number) => write!(line, " {name}={number}"),
            Value::Flag(flag) => write!(line, " {name}={flag}"),
        };
    }
    line
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_message_is_one_valid_line_whatever_its_fields_hold() {
        let line =
            json_line(Level::Warn, "T", "a \"quoted\"\nmsg", &[("path", "x\r\ny\u{1}".into()), ("n", 7u64.into())]);
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["msg"], "a \"quoted\"\nmsg");
        assert_eq!(value["path"], "x\r\ny\u{1}");
        assert_eq!(value["n"], 7);
    }

    #[test]
    fn a_flood_of_messages_is_cut_to_a_few_and_the_rest_counted() {
        let (limit, start) = (RateLimit::new(), Instant::now());
        let let_through = (0..100).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(let_through, 10);
        assert_eq!(limit.admit(start + Duration::from_secs(11)), Some(90));
        assert_eq!(limit.admit(start + Duration::from_secs(11)), Some(0));
    }

    #[test]
    fn a_text_message_stays_on_one_line() {
        let line = text_line(Level::Debug, "T", "two\nlines", &[("f", "a\nb".into()), ("ok", true.into())]);
        assert_eq!(line, "T DEBUG two\\nlines f=\"a\\nb\" ok=true");
    }
}
