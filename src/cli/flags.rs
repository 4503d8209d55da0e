//! The table of flags: for each its name, its help, how its value is read and how it is shown.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Config;

/// One flag: all that is known about it stands in its row of [`GROUPS`].
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// What its value is called in the usage text; empty for a switch.
    pub(super) placeholder: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Config, &OsStr) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

impl Flag {
    pub(super) fn spelling(&self) -> String {
        match (self.name, self.placeholder) {
            ("verbosity", _) => "-v, --verbosity".to_owned(),
            (name, "") => format!("--{name}"),
            (name, placeholder) => format!("--{name}={placeholder}"),
        }
    }
}

pub(super) fn all_flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

pub(super) const GROUPS: &[(&str, &[Flag])] = &[
    (
        "What is written",
        &[
            Flag {
                name: "logger-filename",
                placeholder: "FILE",
                help: "the audit log",
                set: |config, value| put(&mut config.logger_filename, Ok(value.into())),
                show: |config| config.logger_filename.display().to_string(),
            },
            Flag {
                name: "audit-to-std-log",
                placeholder: "",
                help: "audit lines to standard output instead of the file (not recommended: whoever may read pod logs \
                       then reads Secrets)",
                set: |config, value| put(&mut config.audit_to_std_log, switch(value)),
                show: |config| on_or_off(config.audit_to_std_log),
            },
            Flag {
                name: "logger-max-size",
                placeholder: "MB",
                help: "rotate before the file would grow past this; 0 never rotates",
                set: |config, value| put(&mut config.logger_max_size, megabytes(value, 0)),
                show: |config| (config.logger_max_size / MEGABYTE).to_string(),
            },
            Flag {
                name: "logger-max-backups",
                placeholder: "COUNT",
                help: "rolled files kept; 0 keeps all",
                set: |config, value| {
                    let count = whole(value, 0..=1_000_000, "a number of files");
                    put(&mut config.logger_max_backups, count.map(to_usize))
                },
                show: |config| config.logger_max_backups.to_string(),
            },
            Flag {
                name: "logger-max-age",
                placeholder: "DAYS",
                help: "days after which a rolled file is deleted; 0 never",
                set: |config, value| {
                    let days = whole(value, 0..=36_500, "a number of days");
                    let age = days.map(|days| Duration::from_secs(days * DAY));
                    put(&mut config.logger_max_age, age)
                },
                show: |config| (config.logger_max_age.as_secs() / DAY).to_string(),
            },
            Flag {
                name: "logger-sync",
                placeholder: "WHEN",
                help: "always: reply only once the line is on the disk (fdatasync, shared by the requests that \
                       wait); never: once the kernel has it",
                set: |config, value| put(&mut config.logger_sync, sync(value)),
                show: |config| if config.logger_sync { "always" } else { "never" }.to_owned(),
            },
            Flag {
                name: "logger-file-mode",
                placeholder: "OCTAL",
                help: "permissions of new files",
                set: |config, value| put(&mut config.logger_file_mode, file_mode(value)),
                show: |config| format!("{:04o}", config.logger_file_mode),
            },
        ],
    ),
    (
        "TLS, and who may write",
        &[
            Flag {
                name: "cert-filename",
                placeholder: "FILE",
                help: "certificate chain, PEM; read again when it changes",
                set: |config, value| put(&mut config.cert_filename, Ok(value.into())),
                show: |config| config.cert_filename.display().to_string(),
            },
            Flag {
                name: "cert-key-filename",
                placeholder: "FILE",
                help: "its private key, PEM (PKCS#8, PKCS#1 or SEC1); read again when it changes",
                set: |config, value| put(&mut config.cert_key_filename, Ok(value.into())),
                show: |config| config.cert_key_filename.display().to_string(),
            },
            Flag {
                name: "client-ca-filename",
                placeholder: "FILE",
                help: "ask for a client certificate that one of these CAs has signed, PEM; read again when it changes",
                set: |config, value| put(&mut config.client_ca_filename, Ok(Some(value.into()))),
                show: |config| path_or_none(config.client_ca_filename.as_ref()),
            },
            Flag {
                name: "sources-filename",
                placeholder: "FILE",
                help: "who may write: lines of NAME TOKEN, # for comments; the token is a path segment after \
                       /log-request or /audit-events (an audit webhook may send it as Bearer), the name goes into \
                       each line; read again when it changes",
                set: |config, value| put(&mut config.sources_filename, Ok(Some(value.into()))),
                show: |config| path_or_none(config.sources_filename.as_ref()),
            },
            Flag {
                name: "policy-filename",
                placeholder: "FILE",
                help: "what is recorded, and how much of it: an audit Policy (audit.k8s.io/v1), YAML or JSON, as \
                       kube-apiserver takes it; read again when it changes",
                set: |config, value| put(&mut config.policy_filename, Ok(Some(value.into()))),
                show: |config| path_or_none(config.policy_filename.as_ref()),
            },
        ],
    ),
    (
        "Listening (port 0 picks a free one; the start message names it)",
        &[
            Flag {
                name: "server-address",
                placeholder: "IP",
                help: "address of the HTTPS and HTTP ports; all is IPv6 and IPv4",
                set: |config, value| put(&mut config.server_address, address(value).map(Some)),
                show: |config| address_or_all(config.server_address),
            },
            Flag {
                name: "server-port",
                placeholder: "PORT",
                help: "HTTPS",
                set: |config, value| put(&mut config.server_port, port(value)),
                show: |config| config.server_port.to_string(),
            },
            Flag {
                name: "http-port",
                placeholder: "PORT",
                help: "plain HTTP for audit webhooks that speak no TLS",
                set: |config, value| put(&mut config.http_port, port(value).map(Some)),
                show: |config| config.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string()),
            },
            Flag {
                name: "metrics-address",
                placeholder: "IP",
                help: "address of the metrics port; all is IPv6 and IPv4",
                set: |config, value| put(&mut config.metrics_address, address(value).map(Some)),
                show: |config| address_or_all(config.metrics_address),
            },
            Flag {
                name: "metrics-port",
                placeholder: "PORT",
                help: "plain HTTP for metrics and health",
                set: |config, value| put(&mut config.metrics_port, port(value)),
                show: |config| config.metrics_port.to_string(),
            },
        ],
    ),
    (
        "Limits",
        &[
            Flag {
                name: "max-request-size",
                placeholder: "MB",
                help: "largest body",
                set: |config, value| put(&mut config.max_request_size, megabytes(value, 1).map(to_usize)),
                show: |config| (config.max_request_size as u64 / MEGABYTE).to_string(),
            },
            Flag {
                name: "max-inflight-size",
                placeholder: "MB",
                help: "all bodies over 64 KiB in memory together; one that does not fit waits its turn",
                set: |config, value| put(&mut config.max_inflight_size, megabytes(value, 1).map(to_usize)),
                show: |config| (config.max_inflight_size as u64 / MEGABYTE).to_string(),
            },
            Flag {
                name: "max-connections",
                placeholder: "COUNT",
                help: "connections served at once; when all are taken, the one longest idle makes room",
                set: |config, value| {
                    let count = whole(value, 1..=100_000, "a number of connections");
                    put(&mut config.max_connections, count.map(to_usize))
                },
                show: |config| config.max_connections.to_string(),
            },
        ],
    ),
    (
        "Operation",
        &[
            Flag {
                name: "shutdown-delay",
                placeholder: "SECONDS",
                help: "after SIGTERM, go on serving (but not ready) this long before the ports close",
                set: |config, value| {
                    let seconds = whole(value, 0..=DAY, "a number of seconds");
                    put(&mut config.shutdown_delay, seconds.map(Duration::from_secs))
                },
                show: |config| config.shutdown_delay.as_secs().to_string(),
            },
            Flag {
                name: "verbosity",
                placeholder: "",
                help: "debug messages too, all of them as readable text; never a request's body",
                set: |config, value| put(&mut config.verbosity, switch(value)),
                show: |config| on_or_off(config.verbosity),
            },
        ],
    ),
];

