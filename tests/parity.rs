//! What we share with the Go original, and what is different on purpose.
//!
//! `KUBE_AUDIT_REST_BIN=/path/to/kube-audit-rest cargo test --test parity` puts any program with the original's flags
//! under the same tests; without it, ours is. Tests named `on_purpose_...` say how ours differs and hold each program to
//! its own side. Not here, because it takes minutes to see: the original closes a connection after 15 s without a
//! request, ours after 120 s. Nor what is said elsewhere of ours alone: that it takes a new certificate without a restart.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use common::json::{assert_timestamp, compact};
use common::stage::{HOST, JSON};
use common::{Client, Response, Setup, chunked, corpus, eventually, get, post, program, request};
use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::{Value, json};

/// The program under test, and whether it is one of ours (another build of it may be named, too).
fn subject() -> (PathBuf, bool) {
    let Some(path) = std::env::var_os("KUBE_AUDIT_REST_BIN") else {
        return (program(), true);
    };
    let path = PathBuf::from(path);
    let version = Command::new(&path).arg("--version").output();
    let version = version.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let ours = version.status.success() && version.stdout.starts_with(b"kube-audit-rest ");
    (path, ours)
}

fn ours() -> bool {
    subject().1
}

/// The program under test.
fn setup() -> Setup {
    match subject() {
        (path, true) => Setup::of(path),
        (path, false) => Setup::of_original(path),
    }
}

/// Asserts an answer that allows the request, in whatever layout.
fn assert_allowed(response: &Response, uid: &str) {
    assert_eq!(response.status, 200, "{response:?}");
    let expected = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": true},
    });
    assert_eq!(response.json(), expected);
}

/// Asserts that `line` is the compact body with the timestamp as its last member; the original writes as many digits of
/// the fraction as there are.
fn assert_line(line: &[u8], body: &[u8]) {
    let mut expected = compact(body);
    assert_eq!(expected.pop(), Some(b'}'));
    expected.extend_from_slice(br#","requestReceivedTimestamp":""#);
    let timestamp = line
        .strip_prefix(expected.as_slice())
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(line)));
    let timestamp = str::from_utf8(timestamp).unwrap();
    let (seconds, fraction) = timestamp.trim_end_matches('Z').split_once('.').unwrap_or((timestamp, ""));
    assert_timestamp(&format!("{seconds}.{fraction:0<9}Z"));
}

fn post_as(kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers = [HOST, ("Content-Type", kind), ("Content-Length", &length)];
    request("POST", "/log-request", &headers, body)
}

// What is the same.

#[test]
fn recorded_reviews_are_allowed_and_recorded() {
    let server = setup().start();
    let mut client = server.connect();
    let bodies = corpus::reviews();
    for body in &bodies {
        let response = client.exchange(&post("/log-request?timeout=1s", body));
        assert_allowed(&response, &corpus::uid(body));
    }
    let lines = eventually("all lines", || {
        let lines = server.lines();
        (lines.len() == bodies.len()).then_some(lines)
    });
    for (line, body) in lines.iter().zip(&bodies) {
        assert_line(line, body);
    }
}

