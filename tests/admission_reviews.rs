//! The main job: a review comes in, the API server is answered, and one line stands in the log. On everything that was
//! recorded from a real API server, however it is formatted, framed and carried.

mod common;

use std::thread;
use std::time::SystemTime;

use common::json::{assert_line_of, assert_line_with_source, spread};
use common::{Client, Response, Server, Setup, chunked, corpus, post, request};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite};

/// Asserts the answer that allows the request, byte for byte.
fn assert_allowed(response: &Response, uid: &str, version: &str) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let uid = serde_json::Value::from(uid);
    let expected = format!(
        r#"{{"apiVersion":"admission.k8s.io/{version}","kind":"AdmissionReview","response":{{"uid":{uid},"allowed":true}}}}"#
    );
    assert_eq!(response.text(), expected);
}

/// Asserts that the log holds the lines of these bodies in this order, and nothing else.
fn assert_recorded(server: &Server, bodies: &[Vec<u8>]) {
    let lines = server.lines();
    assert_eq!(lines.len(), bodies.len());
    for (line, body) in lines.iter().zip(bodies) {
        assert_line_of(line, body);
    }
}

/// Posts every body on one connection, framed by `frame`, and checks answers and log.
fn play(bodies: &[Vec<u8>], frame: impl Fn(&[u8]) -> Vec<u8>) {
    let server = Server::start();
    let mut client = server.connect();
    for body in bodies {
        let response = client.exchange(&frame(body));
        assert_allowed(&response, &corpus::uid(body), "v1");
        assert_eq!(response.version, "HTTP/1.1");
        assert!(!response.closes());
    }
    assert_recorded(&server, bodies);
}

