//! Every flag, said once: its field with type, default and unit, its name, its kind of value and its help.
//!
//! A new flag is one row of the table; parsing, the usage text and the start message follow from it.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{self, MEGABYTE};

/// A flag as the command line and the usage text need it.
pub(super) struct Flag {
    /// The heading under which the usage text shows it.
    pub(super) group: &'static str,
    /// Without its dashes.
    pub(super) name: &'static str,
    /// What its value is called in the usage text; empty for a switch.
    pub(super) placeholder: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Config, &OsStr) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

macro_rules! config {
    ($($group:literal {$(
        $(#[$unit:meta])*
        $field:ident: $type:ty = $default:expr, $name:literal, $kind:expr, $help:expr;
    )+})+) => {
        /// Every setting of the program.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = concat!("`--", $name, "`: ", $help)] $(#[$unit])* pub $field: $type,)+)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($($field: $default,)+)+ }
            }
        }

        pub(super) const FLAGS: &[Flag] = &[$($(Flag {
            group: $group,
            name: $name,
            placeholder: $kind.placeholder,
            help: $help,
            set: |config, value| {
                config.$field = ($kind.parse)(value)?;
                Ok(())
            },
            show: |config| ($kind.show)(&config.$field),
        },)+)+];
    };
}

config! {
    "What is written" {
        logger_filename: PathBuf = "/tmp/kube-audit-rest.log".into(), "logger-filename", kinds::FILE,
            "the audit log";
        audit_to_std_log: bool = false, "audit-to-std-log", kinds::SWITCH,
            "audit lines to standard output instead of the file (not recommended: whoever may read pod logs then \
             reads Secrets)";
        /// In bytes.
        logger_max_size: u64 = 500 * MEGABYTE, "logger-max-size", kinds::MEGABYTES,
            "rotate before the file would grow past this; 0 never rotates";
        /// -1 keeps all as well.
        logger_max_backups: i32 = 1, "logger-max-backups", kinds::FILE_COUNT,
            "rolled files kept; 0 keeps all";
        logger_max_age: Duration = Duration::ZERO, "logger-max-age", kinds::DAYS,
            "days after which a rolled file is deleted; 0 never";
        /// In bytes.
        logger_max_total_size: u64 = 0, "logger-max-total-size", kinds::MEGABYTES,
            "all rolled files together; the oldest are deleted first; 0 for no limit";
        /// True for `always`.
        logger_sync: bool = false, "logger-sync", kinds::ALWAYS_OR_NEVER,
            "always: reply only once the line is on the disk (fdatasync, shared by the requests that wait); never: \
             once the kernel has it";
        logger_file_mode: u32 = 0o600, "logger-file-mode", kinds::FILE_MODE,
            "permissions of new files";
    }
    "Evidence" {
        chain: bool = false, "chain", kinds::SWITCH,
            "each line says its number and a hash that covers it and all before it, for kube-audit-rest verify";
        chain_key_filename: Option<PathBuf> = None, "chain-key-filename", kinds::OPTIONAL_FILE,
            "sign the chain with this Ed25519 key, PEM (PKCS#8); read again when it changes";
    }
    "TLS, and who may write" {
        cert_filename: PathBuf = "/etc/tls/tls.crt".into(), "cert-filename", kinds::FILE,
            "certificate chain, PEM; read again when it changes";
        cert_key_filename: PathBuf = "/etc/tls/tls.key".into(), "cert-key-filename", kinds::FILE,
            "its private key, PEM (PKCS#8, PKCS#1 or SEC1); read again when it changes";
        client_ca_filename: Option<PathBuf> = None, "client-ca-filename", kinds::OPTIONAL_FILE,
            "demand a client certificate that one of these CAs has signed, PEM; read again when it changes";
        sources_filename: Option<PathBuf> = None, "sources-filename", kinds::OPTIONAL_FILE,
            "who may write: lines of NAME TOKEN, # for comments; the token is a path segment after /log-request or \
             /audit-events (an audit webhook may send it as Bearer), the name goes into each line; read again when \
             it changes";
        policy_filename: Option<PathBuf> = None, "policy-filename", kinds::OPTIONAL_FILE,
            "what is recorded, and how much of it: an audit Policy (audit.k8s.io/v1), YAML or JSON, as kube-apiserver \
             takes it; read again when it changes";
    }
    "Listening (port 0 picks a free one; the start message names it)" {
        server_address: Option<IpAddr> = None, "server-address", kinds::ADDRESS,
            "address of the HTTPS and HTTP ports; all is IPv6 and IPv4";
        server_port: u16 = 9090, "server-port", kinds::PORT,
            "HTTPS";
        http_port: Option<u16> = None, "http-port", kinds::OPTIONAL_PORT,
            "plain HTTP for audit webhooks that speak no TLS";
        metrics_address: Option<IpAddr> = None, "metrics-address", kinds::ADDRESS,
            "address of the metrics port; all is IPv6 and IPv4";
        metrics_port: u16 = 55555, "metrics-port", kinds::PORT,
            "plain HTTP for metrics and health";
    }
    "Limits" {
        /// In bytes, at least 1 MiB.
        max_request_size: usize = 32 * MEGABYTE as usize, "max-request-size", kinds::SOME_MEGABYTES,
            "largest body";
        /// In bytes, at least 1 MiB. It may be less than `max_request_size`: a body larger than this takes all of it,
        /// alone, so the bound is the larger of the two.
        max_inflight_size: usize = 64 * MEGABYTE as usize, "max-inflight-size", kinds::SOME_MEGABYTES,
            "all bodies over 64 KiB in memory together; one that does not fit waits its turn";
        max_connections: usize = 256, "max-connections", kinds::CONNECTION_COUNT,
            "connections served at once; when all are taken, another one is closed to make room";
    }
    "Operation" {
        shutdown_delay: Duration = Duration::ZERO, "shutdown-delay", kinds::SECONDS,
            "after SIGTERM, go on serving (but not ready) this long before the ports close";
        verbosity: bool = false, "verbosity", kinds::SWITCH,
            "debug messages too, all of them as readable text; never a request's body";
    }
}

