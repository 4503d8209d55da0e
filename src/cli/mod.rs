//! Flags, their defaults and the usage text: argv becomes a [`Config`]. It knows no files and no sockets; a path is only
//! carried, and whether a port is free is found out by whoever binds it.
//!
//! Flags that the Go original has keep their names, defaults and meaning. As there, a flag given twice has the value of
//! the last one. Unlike there, arguments that are not flags are refused instead of ignored, and a switch may be written
//! `--name=true` or `--name=false`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

mod flags;

use flags::{Flag, GROUPS, MEGABYTE, all_flags, printable};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one, at start")]
pub enum Action {
    /// Run with these settings.
    Run(Config),
    /// `--help`, `-h`: [`usage`] on standard output, exit 0.
    ShowHelp,
    /// `--version`: [`VERSION`] on standard output, exit 0.
    ShowVersion,
}

/// The program's name and version, as `--version` prints them.
pub const VERSION: &str = concat!("kube-audit-rest ", env!("CARGO_PKG_VERSION"));

/// Every setting of the program, in plain units. [`Config::default`] is the one place where defaults stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The audit log. Without effect when `audit_to_std_log` is set.
    pub logger_filename: PathBuf,
    /// Audit lines go to standard output instead of `logger_filename`.
    pub audit_to_std_log: bool,
    /// Bytes past which the file is not to grow; 0 never rotates.
    pub logger_max_size: u64,
    /// Rolled files kept; 0 keeps all.
    pub logger_max_backups: usize,
    /// Age past which a rolled file is deleted; zero never.
    pub logger_max_age: Duration,
    /// Reply only after fdatasync.
    pub logger_sync: bool,
    /// Permissions of new files, 0 to 0o777.
    pub logger_file_mode: u32,
    /// Certificate chain, PEM.
    pub cert_filename: PathBuf,
    /// The certificate's private key, PEM.
    pub cert_key_filename: PathBuf,
    /// CAs of which one must have signed the client's certificate; none asks for no client certificate.
    pub client_ca_filename: Option<PathBuf>,
    /// Who may write; none lets everybody write who reaches the port.
    pub sources_filename: Option<PathBuf>,
    /// What is recorded, and how much of it; none records everything.
    pub policy_filename: Option<PathBuf>,
    /// Where the HTTPS and the plain HTTP port listen; none is all addresses, IPv6 and IPv4.
    pub server_address: Option<IpAddr>,
    /// Where the metrics port listens; none is all addresses, IPv6 and IPv4.
    pub metrics_address: Option<IpAddr>,
    /// The HTTPS port; 0 is any free one.
    pub server_port: u16,
    /// The plain HTTP port for metrics and health; 0 is any free one.
    pub metrics_port: u16,
    /// The plain HTTP port for audit webhooks; 0 is any free one, none is no such port.
    pub http_port: Option<u16>,
    /// Largest request body in bytes, at least 1 MiB.
    pub max_request_size: usize,
    /// Bytes that all large bodies may take up together, at least 1 MiB. It may be less than `max_request_size`: a
    /// body larger than this takes all of it, alone, so the bound is the larger of the two.
    pub max_inflight_size: usize,
    /// Connections served at once, at least 1.
    pub max_connections: usize,
    /// How long to go on serving after SIGTERM before the port closes.
    pub shutdown_delay: Duration,
    /// Debug messages, and all messages as readable text.
    pub verbosity: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            logger_filename: "/tmp/kube-audit-rest.log".into(),
            audit_to_std_log: false,
            logger_max_size: 500 * MEGABYTE,
            logger_max_backups: 1,
            logger_max_age: Duration::ZERO,
            logger_sync: false,
            logger_file_mode: 0o600,
            cert_filename: "/etc/tls/tls.crt".into(),
            cert_key_filename: "/etc/tls/tls.key".into(),
            client_ca_filename: None,
            sources_filename: None,
            policy_filename: None,
            server_address: None,
            metrics_address: None,
            server_port: 9090,
            metrics_port: 55555,
            http_port: None,
            max_request_size: 32 * MEGABYTE as usize,
            max_inflight_size: 64 * MEGABYTE as usize,
            max_connections: 256,
            shutdown_delay: Duration::ZERO,
            verbosity: false,
        }
    }
}