fn chunked_post(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let headers = [("Host", "localhost"), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    request("POST", "/log-request", &headers, &chunked(body, sizes))
}

/// The POST of a review with one more header.
fn post_with(header: (&str, &str), body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers =
        [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", length.as_str()), header];
    request("POST", "/log-request", &headers, body)
}

#[test]
fn every_recorded_review_is_answered_and_recorded_byte_for_byte() {
    play(&corpus::reviews(), |body| post("/log-request?timeout=1s", body));
}

#[test]
fn every_shape_that_the_recording_lacks_is_answered_and_recorded_byte_for_byte() {
    let bodies = corpus::review_shapes();
    assert_eq!(bodies.len(), 7);
    play(&bodies, |body| post("/log-request?timeout=10s", body));
    play(&bodies, |body| chunked_post(body, &[1, 2, 3, 5, 1000]));
    let server = Server::start();
    for body in &bodies {
        let response = server.connect().exchange(&post("/log-request", &spread(body)));
        assert_allowed(&response, &corpus::uid(body), "v1");
    }
    assert_recorded(&server, &bodies);
}

#[test]
fn an_object_as_deep_as_go_takes_it_is_recorded() {
    let bodies = [9_999, 10_000].map(|depth| {
        let object = format!("{{\"spec\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"deep","operation":"CREATE","object":{object}}}}}"#
        )
        .into_bytes()
    });
    play(&bodies, |body| post("/log-request", body));
}

#[test]
fn a_review_with_bytes_that_are_not_utf8_is_refused_since_no_api_server_sends_one() {
    let server = Server::start();
    let body = corpus::review("u");
    let at = body.windows(6).position(|window| window == b"CREATE").unwrap();
    let body = [&body[..at], b"\xff", &body[at..]].concat();
    let response = server.connect().exchange(&post("/log-request", &body));
    assert_eq!(response.status, 400);
    assert_eq!(response.text().trim_end(), format!("the body is not JSON: not UTF-8 at byte {at}"));
    assert!(server.lines().is_empty());
}

#[test]
fn every_recorded_review_spread_out_with_white_space_gives_the_same_line() {
    let server = Server::start();
    let mut client = server.connect();
    let bodies = corpus::reviews();
    for body in &bodies {
        let response = client.exchange(&post("/log-request", &spread(body)));
        assert_allowed(&response, &corpus::uid(body), "v1");
    }
    assert_recorded(&server, &bodies);
}

#[test]
fn every_recorded_review_cut_into_chunks_at_awkward_places_gives_the_same_line() {
    play(&corpus::reviews(), |body| chunked_post(body, &[1, 2, 3, 5, 4095, 4096, 4097, 16_383, 16_385]));
}

#[test]
fn chunks_of_one_byte_sent_one_piece_at_a_time_give_the_same_line() {
    let server = Server::start();
    let body = corpus::reviews().swap_remove(0);
    let mut client = server.connect();
    for piece in chunked_post(&body, &[1]).chunks(5) {
        client.send(piece);
    }
    assert_allowed(&client.response(), &corpus::uid(&body), "v1");
    assert_recorded(&server, &[body]);
}

#[test]
fn all_reviews_sent_before_the_first_answer_is_read_are_answered_in_order() {
    let server = Server::start();
    let bodies = corpus::reviews();
    let mut client = server.connect();
    let requests: Vec<u8> = bodies.iter().flat_map(|body| post("/log-request", body)).collect();
    client.send(&requests);
    for body in &bodies {
        assert_allowed(&client.response(), &corpus::uid(body), "v1");
    }
    assert_recorded(&server, &bodies);
}

#[test]
fn sixteen_connections_at_once_record_every_review_exactly_once() {
    let server = Server::start();
    let bodies = corpus::reviews();
    thread::scope(|scope| {
        for worker in 0..16 {
            let (server, bodies) = (&server, &bodies);
            scope.spawn(move || {
                let mut client = server.connect();
                for body in bodies.iter().skip(worker).step_by(16) {
                    let response = client.exchange(&post("/log-request", body));
                    assert_allowed(&response, &corpus::uid(body), "v1");
                }
            });
        }
    });
    let mut lines = server.lines();
    let mut bodies = bodies;
    let by_uid = |line: &Vec<u8>| corpus::uid(line);
    lines.sort_by_cached_key(by_uid);
    bodies.sort_by_cached_key(by_uid);
    assert_eq!(lines.len(), bodies.len());
    for (line, body) in lines.iter().zip(&bodies) {
        assert_line_of(line, body);
    }
}

#[test]
fn both_tls_versions_carry_requests_and_offer_http_1_1() {
    let server = Server::start();
    for version in [&TLS12, &TLS13] {
        let config = server.setup().authority().trust_with(&[version], &[b"h2", b"http/1.1"]);
        let mut client = Client::tls(server.https(), &config);
        assert_eq!(client.session().protocol_version(), Some(version.version));
        assert_eq!(client.session().alpn_protocol(), Some(b"http/1.1".as_slice()));
        let response = client.exchange(&post("/log-request", &corpus::review("u")));
        assert_allowed(&response, "u", "v1");
        client.finish();
        client.expect_end();
    }
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn of_the_cipher_suites_that_a_client_offers_our_first_one_counts() {
    let server = Server::start();
    let provider = rustls::crypto::ring::default_provider();
    for (wanted, version) in [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, &TLS13),
        (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, &TLS12),
    ] {
        let of_version = |suite: &SupportedCipherSuite| suite.version() == version;
        let mut suites: Vec<_> = provider.cipher_suites.iter().copied().filter(of_version).collect();
        for _ in 0..suites.len() {
            suites.rotate_left(1);
            let offered = CryptoProvider { cipher_suites: suites.clone(), ..provider.clone() };
            let mut client = Client::tls(server.https(), &server.setup().authority().trust_through(offered));
            let response = client.exchange(&post("/log-request", &corpus::review("u")));
            assert_eq!(response.status, 200);
            let negotiated = client.session().negotiated_cipher_suite().unwrap().suite();
            assert_eq!(negotiated, wanted);
        }
    }
}

#[test]
fn a_client_that_offers_no_alpn_is_served() {
    let server = Server::start();
    let config = server.setup().authority().trust_with(rustls::ALL_VERSIONS, &[]);
    let mut client = Client::tls(server.https(), &config);
    let response = client.exchange(&post("/log-request", &corpus::review("u")));
    assert_allowed(&response, "u", "v1");
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_to_stay() {
    let server = Server::start();
    let body = corpus::review("u");
    let ask = |more: &str| {
        let mut bytes = format!(
            "POST /log-request HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{more}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    };
    let mut client = server.connect();
    assert_allowed(&client.exchange(&ask("")), "u", "v1");
    client.expect_end();

    let mut client = server.connect();
    let response = client.exchange(&ask("Connection: keep-alive\r\n"));
    assert_allowed(&response, "u", "v1");
    if response.header("Connection") == Some("keep-alive") {
        assert_allowed(&client.exchange(&ask("")), "u", "v1");
    }
    client.expect_end();
}

#[test]
fn a_client_that_asks_to_close_is_answered_and_closed() {
    let server = Server::start();
    let mut client = server.connect();
    let body = corpus::review("u");
    let response = client.exchange(&post_with(("Connection", "close"), &body));
    assert_allowed(&response, "u", "v1");
    assert!(response.closes());
    client.expect_end();
}

#[test]
fn expect_100_continue_is_answered_before_the_body_comes() {
    let server = Server::start();
    let mut client = server.connect();
    let body = corpus::reviews().swap_remove(1);
    for _ in 0..2 {
        let post = post_with(("Expect", "100-Continue"), &body);
        client.send(post.strip_suffix(body.as_slice()).unwrap());
        assert_eq!(client.head().status, 100);
        client.send(&body);
        assert_allowed(&client.response(), &corpus::uid(&body), "v1");
    }
    assert_recorded(&server, &[body.clone(), body]);
}

#[test]
fn a_body_that_comes_without_waiting_for_100_continue_is_taken_all_the_same() {
    let server = Server::start();
    let mut client = server.connect();
    let body = corpus::review("u");
    client.send(&post_with(("Expect", "100-continue"), &body));
    let mut response = client.head();
    if response.status == 100 {
        response = client.response();
        assert_allowed(&response, "u", "v1");
    } else {
        assert_eq!(response.status, 200);
    }
    assert_recorded(&server, &[body]);
}

#[test]
fn v1beta1_is_answered_in_v1beta1() {
    let server = Server::start();
    let body = br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}"#;
    let response = server.connect().exchange(&post("/log-request", body));
    assert_allowed(&response, "u", "v1beta1");
    assert_recorded(&server, &[body.to_vec()]);
}

#[test]
fn json_of_every_legal_shape_stands_in_the_line_as_it_came() {
    let deep = format!("{}0{}", "[".repeat(9_000), "]".repeat(9_000));
    let shapes = [
        r#"{"a":1,"a":2,"\u0061":3}"#,
        r"[-0,0,1e400,-1E-400,1.50,1e+300,123456789012345678901234567890]",
        r#""\u0000\ud800\udfff\uD83D\uDE00\/\b\f\n\r\t\"\\""#,
        "\"\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\u{1f600}<>&\"",
        r#"{"":{"request":{"uid":"not this"}},"kind":"not that"}"#,
        r#""}],{[\" : , ""#,
        r#"[[],{},[{}],"",null,true,false]"#,
        &deep,
    ];
    let server = Server::start();
    let mut client = server.connect();
    let bodies: Vec<Vec<u8>> = shapes
        .iter()
        .flat_map(|shape| {
            let first = format!(
                r#"{{"x":{shape},"request":{{"object":{shape},"uid":"u"}},"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}}"#
            );
            let last = format!(
                r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","object":{shape}}},"x":{shape}}}"#
            );
            [first.into_bytes(), last.into_bytes()]
        })
        .collect();
    for body in &bodies {
        assert_allowed(&client.exchange(&post("/log-request", &spread(body))), "u", "v1");
    }
    assert_recorded(&server, &bodies);
}

#[test]
fn a_uid_of_any_characters_comes_back_as_the_same_string() {
    let server = Server::start();
    let mut client = server.connect();
    let uids = ["<&>'", "a\"b\\c", "\u{0}\n\u{1f}", "\u{1f600}", "{}"];
    for uid in uids {
        let response = client.exchange(&post("/log-request", &corpus::review(uid)));
        assert_eq!(response.status, 200);
        assert_eq!(response.json()["response"]["uid"], uid);
    }
}

#[test]
fn the_timestamp_is_when_the_request_came_and_only_ours() {
    let server = Server::start();
    let sent = [
        r#"{"requestReceivedTimestamp":"1970-01-01T00:00:00Z","kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#,
        r#"{"kind":"AdmissionReview","request\u0052eceivedTimestamp":{"a":[1,"}"]},"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#,
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"},"requestReceivedTimestamp":null}"#,
    ];
    let kept = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#;
    let before = rfc3339_now();
    let mut client = server.connect();
    for body in sent {
        let response = client.exchange(&post("/log-request", body.as_bytes()));
        assert_allowed(&response, "u", "v1");
    }
    let after = rfc3339_now();
    let lines = server.lines();
    assert_eq!(lines.len(), sent.len());
    let mut last = before;
    for line in lines {
        let timestamp = assert_line_of(&line, kept);
        assert!(last <= timestamp && timestamp <= after, "{last} {timestamp} {after}");
        last = timestamp;
    }
}

fn rfc3339_now() -> String {
    let now = kube_audit_rest::record::timestamp::rfc3339(SystemTime::now());
    String::from_utf8(now.to_vec()).unwrap()
}

#[test]
fn the_largest_body_that_an_api_server_was_seen_to_send_is_recorded_whole() {
    let server = Server::start();
    let escaped = r"\u003c".repeat((28_304_254 - 200) / 6);
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","object":{{"data":"{escaped}"}}}}}}"#
    )
    .into_bytes();
    let mut client = server.connect();
    for _ in 0..2 {
        assert_allowed(&client.exchange(&post("/log-request", &body)), "u", "v1");
    }
    assert_recorded(&server, &[body.clone(), body]);
}

#[test]
fn with_sources_the_line_names_the_source_just_before_the_timestamp() {
    let (blue, green) = ("0123456789abcdef".repeat(2), "fedcba9876543210".repeat(3));
    let setup = Setup::new();
    let sources = setup.file("sources", &format!("# who may write\nblue {blue}\n\ngreen {green}\n"));
    let server = setup.flag("sources-filename", &sources).start();
    let mut client = server.connect();
    let plain = corpus::review("u");
    let smuggled = br#"{"source":"green","kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","s\u006furce":1,"request":{"uid":"u"}}"#;
    let cleaned = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#;
    for (token, body) in [(&blue, plain.as_slice()), (&green, &plain), (&blue, smuggled)] {
        let response = client.exchange(&post(&format!("/log-request/{token}?timeout=1s"), body));
        assert_allowed(&response, "u", "v1");
    }
    let lines = server.lines();
    assert_eq!(lines.len(), 3);
    assert_line_with_source(&lines[0], &plain, Some("blue"));
    assert_line_with_source(&lines[1], &plain, Some("green"));
    assert_line_with_source(&lines[2], cleaned, Some("blue"));

    let unknown = "0".repeat(32);
    let wrong = [
        "/log-request".to_owned(),
        "/log-request/".to_owned(),
        format!("/log-request/{unknown}"),
        format!("/log-request/{blue}/"),
        format!("/log-request/{}", blue.to_uppercase()),
        format!("/log-request/blue/{blue}"),
        format!("/log-request/{}", &blue[1..]),
    ];
    for path in &wrong {
        let response = client.exchange(&post(path, &plain));
        assert_eq!(response.status, 404, "{path}");
    }
    assert_eq!(server.lines().len(), 3);
    let messages = server.messages().join("\n");
    for secret in [&blue, &green, &unknown] {
        assert!(!messages.contains(secret.as_str()), "{messages}");
    }
}