#[test]
fn the_four_bad_requests_of_the_original_are_400_and_say_so_in_the_error_header() {
    let server = setup().start();
    let mut client = server.connect();
    let no_uid = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"operation":"CREATE"}}"#;
    for (name, request) in [
        ("invalid JSON", post_as("application/json", br#"{a: "b"}"#)),
        ("no uid", post_as("application/json", no_uid)),
        ("not JSON", post_as("application/json", b"abc")),
        ("not application/json", post_as("text/plain", b"abc")),
    ] {
        let response = client.exchange(&request);
        assert_eq!(response.status, 400, "{name}");
        let error = response.header("error").unwrap_or_default();
        assert!(!error.is_empty(), "{name}: {response:?}");
    }
    assert_allowed(&client.exchange(&post("/log-request", &corpus::review("u"))), "u");
    assert_eq!(eventually("a line", || Some(server.lines())).len(), 1);
}

#[test]
fn another_path_is_404_and_another_method_405() {
    let server = setup().start();
    let mut client = server.connect();
    assert_eq!(client.exchange(&post("/x", b"{}")).status, 404);
    let response = client.exchange(&get("/log-request"));
    assert_eq!(response.status, 405);
    assert_eq!(response.header("Allow"), Some("POST"));
}

#[test]
fn the_originals_counters_keep_their_names() {
    let server = setup().start();
    let mut client = server.connect();
    for body in [corpus::review("u"), b"abc".to_vec(), corpus::review("v")] {
        client.exchange(&post("/log-request", &body));
    }
    server.wait_for_metric("http_requests_total", 3.0);
    server.wait_for_metric("valid_requests_processed_total", 2.0);
}

#[test]
fn a_client_that_does_not_trust_the_ca_gets_nowhere_and_is_reported() {
    let server = setup().start();
    let stranger = common::Authority::new().trust();
    assert!(Client::try_tls(server.https(), &stranger).is_err());
    eventually("the report", || {
        let said = server.messages().join("\n");
        (said.contains("http: TLS handshake error from 127.0.0.1:")).then_some(())
    });
    assert_allowed(&server.connect().exchange(&post("/log-request", &corpus::review("u"))), "u");
}

#[test]
fn a_client_that_speaks_only_tls_1_3_is_served() {
    let server = setup().start();
    let config = server.setup().authority().trust_with(&[&TLS13], &[b"http/1.1"]);
    let mut client = Client::tls(server.https(), &config);
    assert_allowed(&client.exchange(&post("/log-request", &corpus::review("u"))), "u");
}

#[test]
fn every_flag_of_the_original_is_taken() {
    let setup = setup().flag("logger-max-size", "7").flag("logger-max-backups", "3").switch("verbosity");
    let server = setup.start();
    assert_allowed(&server.connect().exchange(&post("/log-request", &corpus::review("u"))), "u");
    // The secret of a body is in the audit log, which is why it must not be in this one.
    if ours() {
        assert!(!server.messages().join("\n").contains("AdmissionReview"));
    }
}

#[test]
fn a_missing_certificate_ends_the_start_with_exit_1() {
    let output = setup().flag("cert-filename", "/nowhere/tls.crt").command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/tls.crt"));
}

#[test]
fn sigterm_and_sigint_end_it_with_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = setup().start();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_full_file_is_rolled_to_a_name_with_its_time_and_old_ones_are_deleted() {
    let server = setup().flag("logger-max-size", "1").flag("logger-max-backups", "1").start();
    let mut client = server.connect();
    let padding = "p".repeat(300_000);
    for n in 0..12 {
        let body = corpus::review(&format!("{n}"));
        let body = String::from_utf8(body).unwrap();
        let body = body.replacen('{', &format!(r#"{{"padding":"{padding}","#), 1);
        let response = client.exchange(&post("/log-request", body.as_bytes()));
        assert_eq!(response.status, 200);
    }
    let backups = eventually("one backup", || {
        let directory = std::fs::read_dir(server.log_path().parent().unwrap()).unwrap();
        let names: Vec<String> = directory
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("audit-") && name.ends_with(".log"))
            .collect();
        (names.len() == 1).then_some(names)
    });
    let form: String = backups[0].chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(form, "audit-9999-99-99T99-99-99.999.log");
    for path in [server.log_path(), server.setup().path(&backups[0])] {
        let lines = common::server::lines_of(&path);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() > 300_000));
    }
}

// What differs, each on purpose.

/// Posts one body to a fresh program: the status, and whether a line came of it.
fn verdict(body: &[u8]) -> (u16, bool) {
    let server = setup().start();
    let response = server.connect().exchange(&post("/log-request", body));
    (response.status, server.lines().first().is_some_and(|line| !line.is_empty()))
}

#[test]
fn on_purpose_a_record_that_was_not_written_is_not_acknowledged() {
    let server = setup().flag("logger-filename", "/dev/full").start();
    let response = server.connect().exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, if ours() { 503 } else { 200 });
}