impl Config {
    /// Every setting as (flag name without its dashes, value as the flag takes it), in the order of the usage text, for
    /// the start message. What is not set reads `none`, `off` or `all`. Nothing in it is secret: paths are named, what
    /// stands in the files is not known here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        all_flags().map(|flag| (flag.name, (flag.show)(self))).collect()
    }

    /// What an operator should know about this combination of flags, one sentence each, for warnings at the start.
    pub fn warnings(&self) -> Vec<&'static str> {
        let defaults = Self::default();
        let mut warnings = Vec::new();
        if self.audit_to_std_log {
            warnings
                .push("--audit-to-std-log: whoever may read this pod's log may read what is audited, Secrets included");
            if self.logger_filename != defaults.logger_filename {
                warnings.push("--logger-filename has no effect beside --audit-to-std-log");
            }
            if self.logger_sync {
                warnings.push("--logger-sync has no effect beside --audit-to-std-log");
            }
        }
        if self.http_port.is_some() {
            warnings.push("--http-port: no TLS, whoever is on the way can read and change what is sent there");
            if self.sources_filename.is_none() {
                warnings.push(
                    "--http-port without --sources-filename: whoever reaches the port can write to the audit log",
                );
            }
        }
        if self.max_inflight_size < self.max_request_size {
            warnings.push(
                "--max-inflight-size is less than --max-request-size: a body larger than it is read alone, and memory \
                 is bounded by --max-request-size",
            );
        }
        warnings
    }
}

/// The command line cannot be run: one line that names the argument and what is wrong with it. Exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    argument: String,
    problem: String,
}

impl UsageError {
    fn new(argument: impl AsRef<OsStr>, problem: impl Into<String>) -> Self {
        Self { argument: printable(argument.as_ref()), problem: problem.into() }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.argument, self.problem)
    }
}

impl std::error::Error for UsageError {}

/// Reads a command line; its first item is the program's name, as [`std::env::args_os`] gives it. `--help` and
/// `--version` win over everything after them.
///
/// # Errors
/// An unknown flag, a missing or malformed value, or an argument that is not a flag.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
    let mut config = Config::default();
    let mut parser = lexopt::Parser::from_iter(args);
    // The only error that `next` knows is a value for a flag that takes none.
    while let Some(argument) =
        parser.next().map_err(|error| UsageError::new(takes_no_value(&error), "takes no value"))?
    {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Action::ShowHelp),
            Arg::Long("version") => return Ok(Action::ShowVersion),
            Arg::Short('v') => config.verbosity = true,
            Arg::Short(letter) => {
                let rest = parser.optional_value().unwrap_or_default();
                let mut word = OsString::from(format!("-{letter}"));
                word.push(rest);
                return Err(UsageError::new(word, "no such flag (long flags begin with two dashes)"));
            }
            Arg::Long(name) => {
                let Some(flag) = all_flags().find(|flag| flag.name == name) else {
                    return Err(UsageError::new(format!("--{name}"), "no such flag"));
                };
                set(&mut config, flag, &mut parser)
                    .map_err(|problem| UsageError::new(format!("--{}", flag.name), problem))?;
            }
            Arg::Value(word) => {
                return Err(UsageError::new(word, "not a flag, and no argument is expected"));
            }
        }
    }
    Ok(Action::Run(config))
}

fn takes_no_value(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => option.clone(),
        other => other.to_string(),
    }
}

fn set(config: &mut Config, flag: &Flag, parser: &mut lexopt::Parser) -> Result<(), String> {
    let attached = parser.optional_value();
    let value = match (flag.placeholder.is_empty(), attached) {
        (_, Some(value)) => value,
        (true, None) => "true".into(),
        (false, None) => detached(parser)?,
    };
    if value.is_empty() {
        return Err("a value is missing".to_owned());
    }
    (flag.set)(config, &value)
}

/// The value in an argument of its own. One that begins with a dash is far more often a forgotten value than meant.
fn detached(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    let value = parser.value().map_err(|_| "a value is missing")?;
    if value.as_encoded_bytes().starts_with(b"-") {
        let next = printable(&value);
        return Err(format!("a value is missing before {next} (if that is the value, join them with =)"));
    }
    Ok(value)
}

