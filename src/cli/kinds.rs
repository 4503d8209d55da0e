//! How values are written on the command line: what the usage text calls them, how they are read and how they are
//! shown.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::observe::visible::printable;

/// The way of writing a value of type `T`.
pub(super) struct Kind<T> {
    /// What the usage text calls the value; empty for a switch.
    pub(super) placeholder: &'static str,
    /// The error says what the value is not, and follows `--flag: `.
    pub(super) parse: fn(&OsStr) -> Result<T, String>,
    /// As the flag takes it. What is not set reads `none`, `off` or `all`.
    pub(super) show: fn(&T) -> String,
}

pub(super) const MEGABYTE: u64 = 1024 * 1024;
/// In seconds.
const DAY: u64 = 24 * 60 * 60;
/// A terabyte; times [`MEGABYTE`] it is far from overflow.
const MOST_MEGABYTES: u64 = 1024 * 1024;

pub(super) const SWITCH: Kind<bool> = Kind {
    placeholder: "",
    parse: |value| choice(value, ["true", "false"]),
    show: |on| if *on { "on" } else { "off" }.to_owned(),
};

pub(super) const ALWAYS_OR_NEVER: Kind<bool> = Kind {
    placeholder: "WHEN",
    parse: |value| choice(value, ["always", "never"]),
    show: |always| if *always { "always" } else { "never" }.to_owned(),
};

pub(super) const FILE: Kind<PathBuf> =
    Kind { placeholder: "FILE", parse: |value| Ok(value.into()), show: |path| path.display().to_string() };

pub(super) const OPTIONAL_FILE: Kind<Option<PathBuf>> = Kind {
    placeholder: "FILE",
    parse: |value| Ok(Some(value.into())),
    show: |path| path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
};

/// In bytes.
pub(super) const MEGABYTES: Kind<u64> =
    Kind { placeholder: "MB", parse: |value| megabytes(value, 0), show: |bytes| (bytes / MEGABYTE).to_string() };

/// In bytes, and not 0. What the address space cannot hold is all of it.
pub(super) const SOME_MEGABYTES: Kind<usize> = Kind {
    placeholder: "MB",
    parse: |value| megabytes(value, 1).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
    show: |bytes| (*bytes as u64 / MEGABYTE).to_string(),
};

/// Users of the original write -1 for all.
pub(super) const FILE_COUNT: Kind<i32> = Kind {
    placeholder: "COUNT",
    parse: |value| match value.to_str() {
        Some("-1") => Ok(-1),
        _ => whole(value, 0..=1_000_000, "a number of files"),
    },
    show: i32::to_string,
};

pub(super) const CONNECTION_COUNT: Kind<usize> = Kind {
    placeholder: "COUNT",
    parse: |value| whole(value, 1..=100_000, "a number of connections"),
    show: usize::to_string,
};

pub(super) const DAYS: Kind<Duration> = Kind {
    placeholder: "DAYS",
    parse: |value| whole(value, 0..=36_500, "a number of days").map(|days: u64| Duration::from_secs(days * DAY)),
    show: |time| (time.as_secs() / DAY).to_string(),
};

pub(super) const SECONDS: Kind<Duration> = Kind {
    placeholder: "SECONDS",
    parse: |value| whole(value, 0..=DAY, "a number of seconds").map(Duration::from_secs),
    show: |time| time.as_secs().to_string(),
};

pub(super) const FILE_MODE: Kind<u32> =
    Kind { placeholder: "OCTAL", parse: file_mode, show: |mode| format!("{mode:04o}") };

pub(super) const PORT: Kind<u16> = Kind { placeholder: "PORT", parse: port, show: u16::to_string };

pub(super) const OPTIONAL_PORT: Kind<Option<u16>> = Kind {
    placeholder: "PORT",
    parse: |value| port(value).map(Some),
    show: |port| port.map_or_else(|| "off".to_owned(), |port| port.to_string()),
};

pub(super) const ADDRESS: Kind<Option<IpAddr>> = Kind {
    placeholder: "IP",
    parse: |value| match value.to_str().and_then(|text| text.parse().ok()) {
        Some(address) => Ok(Some(address)),
        None => Err(format!("{} is not an IP address", printable(value))),
    },
    show: |address| address.map_or_else(|| "all".to_owned(), |address| address.to_string()),
};

fn choice(value: &OsStr, [yes, no]: [&str; 2]) -> Result<bool, String> {
    match value.to_str() {
        Some(text) if text == yes => Ok(true),
        Some(text) if text == no => Ok(false),
        _ => Err(format!("{} is neither {yes} nor {no}", printable(value))),
    }
}

fn port(value: &OsStr) -> Result<u16, String> {
    whole(value, 0..=u64::from(u16::MAX), "a port")
}

/// Megabytes as bytes.
fn megabytes(value: &OsStr, least: u64) -> Result<u64, String> {
    whole(value, least..=MOST_MEGABYTES, "a size in megabytes").map(|megabytes: u64| megabytes * MEGABYTE)
}

/// Octal digits, with `0o` or `0` before them or not.
fn file_mode(value: &OsStr) -> Result<u32, String> {
    let digits = value
        .to_str()
        .map(|text| text.strip_prefix("0o").unwrap_or(text))
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{} is not an octal mode (0 to 0777)", printable(value)))
}

/// A decimal number without sign in `range`.
fn whole<T: TryFrom<u64>>(value: &OsStr, range: RangeInclusive<u64>, what: &str) -> Result<T, String> {
    value
        .to_str()
        .filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{} is not {what} ({} to {})", printable(value), range.start(), range.end()))
}