#[test]
fn on_purpose_a_line_larger_than_the_maximum_file_size_is_written() {
    let server = setup().flag("logger-max-size", "1").start();
    let body = corpus::review(&"u".repeat(4_000));
    let padded = String::from_utf8(body).unwrap();
    let padded = padded.replacen('{', &format!(r#"{{"x":"{}","#, "p".repeat(2 << 20)), 1);
    let response = server.connect().exchange(&post("/log-request", padded.as_bytes()));
    assert_eq!(response.status, 200);
    if ours() {
        let lines = server.lines();
        assert_eq!(lines.len(), 1);
        assert_line(&lines[0], padded.as_bytes());
    } else {
        assert!(!server.log_path().exists() || server.lines().is_empty());
    }
}

#[test]
fn on_purpose_a_line_on_standard_output_is_the_line_and_not_wrapped_in_a_log_format() {
    let server = setup().switch("audit-to-std-log").start();
    let body = corpus::review("u");
    assert_allowed(&server.connect().exchange(&post("/log-request", &body)), "u");
    if ours() {
        let line = eventually("a line", || server.stdout().first().cloned());
        assert_line(line.as_bytes(), &body);
    } else {
        let is_wrapped = |line: &String| line.contains("requestReceivedTimestamp") && !line.starts_with('{');
        eventually("a wrapped line", || {
            let printed = [server.stdout(), server.messages()].concat();
            printed.iter().any(is_wrapped).then_some(())
        });
    }
}

#[test]
fn on_purpose_the_uid_in_the_reply_is_escaped_as_json_and_not_as_html() {
    let uid = "a<b>&'\"\\";
    let server = setup().start();
    let response = server.connect().exchange(&post("/log-request", &corpus::review(uid)));
    assert_eq!(response.status, 200);
    let reply: Option<Value> = serde_json::from_slice(&response.body).ok();
    let same = reply.is_some_and(|reply| reply["response"]["uid"] == uid);
    assert_eq!(same, ours());
}

#[test]
fn on_purpose_only_an_admission_review_is_taken() {
    for body in [r#"{"request":{"uid":"u"}}"#, r#"{"kind":"Pod","apiVersion":"v1","request":{"uid":"u"}}"#] {
        let expected = if ours() { (400, false) } else { (200, true) };
        assert_eq!(verdict(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn on_purpose_of_two_equal_keys_that_we_read_neither_is_believed() {
    let body = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"a","uid":"b"}}"#;
    let expected = if ours() { (400, false) } else { (200, true) };
    assert_eq!(verdict(body.as_bytes()), expected);
}

#[test]
fn on_purpose_a_request_with_both_content_length_and_chunked_is_refused() {
    let server = setup().start();
    let body = corpus::review("u");
    let headers = [HOST, JSON, ("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
    let request = request("POST", "/log-request", &headers, &chunked(&body, &[10]));
    let response = server.connect().exchange(&request);
    assert_eq!(response.status, if ours() { 400 } else { 200 });
}

#[test]
fn on_purpose_a_review_nested_too_deep_is_refused_and_not_an_empty_line() {
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","x":{}{}}}}}"#,
        "[".repeat(12_000),
        "]".repeat(12_000)
    );
    let expected = if ours() { (400, false) } else { (200, false) };
    assert_eq!(verdict(body.as_bytes()), expected);
}

#[test]
fn on_purpose_eight_megabytes_of_brackets_do_not_kill_it() {
    let mut server = setup().start();
    let mut client = server.connect();
    let answer = client.try_send(&post("/log-request", &vec![b'['; 8 << 20])).and_then(|()| client.try_response());
    if ours() {
        assert_eq!(answer.unwrap().status, 400);
        assert_allowed(&server.connect().exchange(&post("/log-request", &corpus::review("u"))), "u");
    } else {
        assert!(answer.is_err());
        assert!(!server.wait().success());
    }
}

#[test]
fn on_purpose_http_2_is_not_negotiated() {
    let server = setup().start();
    let config = server.setup().authority().trust_with(rustls::ALL_VERSIONS, &[b"h2", b"http/1.1"]);
    let client = Client::tls(server.https(), &config);
    let expected: &[u8] = if ours() { b"http/1.1" } else { b"h2" };
    assert_eq!(client.session().alpn_protocol(), Some(expected));
}

#[test]
fn on_purpose_usage_errors_exit_2_and_help_exits_0() {
    let exit = |argument: &str| {
        let (path, _) = subject();
        Command::new(path).arg(argument).output().unwrap().status.code()
    };
    let (usage, help) = if ours() { (2, 0) } else { (1, 1) };
    assert_eq!(exit("--no-such-flag"), Some(usage));
    assert_eq!(exit("--server-port=x"), Some(usage));
    assert_eq!(exit("--help"), Some(help));
}

#[test]
fn on_purpose_there_are_health_pages() {
    let server = setup().start();
    for path in ["/healthz", "/readyz"] {
        let response = server.connect_metrics().exchange(&get(path));
        assert_eq!(response.status, if ours() { 200 } else { 404 }, "{path}");
    }
}

#[test]
fn on_purpose_sighup_does_not_end_it() {
    let mut server = setup().start();
    server.signal(Signal::HUP);
    if ours() {
        server.wait_for_message("the reload", |message| message["msg"] == "reloading");
        assert!(server.stop().success());
    } else {
        assert_eq!(server.wait().signal(), Some(Signal::HUP.as_raw()));
    }
}