/// The usage text, 80 columns wide, with every flag and its default.
pub fn usage() -> String {
    let defaults = Config::default();
    let mut text = String::from(USAGE_HEAD);
    for (title, flags) in GROUPS {
        text.push_str(&format!("\n{title}\n"));
        for flag in *flags {
            let default = match flag.placeholder {
                "" => String::new(),
                _ => format!(" [{}]", (flag.show)(&defaults)),
            };
            let help = format!("{}{default}", flag.help);
            push_row(&mut text, &flag.spelling(), &help);
        }
    }
    text.push_str("\nThe program itself\n");
    push_row(&mut text, "--version", "print the version and exit");
    push_row(&mut text, "-h, --help", "print this and exit");
    text.push_str(USAGE_FOOT);
    text
}

const USAGE_HEAD: &str = "\
kube-audit-rest writes what a Kubernetes API server sends to webhooks into an
audit log: one line of JSON for each AdmissionReview or audit event.

Usage: kube-audit-rest [--flag=value | --flag value]...

Sizes are whole megabytes (1024 x 1024 bytes), times whole seconds unless said
otherwise. Defaults stand in brackets. The last of several equal flags counts.
";

const USAGE_FOOT: &str = "
Endpoints
  HTTPS port     POST /log-request    AdmissionReview (admission webhook)
                 POST /audit-events   EventList (audit webhook)
  HTTP port      POST /audit-events, POST /   EventList
  metrics port   GET /metrics, /healthz, /readyz

Signals: SIGTERM ends it in order, SIGINT without the delay, a second one at
once; SIGHUP opens the audit log anew and reads certificates, sources and the
policy again.
Messages go to standard error as JSON lines.
Exit codes: 0 ended as asked, 1 cannot start, 2 wrong flags.
";

const USAGE_WIDTH: usize = 80;
const USAGE_HELP_COLUMN: usize = 30;

