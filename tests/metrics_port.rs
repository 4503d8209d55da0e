//! The metrics port: the counters tell what happened, and the health pages how it goes.

mod common;

use std::collections::BTreeMap;

use common::stage::{HOST, assert_refusal};
use common::{Server, Setup, corpus, get, post, request};

#[test]
fn the_counters_tell_what_happened() {
    let server = Setup::new().flag("http-port", "0").start();
    let mut client = server.connect();
    let bodies: Vec<Vec<u8>> = corpus::reviews().into_iter().take(10).collect();
    for body in &bodies {
        assert_eq!(client.exchange(&post("/log-request", body)).status, 200);
    }
    let mut bytes: usize = bodies.iter().map(Vec::len).sum();
    let list = corpus::event_list(&["a", "b", "c"]);
    let mut plain = server.connect_http();
    assert_eq!(plain.exchange(&post("/", &list)).status, 200);
    bytes += list.len();
    assert_eq!(client.exchange(&post("/log-request", b"abc")).status, 400);
    assert_eq!(client.exchange(&post("/log-request", b"[]")).status, 400);
    bytes += 5;
    assert_eq!(client.exchange(&get("/nowhere")).status, 404);
    assert_eq!(client.exchange(&get("/log-request")).status, 405);

    let lines = server.lines();
    let written: usize = lines.iter().map(|line| line.len() + 1).sum();
    let longest = lines.iter().map(|line| line.len() + 1).max().unwrap();
    let expected = [
        ("http_requests_total", 15.0),
        ("valid_requests_processed_total", 11.0),
        ("http_responses_total{code=\"200\"}", 11.0),
        ("http_responses_total{code=\"400\"}", 2.0),
        ("http_responses_total{code=\"404\"}", 1.0),
        ("http_responses_total{code=\"405\"}", 1.0),
        ("http_responses_total{code=\"503\"}", 0.0),
        ("listener_requests_total{listener=\"https\"}", 14.0),
        ("listener_requests_total{listener=\"http\"}", 1.0),
        ("request_duration_seconds_count", 15.0),
        ("request_duration_seconds_bucket{le=\"+Inf\"}", 15.0),
        ("request_body_bytes_total", bytes as f64),
        ("audit_lines_total{kind=\"AdmissionReview\"}", 10.0),
        ("audit_lines_total{kind=\"Event\"}", 3.0),
        ("audit_line_bytes_max", longest as f64),
        ("append_errors_total{reason=\"no_space\"}", 0.0),
        ("log_bytes_written_total", written as f64),
        ("log_file_bytes", written as f64),
        ("log_rotations_total", 0.0),
        ("log_rotation_errors_total", 0.0),
        ("tls_handshakes_total", 1.0),
        ("tls_handshake_failures_total{reason=\"eof\"}", 0.0),
        ("certificate_reloads_total{result=\"success\"}", 0.0),
        ("certificate_reloads_total{result=\"failure\"}", 0.0),
        ("connections{listener=\"https\"}", 1.0),
        ("connections{listener=\"http\"}", 1.0),
        ("connections{listener=\"metrics\"}", 1.0),
        ("connections_evicted_total{kind=\"idle\"}", 0.0),
        ("inflight_body_bytes", 0.0),
    ];
    // What is counted after the answer may come a moment late.
    for (series, value) in expected {
        server.wait_for_metric(series, value);
    }
}

#[test]
fn connections_and_failed_handshakes_are_counted() {
    let server = Server::start();
    let stranger = common::Authority::new().trust();
    for _ in 0..3 {
        assert!(common::Client::try_tls(server.https(), &stranger).is_err());
    }
    let reason = "tls_handshake_failures_total{reason=\"unknown_ca\"}";
    server.wait_for_metric(reason, 3.0);
    drop(std::net::TcpStream::connect(server.https()).unwrap());
    server.wait_for_metric("tls_handshake_failures_total{reason=\"eof\"}", 1.0);
    let client = server.connect();
    server.wait_for_metric("connections{listener=\"https\"}", 1.0);
    drop(client);
    server.wait_for_metric("connections{listener=\"https\"}", 0.0);
    server.wait_for_metric("tls_handshakes_total", 1.0);
    for words in ["unknown certificate authority", "EOF"] {
        server.wait_for_message(words, |message| {
            let said = message["msg"].as_str().unwrap_or_default();
            said.starts_with("http: TLS handshake error from 127.0.0.1:") && said.ends_with(words)
        });
    }
}

