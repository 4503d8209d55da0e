//! How it starts, how it fails to start (one clear line and an exit code, before anything listens), and how it ends.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::json::assert_line_of;
use common::{Authority, Server, Setup, corpus, get, post, program};
use rustix::process::Signal;
use serde_json::Value;

/// Runs it to its end, which must be a failure to start: exit 1 and one error message that holds all of `words`.
fn assert_start_fails(name: &str, setup: &Setup, words: &[&str]) {
    let output = setup.command().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
    assert!(output.stdout.is_empty(), "{name}");
    let messages: Vec<Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{name}: {line}"))).collect();
    assert!(messages.iter().all(|message| message["msg"] != "listening"), "{name}: {stderr}");
    let errors: Vec<&Value> = messages.iter().filter(|message| message["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "{name}: {stderr}");
    assert_eq!(errors[0]["msg"], "cannot start", "{name}");
    let said = errors[0]["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "{name}: {said:?} lacks {word:?}");
    }
}

#[test]
fn a_certificate_or_key_that_will_not_do_is_named_with_its_flag() {
    let certificate = "--cert-filename";
    let key = "--cert-key-filename";
    let missing = "No such file or directory";
    for (flag, dashed) in [("cert-filename", certificate), ("cert-key-filename", key)] {
        let setup = Setup::new().flag(flag, "/nowhere/x.pem");
        assert_start_fails("missing", &setup, &[dashed, "/nowhere/x.pem", missing]);

        let setup = Setup::new().flag(flag, "/tmp");
        assert_start_fails("a directory", &setup, &[dashed, "/tmp"]);

        for (name, text) in [
            ("empty", ""),
            ("no PEM", "hello\n"),
            ("half a PEM", "-----BEGIN CERTIFICATE-----\nMIIB"),
            ("broken base64", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
            ("broken DER", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("a broken key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ] {
            let setup = Setup::new();
            let path = setup.file("broken.pem", text);
            assert_start_fails(name, &setup.flag(flag, &path), &[dashed, &path]);
        }
    }
    let setup = Setup::new();
    let other = setup.file("other.key", &Authority::new().server().key);
    let setup = setup.flag("cert-key-filename", &other);
    assert_start_fails("a key that does not match", &setup, &[key]);

    let setup = Setup::new();
    let swapped = setup.path("tls.key").to_str().unwrap().to_owned();
    let setup = setup.flag("cert-filename", &swapped);
    assert_start_fails("a key for a certificate", &setup, &[certificate, &swapped]);
}

#[test]
fn a_client_ca_or_sources_file_that_will_not_do_is_named_with_its_flag() {
    for flag in ["client-ca-filename", "sources-filename"] {
        let dashed = format!("--{flag}");
        let setup = Setup::new().flag(flag, "/nowhere/x");
        assert_start_fails("missing", &setup, &[&dashed, "/nowhere/x", "No such file"]);
    }
    let setup = Setup::new();
    let empty = setup.file("ca.crt", "");
    let setup = setup.flag("client-ca-filename", &empty);
    assert_start_fails("no CA", &setup, &["--client-ca-filename", &empty]);

    let token = "0123456789abcdef".repeat(2);
    for (name, text) in [
        ("no token", "blue\n".to_owned()),
        ("a short token", "blue 0123456789abcdef\n".to_owned()),
        ("capitals", format!("blue {}\n", token.to_uppercase())),
        ("not hex", format!("blue {}\n", "z".repeat(32))),
        ("three words", format!("blue {token} x\n")),
        ("nobody", "# nobody\n".to_owned()),
        ("one token for two", format!("blue {token}\ngreen {token}\n")),
    ] {
        let setup = Setup::new();
        let path = setup.file("sources", &text);
        let setup = setup.flag("sources-filename", &path);
        let output = setup.command().output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&token), "{name}");
        assert_start_fails(name, &setup, &["--sources-filename", &path]);
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["server-port", "metrics-port", "http-port"] {
        let setup = Setup::new().flag(flag, &port);
        assert_start_fails(flag, &setup, &[&format!("--{flag}"), &port, "in use"]);
    }
    let setup = Setup::new().flag("server-address", "192.0.2.1");
    assert_start_fails("not our address", &setup, &["--server-address", "192.0.2.1"]);
}

#[test]
fn a_log_that_cannot_be_written_is_named_with_its_flag() {
    let flag = "--logger-filename";
    for path in ["/proc/nowhere/audit.log", "/proc/audit.log", "/tmp"] {
        let setup = Setup::new().flag("logger-filename", path);
        assert_start_fails("impossible", &setup, &[flag, path]);
    }
    let setup = Setup::new();
    let file = setup.file("plain-file", "");
    let below = format!("{file}/audit.log");
    let setup = setup.flag("logger-filename", &below);
    assert_start_fails("below a file", &setup, &[flag, &below]);
}

#[test]
fn a_directory_that_may_not_be_written_is_named_with_the_uid() {
    let setup = Setup::new();
    let directory = setup.path("logs");
    std::fs::create_dir(&directory).unwrap();
    let permissions = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&directory, permissions(0o555)).unwrap();
    let log = directory.join("audit.log");
    let setup = setup.flag("logger-filename", log.to_str().unwrap());
    let mut command = setup.command();
    let mut uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        // Root may write everywhere, so it has to be somebody else, who may read the certificate.
        uid = 65_534;
        std::fs::set_permissions(setup.path(""), permissions(0o755)).unwrap();
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(program()).args(setup.arguments());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let error = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).next_back().unwrap();
    let error = error["error"].as_str().unwrap();
    assert!(error.starts_with("--logger-filename /"), "{said}");
    let expected = format!("Permission denied (os error 13) in the directory {} as uid {uid}", directory.display());
    assert!(error.ends_with(&expected), "{error}");
    assert_eq!(output.status.code(), Some(1));
    std::fs::set_permissions(&directory, permissions(0o755)).unwrap();
}

#[test]
fn a_second_process_on_the_same_log_refuses_to_start() {
    let first = Server::start();
    let log = first.log_path();
    let log = log.to_str().unwrap();
    let second = Setup::new().flag("logger-filename", log);
    assert_start_fails("the second", &second, &["--logger-filename", log]);
    let mut client = first.connect();
    assert_eq!(client.exchange(&post("/log-request", &corpus::review("u"))).status, 200);
    drop(first);
}

#[test]
fn a_missing_log_directory_is_made_and_the_log_is_for_its_owner_only() {
    let setup = Setup::new();
    let log = setup.path("a/b/audit.log");
    let server = setup.flag("logger-filename", log.to_str().unwrap()).start();
    let response = server.connect().exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, 200);
    assert_eq!(common::server::lines_of(&log).len(), 1);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&log), 0o600);
    assert_eq!(mode(log.parent().unwrap()), 0o755);
}