fn push_row(text: &mut String, spelling: &str, help: &str) {
    let indent = " ".repeat(USAGE_HELP_COLUMN);
    let mut line = format!("  {spelling:width$}", width = USAGE_HELP_COLUMN - 2);
    let mut at_start = true;
    for word in help.split(' ') {
        if !at_start && line.len() + 1 + word.len() > USAGE_WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&indent);
            at_start = true;
        }
        if !at_start {
            line.push(' ');
        }
        line.push_str(word);
        at_start = false;
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn parse_words(words: &[&str]) -> Result<Action, UsageError> {
        let program = std::iter::once("kube-audit-rest");
        parse(program.chain(words.iter().copied()).map(OsString::from))
    }

    fn config(words: &[&str]) -> Config {
        match parse_words(words) {
            Ok(Action::Run(config)) => config,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn problem(words: &[&str]) -> String {
        parse_words(words).unwrap_err().to_string()
    }

    #[test]
    fn no_arguments_give_the_defaults() {
        assert_eq!(config(&[]), Config::default());
        assert_eq!(parse([]), Ok(Action::Run(Config::default())));
    }

    #[test]
    fn every_flag_sets_its_own_field_and_no_other() {
        let expected = Config {
            logger_filename: "/a/log".into(),
            audit_to_std_log: true,
            logger_max_size: 7 * 1024 * 1024,
            logger_max_backups: 8,
            logger_max_age: Duration::from_secs(9 * 86_400),
            logger_sync: true,
            logger_file_mode: 0o640,
            cert_filename: "/b/crt".into(),
            cert_key_filename: "/b/key".into(),
            client_ca_filename: Some("/c/ca".into()),
            sources_filename: Some("/d/sources".into()),
            policy_filename: Some("/d/policy".into()),
            server_address: Some([127, 0, 0, 1].into()),
            metrics_address: Some("::1".parse().unwrap()),
            server_port: 1,
            metrics_port: 2,
            http_port: Some(3),
            max_request_size: 4 * 1024 * 1024,
            max_inflight_size: 5 * 1024 * 1024,
            max_connections: 6,
            shutdown_delay: Duration::from_secs(10),
            verbosity: true,
        };
        assert_eq!(
            config(&[
                "--logger-filename=/a/log",
                "--audit-to-std-log",
                "--logger-max-size=7",
                "--logger-max-backups=8",
                "--logger-max-age=9",
                "--logger-sync=always",
                "--logger-file-mode=0640",
                "--cert-filename=/b/crt",
                "--cert-key-filename=/b/key",
                "--client-ca-filename=/c/ca",
                "--sources-filename=/d/sources",
                "--policy-filename=/d/policy",
                "--server-address=127.0.0.1",
                "--metrics-address=::1",
                "--server-port=1",
                "--metrics-port=2",
                "--http-port=3",
                "--max-request-size=4",
                "--max-inflight-size=5",
                "--max-connections=6",
                "--shutdown-delay=10",
                "--verbosity",
            ]),
            expected
        );
    }

    #[test]
    fn a_value_may_stand_in_an_argument_of_its_own() {
        assert_eq!(config(&["--server-port", "8443"]).server_port, 8443);
        assert_eq!(config(&["--logger-filename", "a b"]).logger_filename, Path::new("a b"));
    }

    #[test]
    fn the_last_of_several_equal_flags_counts() {
        let config = config(&["--server-port=1", "--server-port=2", "-v", "-v"]);
        assert_eq!(config.server_port, 2);
        assert!(config.verbosity);
    }

    #[test]
    fn a_switch_takes_true_or_false_only_joined_by_an_equals_sign() {
        assert!(config(&["--audit-to-std-log=true"]).audit_to_std_log);
        assert!(!config(&["--audit-to-std-log", "--audit-to-std-log=false"]).audit_to_std_log);
        assert_eq!(problem(&["--audit-to-std-log=yes"]), "--audit-to-std-log: yes is neither true nor false");
        assert_eq!(problem(&["--audit-to-std-log", "true"]), "true: not a flag, and no argument is expected");
    }

    #[test]
    fn an_unknown_flag_or_a_stray_argument_is_named() {
        assert_eq!(problem(&["--serverport=1"]), "--serverport: no such flag");
        assert_eq!(problem(&["serve"]), "serve: not a flag, and no argument is expected");
        assert_eq!(problem(&["--", "--server-port=1"]), "--server-port=1: not a flag, and no argument is expected");
        assert_eq!(problem(&["-server-port=1"]), "-server-port=1: no such flag (long flags begin with two dashes)");
    }

    #[test]
    fn a_missing_value_is_named_and_the_next_flag_is_not_taken_for_it() {
        assert_eq!(problem(&["--server-port"]), "--server-port: a value is missing");
        assert_eq!(problem(&["--server-port="]), "--server-port: a value is missing");
        assert_eq!(problem(&["--client-ca-filename=", "-v"]), "--client-ca-filename: a value is missing");
        assert_eq!(
            problem(&["--logger-filename", "--audit-to-std-log"]),
            "--logger-filename: a value is missing before --audit-to-std-log (if that is the value, join them with =)"
        );
        assert_eq!(config(&["--logger-filename=-"]).logger_filename, Path::new("-"));
    }

    #[test]
    fn a_malformed_value_is_answered_with_what_is_wanted() {
        for (word, expected) in [
            ("--server-port=70000", "--server-port: 70000 is not a port (0 to 65535)"),
            ("--http-port=+1", "--http-port: +1 is not a port (0 to 65535)"),
            ("--metrics-port=0x10", "--metrics-port: 0x10 is not a port (0 to 65535)"),
            ("--server-address=localhost", "--server-address: localhost is not an IP address"),
            ("--logger-sync=sometimes", "--logger-sync: sometimes is neither always nor never"),
            ("--max-connections=0", "--max-connections: 0 is not a number of connections (1 to 100000)"),
            ("--max-request-size=0", "--max-request-size: 0 is not a size in megabytes (1 to 1048576)"),
            ("--max-inflight-size=0", "--max-inflight-size: 0 is not a size in megabytes (1 to 1048576)"),
            (
                "--logger-max-size=17592186044416",
                "--logger-max-size: 17592186044416 is not a size in megabytes (0 to 1048576)",
            ),
            (
                "--logger-max-backups=99999999999999999999",
                "--logger-max-backups: 99999999999999999999 is not a number of files (0 to 1000000)",
            ),
            ("--shutdown-delay=5s", "--shutdown-delay: 5s is not a number of seconds (0 to 86400)"),
            ("--logger-max-age=-1", "--logger-max-age: -1 is not a number of days (0 to 36500)"),
            ("-v=1", "-v: takes no value"),
        ] {
            assert_eq!(problem(&[word]), expected);
        }
    }

    #[test]
    fn a_file_mode_is_octal_with_or_without_a_leading_zero() {
        for word in ["600", "0600", "0o600", "00600"] {
            let word = format!("--logger-file-mode={word}");
            assert_eq!(config(&[&word]).logger_file_mode, 0o600, "{word}");
        }
        for word in ["1000", "888", "rw", "+600", "0o", "u=rw", "0x1ff"] {
            assert_eq!(
                problem(&[&format!("--logger-file-mode={word}")]),
                format!("--logger-file-mode: {word} is not an octal mode (0 to 0777)")
            );
        }
    }

    #[test]
    fn only_a_path_may_be_something_other_than_utf_8() {
        let word = |name: &str| OsString::from_vec([name.as_bytes(), b"=/x\xff"].concat());
        let parsed = parse(["program".into(), word("--logger-filename")]);
        let Ok(Action::Run(config)) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(config.logger_filename.into_os_string().into_vec(), b"/x\xff");
        let error = parse(["program".into(), word("--server-port")]).unwrap_err();
        assert_eq!(error.to_string(), "--server-port: /x\u{fffd} is not a port (0 to 65535)");
    }

    #[test]
    fn help_and_version_win_over_what_comes_after_them() {
        for words in [&["--help", "--nonsense"][..], &["-h"], &["-vh"]] {
            assert_eq!(parse_words(words), Ok(Action::ShowHelp));
        }
        assert_eq!(parse_words(&["--version", "x"]), Ok(Action::ShowVersion));
        assert_eq!(problem(&["--nonsense", "--help"]), "--nonsense: no such flag");
    }

    #[test]
    fn the_usage_text_names_each_flag_with_its_default_in_80_columns() {
        let usage = usage();
        for line in usage.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for (name, default) in Config::default().settings() {
            let from = usage.find(&format!("--{name}")).unwrap_or_else(|| panic!("{name} is missing"));
            let row = usage[from + 2..].split("--").next().unwrap();
            if default != "off" || name == "http-port" {
                assert!(row.contains(&format!("[{default}]")), "{name}: {row}");
            }
        }
    }

    #[test]
    fn the_settings_of_a_config_given_as_flags_give_the_same_config() {
        let original = config(&[
            "--logger-filename=/a",
            "--logger-max-size=3",
            "--logger-file-mode=7",
            "--logger-sync=always",
            "--client-ca-filename=/c",
            "--server-address=::1",
            "--http-port=0",
            "--shutdown-delay=5",
        ]);
        let words: Vec<String> = original
            .settings()
            .into_iter()
            .filter(|(_, value)| !["none", "off", "all"].contains(&value.as_str()))
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(config(&words), original);
    }

    #[test]
    fn flags_that_cancel_or_weaken_each_other_are_warned_about() {
        assert_eq!(Config::default().warnings(), [""; 0]);
        let count = |words: &[&str]| config(words).warnings().len();
        assert_eq!(count(&["--audit-to-std-log"]), 1);
        assert_eq!(count(&["--audit-to-std-log", "--logger-filename=/x"]), 2);
        assert_eq!(count(&["--audit-to-std-log", "--logger-sync=always"]), 2);
        assert_eq!(count(&["--http-port=80"]), 2);
        assert_eq!(count(&["--http-port=80", "--sources-filename=/x"]), 1);
        assert_eq!(count(&["--max-inflight-size=31"]), 1);
    }

    fn word() -> impl Strategy<Value = OsString> {
        let names: Vec<&str> = all_flags().map(|flag| flag.name).collect();
        let value = prop_oneof![
            any::<u64>().prop_map(|number| number.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..12),
            Just(b"true".to_vec()),
        ];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            "-{0,3}[a-z=-]{0,8}".prop_map(String::into_bytes),
            (prop::sample::select(names), prop::option::of(value)).prop_map(|(name, value)| {
                let mut word = format!("--{name}").into_bytes();
                if let Some(value) = value {
                    word.push(b'=');
                    word.extend(value);
                }
                word
            }),
        ]
        .prop_map(OsString::from_vec)
    }

    proptest! {
        #[test]
        fn any_argv_gives_an_action_or_a_one_line_error(words in prop::collection::vec(word(), 0..6)) {
            if let Err(error) = parse(words) {
                let line = error.to_string();
                prop_assert!(!line.contains(char::is_control), "{:?}", line);
                prop_assert!(!line.is_empty());
            }
        }
    }
}