impl Config {
    /// Every setting as (flag name without its dashes, value as the flag takes it), in the order of the usage text, for
    /// the start message. What is not set reads `none`, `off` or `all`. Nothing in it is secret: paths are named, what
    /// stands in the files is not known here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        FLAGS.iter().map(|flag| (flag.name, (flag.show)(self))).collect()
    }

    /// What an operator should know about these flags, one sentence each, for warnings at the start.
    pub fn warnings(&self) -> Vec<&'static str> {
        let bare_http = self.http_port.is_some();
        let checks = [
            (
                self.audit_to_std_log,
                "--audit-to-std-log: whoever may read this pod's log may read what is audited, Secrets included",
            ),
            (
                self.audit_to_std_log && self.logger_filename != Self::default().logger_filename,
                "--logger-filename has no effect beside --audit-to-std-log",
            ),
            (self.audit_to_std_log && self.logger_sync, "--logger-sync has no effect beside --audit-to-std-log"),
            (self.chain_key_filename.is_some() && !self.chain, "--chain-key-filename has no effect without --chain"),
            (bare_http, "--http-port: no TLS, whoever is on the way can read and change what is sent there"),
            (
                bare_http && self.sources_filename.is_none(),
                "--http-port without --sources-filename: whoever reaches the port can write to the audit log",
            ),
            (self.logger_max_backups < 0, "--logger-max-backups=-1 is taken as 0, as the original does: all are kept"),
            (
                (1..self.logger_max_size).contains(&self.logger_max_total_size),
                "--logger-max-total-size is less than --logger-max-size: a full log is deleted as soon as it is rolled",
            ),
            (
                self.max_inflight_size < self.max_request_size,
                "--max-inflight-size is less than --max-request-size: a body larger than it is read alone, and memory \
                 is bounded by --max-request-size",
            ),
        ];
        checks.into_iter().filter_map(|(applies, warning)| applies.then_some(warning)).collect()
    }

    /// The values in which Kubernetes left a reference to an environment variable as it stood, one sentence each, for
    /// warnings at the start.
    pub fn unexpanded(&self) -> Vec<String> {
        let settings = self.settings();
        let sentences = settings.iter().filter_map(|(name, value)| {
            let variable = reference(value)?;
            Some(format!(
                "--{name} holds {variable} as it stands: Kubernetes replaces it only where the container has an \
                 environment variable of that name, defined before it is used"
            ))
        });
        sentences.collect()
    }
}

/// The first `$(NAME)` in a value: a reference to an environment variable that was not replaced.
fn reference(value: &str) -> Option<&str> {
    let from = value.get(value.find("$(")?..)?;
    from.get(..=from.find(')')?)
}