#[test]
fn the_page_is_in_the_text_format_with_every_family_described_once() {
    let server = Server::start();
    let response = server.connect_metrics().exchange(&get("/metrics"));
    assert_eq!(response.status, 200);
    let kind = response.header("Content-Type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let page = response.text();
    assert!(page.ends_with('\n'));

    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let mut words = line.split(' ').skip(2);
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(families.insert(name, kind), None, "{name} twice");
    }
    let mut seen = Vec::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        assert!(!seen.contains(&series), "{series} twice");
        seen.push(series);
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|base| families.get(base) == Some(&"histogram")))
            .unwrap_or(name);
        assert!(families.contains_key(family), "{series} has no TYPE");
        assert!(page.contains(&format!("# HELP {family} ")), "{family} has no HELP");
    }
}

#[test]
fn every_metric_of_the_contract_is_on_the_page_from_the_start() {
    let server = Server::start();
    let page = server.metrics();
    let names = [
        "http_requests_total",
        "valid_requests_processed_total",
        "http_responses_total{code=\"200\"}",
        "request_duration_seconds_bucket{le=\"0.0001\"}",
        "request_duration_seconds_bucket{le=\"10\"}",
        "request_duration_seconds_sum",
        "request_body_bytes_total",
        "audit_lines_total{kind=\"AdmissionReview\"}",
        "audit_lines_total{kind=\"Event\"}",
        "audit_line_bytes_max",
        "append_errors_total{reason=\"no_space\"}",
        "log_bytes_written_total",
        "log_file_bytes",
        "log_rotations_total",
        "log_rotation_errors_total",
        "tls_handshakes_total",
        "tls_handshake_failures_total{reason=\"unknown_ca\"}",
        "tls_handshake_failures_total{reason=\"bad_certificate\"}",
        "tls_handshake_failures_total{reason=\"certificate_expired\"}",
        "tls_handshake_failures_total{reason=\"not_tls\"}",
        "tls_handshake_failures_total{reason=\"eof\"}",
        "tls_handshake_failures_total{reason=\"timeout\"}",
        "certificate_expiry_timestamp_seconds",
        "certificate_reloads_total{result=\"success\"}",
        "connections{listener=\"https\"}",
        "connections_evicted_total{kind=\"unproven\"}",
        "inflight_body_bytes",
        concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
    ];
    for name in names {
        let series = format!("kube_audit_rest_{name}");
        assert!(page.contains_key(&series), "{series} is missing");
    }
    let process = |name: &str| page[&format!("process_{name}")];
    assert!(process("cpu_seconds_total") >= 0.0);
    assert!(process("resident_memory_bytes") > 100_000.0);
    assert!(process("virtual_memory_bytes") > process("resident_memory_bytes"));
    assert!(process("open_fds") >= 5.0 && process("open_fds") < 100.0);
    assert!(process("max_fds") > process("open_fds"));
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = process("start_time_seconds");
    assert!((now - 60.0..now + 2.0).contains(&started), "{started} {now}");
    // What the test's certificates say, not a day more or less: they end on 2999-12-31.
    let expiry = page["kube_audit_rest_certificate_expiry_timestamp_seconds"];
    assert_eq!(expiry, 32_503_593_600.0);
}