#[test]
fn lines_are_added_to_a_log_that_is_there_already() {
    let setup = Setup::new();
    setup.file("audit.log", "{\"old\":1}\n");
    let server = setup.start();
    let response = server.connect().exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, 200);
    let lines = server.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], b"{\"old\":1}");
    assert_line_of(&lines[1], &corpus::review("u"));
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

#[test]
fn a_usage_error_is_one_plain_line_that_names_it_and_exit_2() {
    let wrong: [(&[&str], &str); 22] = [
        (&["--nonsense"], "--nonsense"),
        (&["--nonsense=1"], "--nonsense"),
        (&["-x"], "-x"),
        (&["stray"], "stray"),
        (&["--", "stray"], "stray"),
        (&["--server-port"], "--server-port"),
        (&["--server-port="], "--server-port"),
        (&["--server-port=x"], "--server-port"),
        (&["--server-port=65536"], "--server-port"),
        (&["--server-port=-1"], "--server-port"),
        (&["--server-port=+1"], "--server-port"),
        (&["--metrics-port", "1e3"], "--metrics-port"),
        (&["--logger-max-size=1.5"], "--logger-max-size"),
        (&["--logger-max-size=99999999999999999999"], "--logger-max-size"),
        (&["--logger-max-backups=-2"], "--logger-max-backups"),
        (&["--logger-sync=sometimes"], "--logger-sync"),
        (&["--logger-file-mode=0999"], "--logger-file-mode"),
        (&["--server-address=localhost:1"], "--server-address"),
        (&["--max-connections=0"], "--max-connections"),
        (&["--max-request-size=0"], "--max-request-size"),
        (&["--cert-filename="], "--cert-filename"),
        (&["--verbosity=perhaps"], "--verbosity"),
    ];
    for (arguments, named) in wrong {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with("kube-audit-rest: "), "{arguments:?}: {said}");
        assert!(said.trim_end().ends_with("; see kube-audit-rest --help"), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn a_usage_error_names_the_flag_that_was_meant() {
    let output = run(&["--log-filename=/x"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let meant =
        "kube-audit-rest: --log-filename: no such flag (did you mean --logger-filename?); see kube-audit-rest --help\n";
    assert_eq!(said, meant);
}

#[test]
fn what_the_original_takes_or_kubernetes_leaves_in_a_value_is_warned_of_and_no_reason_not_to_start() {
    let setup = Setup::new();
    let log = setup.path("$(POD_NAME).log");
    let setup = setup.flag("logger-max-backups", "-1").flag("logger-filename", log.to_str().unwrap());
    let server = setup.start();
    for words in ["--logger-max-backups=-1 is taken as 0", "--logger-filename holds $(POD_NAME) as it stands"] {
        let warning = server.wait_for_message(words, |message| message["msg"].as_str().unwrap().starts_with(words));
        assert_eq!(warning["level"], "warn");
    }
    assert_eq!(server.connect().exchange(&post("/log-request", &corpus::review("u"))).status, 200);
}

#[test]
fn help_names_every_flag_and_version_the_version() {
    for flag in ["--help", "-h"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let help = String::from_utf8(output.stdout).unwrap();
        for flag in [
            "--logger-filename",
            "--audit-to-std-log",
            "--logger-max-size",
            "--logger-max-backups",
            "--logger-max-age",
            "--logger-sync",
            "--logger-file-mode",
            "--cert-filename",
            "--cert-key-filename",
            "--client-ca-filename",
            "--sources-filename",
            "--server-address",
            "--metrics-address",
            "--server-port",
            "--metrics-port",
            "--http-port",
            "--max-request-size",
            "--max-inflight-size",
            "--max-connections",
            "--shutdown-delay",
            "--verbosity",
            "--version",
            "--help",
        ] {
            assert!(help.contains(flag), "{flag} is missing");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120), "a long line in the help");
    }
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = concat!("kube-audit-rest ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn help_that_cannot_be_printed_is_a_failure_with_one_line_and_help_that_nobody_reads_on_is_none() {
    for command in ["", "read", "verify", "policy"] {
        let print = |output: Stdio, flag: &str| {
            let words = [command, flag].into_iter().filter(|word| !word.is_empty());
            let output = Command::new(program()).args(words).stdout(output).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let named = format!("kube-audit-rest {command}");
        let said = format!("{}: standard output: No space left on device (os error 28)\n", named.trim_end());
        let full = || fs::File::options().write(true).open("/dev/full").unwrap().into();
        assert_eq!(print(full(), "--help"), (Some(4), said.clone()));
        if command.is_empty() {
            assert_eq!(print(full(), "--version"), (Some(4), said));
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(print(writer.into(), "--help"), (Some(0), String::new()), "{command}");
    }
}

#[test]
fn it_says_what_it_starts_with_and_where_it_listens_and_all_of_it_as_json() {
    let mut server = Server::start();
    let start = server.wait_for_message("the start", |message| message["msg"] == "starting");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert!(start.to_string().contains(server.log_path().to_str().unwrap()));
    assert!(server.stop().success());
    let messages = server.messages();
    assert!(messages.len() >= 5, "{messages:#?}");
    for line in &messages {
        let message: Value = serde_json::from_str(line).unwrap();
        assert!(message["level"].is_string() && message["msg"].is_string(), "{line}");
        common::json::assert_timestamp(message["time"].as_str().unwrap());
    }
    let last: Value = serde_json::from_str(messages.last().unwrap()).unwrap();
    assert_eq!(last["msg"], "shutdown ended");
    assert!(server.stdout().is_empty());
}

#[test]
fn with_v_messages_are_for_reading_and_never_hold_a_body() {
    let setup = Setup::new();
    let mut command = setup.switch("verbosity").command();
    let output = command.arg("--cert-filename=/nowhere").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot start") && !said.contains('{'), "{said}");
}

#[test]
fn sigterm_and_sigint_end_it_with_exit_0_and_the_log_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start();
        let mut client = server.connect();
        let request = post("/log-request", &corpus::review("u"));
        assert_eq!(client.exchange(&request).status, 200);
        server.signal(signal);
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}");
        client.expect_end();
        assert_eq!(server.lines().len(), 1);
        let said = server.messages().join("\n");
        assert!(said.contains("shutdown begun") && said.contains("shutdown ended"), "{said}");
    }
}

#[test]
fn an_idle_connection_holds_the_end_up_for_a_second_and_no_longer() {
    let mut server = Server::start();
    let mut client = server.connect();
    let request = post("/log-request", &corpus::review("u"));
    assert_eq!(client.exchange(&request).status, 200);
    assert!(server.stop().success());
    let end = server.wait_for_message("the end", |message| message["msg"] == "shutdown ended");
    let took = end["milliseconds"].as_u64().unwrap();
    assert!((900..2_900).contains(&took), "{end}");
    assert_eq!(end["idle_connections_closed"], 1, "{end}");
}

#[test]
fn what_was_sent_before_sigterm_is_recorded_and_answered() {
    let mut server = Server::start();
    let body = corpus::review("u");
    let request = post("/log-request", &body);
    let (first, rest) = request.split_at(request.len() - 10);
    let mut client = server.connect();
    client.send(first);
    // The connection is being served once a later one is.
    assert_eq!(server.connect().exchange(&request).status, 200);
    server.signal(Signal::TERM);
    server.wait_for_message("the shutdown", |message| message["msg"] == "shutdown begun");
    client.send(rest);
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.closes());
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn with_audit_to_std_log_lines_go_to_standard_output_and_messages_do_not() {
    let setup = Setup::new().without("logger-filename");
    let mut server = setup.switch("audit-to-std-log").start();
    let bodies: Vec<Vec<u8>> = corpus::reviews().into_iter().take(20).collect();
    let mut client = server.connect();
    for body in &bodies {
        assert_eq!(client.exchange(&post("/log-request", body)).status, 200);
    }
    let list = corpus::event_list(&["a", "b"]);
    assert_eq!(client.exchange(&post("/audit-events", &list)).status, 200);
    drop(client);
    assert_eq!(server.stop().code(), Some(0));
    let lines = server.stdout();
    assert_eq!(lines.len(), bodies.len() + 2);
    for (line, body) in lines.iter().zip(&bodies) {
        assert_line_of(line.as_bytes(), body);
    }
    let said = server.messages().join("\n");
    assert!(!said.contains("requestReceivedTimestamp"), "{said}");
}

#[test]
fn sighup_is_no_reason_to_die() {
    let server = Server::start();
    server.signal(Signal::HUP);
    server.wait_for_message("the reload", |message| message["msg"] == "reloading");
    assert_eq!(server.connect_metrics().exchange(&get("/healthz")).status, 200);
}

/// With that setting an IPv6 socket takes no IPv4 connections (ip(7)). It belongs to a network namespace.
#[test]
#[ignore = "needs root, for a network namespace of its own; .ci/run runs it"]
fn where_the_system_keeps_ipv6_sockets_from_ipv4_both_are_served_all_the_same() {
    let setup = Setup::new().without("server-address").without("metrics-address");
    let inner = setup.command();
    let mut command = Command::new("unshare");
    let script = r#"ip link set lo up && echo 1 >/proc/sys/net/ipv6/bindv6only && exec "$0" "$@""#;
    command.args(["--net", "sh", "-c", script]).arg(inner.get_program()).args(inner.get_args());
    let server = setup.start_as(command);
    server.wait_until_said(r#""msg":"listening""#, 4);
    let namespace = format!("--net=/proc/{}/ns/net", server.process_id());
    for host in ["127.0.0.1", "[::1]"] {
        for (scheme, port, path) in
            [("https", server.https().port(), "log-request"), ("http", server.metrics_address().port(), "healthz")]
        {
            let url = format!("{scheme}://{host}:{port}/{path}");
            let mut curl = Command::new("nsenter");
            curl.args([
                &namespace,
                "curl",
                "--silent",
                "--insecure",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ]);
            let output = curl.arg(&url).output().unwrap();
            // A GET of what takes POST only.
            let expected = if scheme == "https" { "405" } else { "200" };
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{url}");
        }
    }
}
