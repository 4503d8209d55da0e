//! One message as one line of text.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;

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
    /// Something that happens in normal operation.
    Info,
    /// Something that an operator should look at, but not at once.
    Warn,
    /// Something that an operator should look at now.
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
    Number(u64),
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

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// The message with the present time and its newline, on one line whatever its fields hold.
pub(super) fn line(format: Format, level: Level, msg: &str, fields: &[(&str, Value<'_>)]) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let time = format!("{}.{:09}Z", date_time(seconds), now.subsec_nanos());
    match format {
        Format::Json => json_line(level, &time, msg, fields),
        Format::Text => text_line(level, &time, msg, fields),
    }
}

/// `2027-01-01T00:00:00`, UTC: RFC 3339 without its zone. A time that the calendar of the `time` crate does not hold
/// (before -9999 or after 9999) gives 1970.
pub fn date_time(unix_seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix_seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))
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
    line.push_str("}\n");
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
    line.push('\n');
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
        let fields = [("path", "x\r\ny\u{1}".into()), ("n", 7u64.into())];
        let line = json_line(Level::Warn, "T", "a \"quoted\"\nmsg", &fields);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["msg"], "a \"quoted\"\nmsg");
        assert_eq!(value["path"], "x\r\ny\u{1}");
        assert_eq!(value["n"], 7);
    }

    #[test]
    fn a_text_message_stays_on_one_line() {
        let line = text_line(Level::Debug, "T", "two\nlines", &[("f", "a\nb".into()), ("ok", true.into())]);
        assert_eq!(line, "T DEBUG two\\nlines f=\"a\\nb\" ok=true\n");
    }

    #[test]
    fn the_time_of_a_message_is_rfc_3339_with_nine_digits() {
        let line = line(Format::Text, Level::Info, "msg", &[]);
        let time = line.split(' ').next().unwrap();
        assert_eq!(time.len(), "2026-11-20T21:34:38.123456789Z".len());
        let seconds = time::OffsetDateTime::now_utc().unix_timestamp();
        assert!([date_time(seconds), date_time(seconds - 1)].iter().any(|now| time.starts_with(now)), "{time}");
        assert_eq!(date_time(1_795_210_478), "2026-11-20T21:34:38");
        assert_eq!(date_time(i64::MAX), "1970-01-01T00:00:00");
    }
}