#[test]
fn the_process_lives_and_is_ready() {
    let server = Server::start();
    let mut client = server.connect_metrics();
    for path in ["/healthz", "/readyz", "/healthz?verbose", "/metrics?x"] {
        let response = client.exchange(&get(path));
        assert_eq!(response.status, 200, "{path}");
        assert!(!response.body.is_empty());
        assert!(!response.closes());
    }
}

#[test]
fn head_gives_the_head_that_get_gives_and_no_body() {
    let server = Server::start();
    let mut client = server.connect_metrics();
    for path in ["/healthz", "/readyz", "/metrics"] {
        client.send(&request("HEAD", path, &[HOST], b""));
        let head = client.head();
        assert_eq!(head.status, 200);
        let length = head.header("Content-Length").unwrap().to_owned();
        let whole = client.exchange(&get(path));
        assert_eq!(head.header("Content-Type"), whole.header("Content-Type"));
        if path != "/metrics" {
            assert_eq!(length, whole.body.len().to_string());
        }
    }
    client.send(&request("HEAD", "/nowhere", &[HOST], b""));
    assert_eq!(client.head().status, 404);
    assert_eq!(client.exchange(&get("/healthz")).status, 200);
}

#[test]
fn other_paths_and_methods_are_refused() {
    let server = Server::start();
    let mut client = server.connect_metrics();
    for path in ["/", "/log-request", "/audit-events", "/metrics/", "/debug/pprof/"] {
        assert_refusal(path, &client.exchange(&get(path)), &[404]);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let length = [HOST, ("Content-Length", "3")];
        let mut client = server.connect_metrics();
        let response = client.exchange(&request(method, "/metrics", &length, b"abc"));
        assert_refusal(method, &response, &[405]);
        assert_eq!(response.header("Allow"), Some("GET, HEAD"));
        // A body has no business here.
        assert!(response.closes());
        client.expect_end();
    }
    let response = client.exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, 404);
    assert_eq!(server.lines().len(), 0);
    // These are not requests to the audit ports.
    let page = server.metrics();
    assert_eq!(page["kube_audit_rest_http_requests_total"], 0.0);
}

#[test]
fn hostile_bytes_on_the_metrics_port_are_refused_as_on_any_other() {
    let server = Server::start();
    let bad: [&[u8]; 7] = [
        b"GET /metrics HTTP/1.1\n\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /metrics HTTP/3.0\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n",
        &[b'A'; 20_000],
    ];
    for bytes in bad {
        let mut client = server.connect_metrics();
        let _ = client.try_send(bytes);
        let response = client.response();
        assert_refusal("hostile", &response, &[400, 431, 505]);
        client.expect_end();
    }
    let large = "x".repeat(200_000);
    let mut client = server.connect_metrics();
    let headers = [HOST, ("Content-Length", "200000")];
    let _ = client.try_send(&request("GET", "/healthz", &headers, large.as_bytes()));
    let response = client.response();
    assert!(matches!(response.status, 200 | 400 | 413), "{response:?}");
    assert_eq!(server.connect_metrics().exchange(&get("/healthz")).status, 200);
}

#[test]
fn a_probe_that_announces_a_body_is_answered_at_once_and_its_connection_closed() {
    let server = Server::start();
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut client = server.connect_metrics();
        client.send(&request("GET", "/healthz", &[HOST, ("Content-Length", "100")], b"x"));
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(response.closes());
        held.push(client);
    }
    assert_eq!(server.connect_metrics().exchange(&get("/healthz")).status, 200);
}

#[test]
fn clients_that_read_no_answers_do_not_shut_a_probe_out() {
    use std::io::Write as _;
    let server = Server::start();
    let many = get("/metrics").repeat(2_000);
    let held: Vec<_> = (0..100)
        .map(|_| {
            let mut tcp = std::net::TcpStream::connect(server.metrics_address()).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let _ = tcp.write(&many);
            tcp
        })
        .collect();
    let start = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(server.connect_metrics().exchange(&get("/readyz")).status, 200);
    }
    // If readers could not be made to give way, each of the twenty probes might have to wait for their ten seconds.
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    drop(held);
}
