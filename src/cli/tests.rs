use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse_words(words: &[&str]) -> Result<Action, String> {
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
    parse_words(words).unwrap_err()
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
        logger_max_total_size: 4000 << 20,
        logger_sync: true,
        logger_file_mode: 0o640,
        cert_filename: "/b/crt".into(),
        cert_key_filename: "/b/key".into(),
        client_ca_filename: Some("/c/ca".into()),
        sources_filename: Some("/d/sources".into()),
        policy_filename: Some("/d/policy".into()),
        chain: true,
        chain_key_filename: Some("/d/key".into()),
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
            "--logger-max-total-size=4000",
            "--logger-sync=always",
            "--logger-file-mode=0640",
            "--cert-filename=/b/crt",
            "--cert-key-filename=/b/key",
            "--client-ca-filename=/c/ca",
            "--sources-filename=/d/sources",
            "--policy-filename=/d/policy",
            "--chain",
            "--chain-key-filename=/d/key",
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
    assert_eq!(problem(&["--nonsense=1"]), "--nonsense: no such flag");
    assert_eq!(problem(&["serve"]), "serve: not a flag, and no argument is expected");
    assert_eq!(problem(&["--", "--server-port=1"]), "--server-port=1: not a flag, and no argument is expected");
    assert_eq!(problem(&["-x"]), "-x: no such flag (long flags begin with two dashes)");
}

#[test]
fn a_near_miss_of_a_flag_names_the_flag_that_was_meant() {
    for (word, flag) in [
        ("--serverport=1", "--server-port"),
        ("--server_port=1", "--server-port"),
        ("--Server-Port=1", "--server-port"),
        ("--logger-filname", "--logger-filename"),
        ("--log-filename=/x", "--logger-filename"),
        ("--logger-max-backup", "--logger-max-backups"),
        ("--cert-keyfilename=/x", "--cert-key-filename"),
        ("--cert-file=/x", "--cert-filename"),
        ("--verbose", "--verbosity"),
        ("--audit-to-std", "--audit-to-std-log"),
        ("--sources", "--sources-filename"),
        ("--verison", "--version"),
        ("-server-port=1", "--server-port"),
        ("logger-filename=/x", "--logger-filename"),
    ] {
        let problem = problem(&[word]);
        assert!(problem.ends_with(&format!(" (did you mean {flag}?)")), "{problem}");
    }
    for word in ["--port=1", "--x", "--nonsense", "--max", "serve", "--filename=/x", "--key-filename=/x"] {
        let problem = problem(&[word]);
        assert!(!problem.contains("did you mean"), "{problem}");
    }
}

#[test]
fn minus_one_backups_are_all_backups_with_a_warning() {
    for words in [&["--logger-max-backups=-1"][..], &["--logger-max-backups", "-1"]] {
        let config = config(words);
        assert_eq!(config.logger_max_backups, -1);
        assert_eq!(config.warnings(), ["--logger-max-backups=-1 is taken as 0, as the original does: all are kept"]);
    }
    assert_eq!(
        problem(&["--logger-max-backups=-2"]),
        "--logger-max-backups: -2 is not a number of files (0 to 1000000)"
    );
    assert_eq!(problem(&["--server-port", "-1"]), "--server-port: -1 is not a port (0 to 65535)");
}

#[test]
fn a_variable_that_kubernetes_did_not_replace_is_warned_of() {
    let warnings = config(&["--logger-filename=/var/log/$(POD_NAME).log", "--sources-filename=/x/$(A"]).unexpanded();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("--logger-filename holds $(POD_NAME) as it stands: "), "{}", warnings[0]);
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
    assert_eq!(error, "--server-port: /x\u{fffd} is not a port (0 to 65535)");
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
    assert_eq!(count(&["--logger-max-total-size=499"]), 1);
    assert_eq!(count(&["--logger-max-total-size=500"]), 0);
    assert_eq!(count(&["--logger-max-total-size=499", "--logger-max-size=0"]), 0);
}

fn word() -> impl Strategy<Value = OsString> {
    let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
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
            prop_assert!(!error.contains(char::is_control), "{:?}", error);
            prop_assert!(!error.is_empty());
        }
    }
}