pub(super) const MEGABYTE: u64 = 1024 * 1024;
/// In seconds.
const DAY: u64 = 24 * 60 * 60;
/// A terabyte; times [`MEGABYTE`] it is far from overflow.
const MOST_MEGABYTES: u64 = 1024 * 1024;

fn put<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

fn switch(value: &OsStr) -> Result<bool, String> {
    match value.to_str() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(format!("{} is neither true nor false", printable(value))),
    }
}

fn sync(value: &OsStr) -> Result<bool, String> {
    match value.to_str() {
        Some("always") => Ok(true),
        Some("never") => Ok(false),
        _ => Err(format!("{} is neither always nor never", printable(value))),
    }
}

fn port(value: &OsStr) -> Result<u16, String> {
    let port = whole(value, 0..=u64::from(u16::MAX), "a port")?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

fn address(value: &OsStr) -> Result<IpAddr, String> {
    value
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{} is not an IP address", printable(value)))
}

/// Megabytes as bytes.
fn megabytes(value: &OsStr, least: u64) -> Result<u64, String> {
    let megabytes = whole(value, least..=MOST_MEGABYTES, "a size in megabytes")?;
    Ok(megabytes.saturating_mul(MEGABYTE))
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
fn whole(value: &OsStr, range: RangeInclusive<u64>, what: &str) -> Result<u64, String> {
    value
        .to_str()
        .filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let value = printable(value);
            format!("{value} is not {what} ({} to {})", range.start(), range.end())
        })
}

/// Where an address space is smaller than the number, all of it is meant.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn on_or_off(switch: bool) -> String {
    if switch { "on" } else { "off" }.to_owned()
}

fn path_or_none(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
}

fn address_or_all(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "all".to_owned(), |address| address.to_string())
}

/// On one line whatever it holds.
pub(super) fn printable(text: &OsStr) -> String {
    text.to_string_lossy().escape_debug().to_string()
}
