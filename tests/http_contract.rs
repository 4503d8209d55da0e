//! The answer table of the contract, row by row over real sockets: the status, the words (in the body and in the `error`
//! header), whether the connection stays in use, and that nothing but what was answered 200 stands in the log.

mod common;

use common::stage::{CHUNKED, HOST, JSON, Stage, assert_refusal};
use common::{Server, Setup, chunked, corpus, get, post, request};
use serde_json::Value;

#[test]
fn a_body_that_is_no_review_is_refused_in_words_and_the_connection_stays() {
    let stage = Stage::https();
    let deep = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","x":{}1{}}}}}"#,
        "[".repeat(10_241),
        "]".repeat(10_241)
    );
    let review =
        |members: &str| format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1",{members}}}"#);
    let bodies = [
        ("empty", String::new()),
        ("white space only", " \n".to_owned()),
        ("not JSON", "abc".to_owned()),
        ("a key without quotes", "{a: \"b\"}".to_owned()),
        ("something after it", format!("{} x", review(r#""request":{"uid":"u"}"#))),
        ("two of them", review(r#""request":{"uid":"u"}"#).repeat(2)),
        ("cut short", review(r#""request":{"uid":"u"}"#).trim_end_matches('}').to_owned()),
        ("a byte order mark", format!("\u{feff}{}", review("\"x\":1"))),
        ("a control character in a string", review("\"request\":{\"uid\":\"u\",\"x\":\"\u{1}\"}")),
        ("deeper than 10,000", deep),
        ("8 MB of [", "[".repeat(8 << 20)),
        ("an array", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("another kind", r#"{"kind":"Pod","apiVersion":"v1","request":{"uid":"u"}}"#.to_owned()),
        ("no kind", r#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#.to_owned()),
        (
            "another version",
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v2","request":{"uid":"u"}}"#.to_owned(),
        ),
        ("no request", review(r#""x":1"#)),
        ("request is null", review(r#""request":null"#)),
        ("no uid", review(r#""request":{}"#)),
        ("an empty uid", review(r#""request":{"uid":""}"#)),
        ("uid is a number", review(r#""request":{"uid":7}"#)),
        ("uid is null", review(r#""request":{"uid":null}"#)),
        ("a uid twice", review(r#""request":{"uid":"a","uid":"b"}"#)),
        ("a uid twice, once escaped", review(r#""request":{"uid":"a","u\u0069d":"b"}"#)),
        ("a request twice", review(r#""request":{"uid":"a"},"request":{"uid":"b"}"#)),
        ("a kind twice", review(r#""kind":"AdmissionReview","request":{"uid":"u"}"#)),
        ("an apiVersion twice", review(r#""apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}"#)),
    ];
    for (name, body) in &bodies {
        stage.refuses(name, &post("/log-request", body.as_bytes()), &[400]);
    }
    let invalid: [&[u8]; 4] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"];
    for bytes in invalid {
        let mut body =
            br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","x":""#.to_vec();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\"}}");
        stage.refuses("not UTF-8", &post("/log-request", &body), &[400]);
    }
    stage.assert_nothing_else_recorded();
}

#[test]
fn a_refusal_says_which_of_the_rules_was_broken() {
    let stage = Stage::https();
    let words = |body: &[u8]| {
        let response = stage.refuses("words", &post("/log-request", body), &[400]);
        response.text().trim_end().to_lowercase()
    };
    let broken: [(&[u8], &str); 4] = [
        (b"abc", "json"),
        (br#"{"kind":"Pod","apiVersion":"v1"}"#, "admissionreview"),
        (br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}"#, "uid"),
        (&corpus::event_list(&["x"]), "/audit-events"),
    ];
    for (body, expected) in broken {
        let words = words(body);
        assert!(words.contains(expected), "{words:?} lacks {expected:?}");
    }
}

#[test]
fn only_application_json_is_taken_whatever_its_case_and_parameters() {
    for stage in Stage::both() {
        let length = stage.valid.len().to_string();
        let typed = |kinds: &[&str]| {
            let mut headers = vec![HOST, ("Content-Length", length.as_str())];
            headers.extend(kinds.iter().map(|kind| ("Content-Type", *kind)));
            stage.with(&headers, &stage.valid)
        };
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "application/json ; a=b",
        ] {
            stage.serves(kind, &typed(&[kind]));
        }
        for kind in
            ["text/plain", "application/jsonx", "application/json-patch+json", "application/x-www-form-urlencoded", ""]
        {
            stage.refuses(kind, &typed(&[kind]), &[400]);
        }
        stage.refuses("none", &typed(&[]), &[400]);
        stage.refuses("two", &typed(&["application/json", "text/plain"]), &[400]);
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn a_wrong_path_is_404_and_a_wrong_method_405_with_allow() {
    for stage in Stage::both() {
        for path in [
            "/nowhere",
            "/log-requests",
            "/log-request/",
            "/Audit-events",
            "/audit-events/x",
            "//audit-events",
            "/./audit-events",
            "/%61udit-events",
            "/metrics",
            "/healthz",
        ] {
            stage.refuses(path, &post(path, &stage.valid), &[404]);
        }
        stage.refuses("GET of nowhere", &get("/nowhere"), &[404]);
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post"] {
            let request = request(method, stage.path, &[HOST], b"");
            let response = stage.refuses(method, &request, &[405]);
            assert_eq!(response.header("Allow"), Some("POST"));
        }
        let mut client = stage.connect();
        client.send(&request("HEAD", stage.path, &[HOST], b""));
        let head = client.head();
        assert_eq!((head.status, head.header("Allow")), (405, Some("POST")));
        assert_eq!(client.exchange(&stage.valid_request()).status, 200);
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn a_query_string_is_ignored() {
    for stage in Stage::both() {
        for query in ["?timeout=1s", "?", "?a=b?c=/d", "?%00"] {
            let target = format!("{}{query}", stage.path);
            stage.serves(query, &post(&target, &stage.valid));
        }
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn the_error_body_of_an_unread_request_does_not_upset_the_next_one() {
    for stage in Stage::both() {
        let mut client = stage.connect();
        let mut bytes = post("/nowhere", &stage.valid);
        bytes.extend_from_slice(&stage.valid_request());
        bytes.extend_from_slice(&stage.with(&[HOST, CHUNKED], &chunked(&stage.valid, &[7])));
        bytes.extend_from_slice(&stage.valid_request());
        client.send(&bytes);
        let statuses = [(); 4].map(|()| client.response().status);
        assert_eq!(statuses, [404, 200, 400, 200]);
    }
}

#[test]
fn a_body_over_the_maximum_is_413_and_the_client_can_read_it() {
    let setup = Setup::new().flag("max-request-size", "1").flag("http-port", "0");
    let server = setup.start();
    let megabyte = 1024 * 1024;
    for (name, length) in [("a byte too much", megabyte + 1), ("a lot", 12 * megabyte)] {
        let body = vec![b' '; length];
        for (framing, bytes) in [
            ("Content-Length", post("/log-request", &body)),
            ("chunked", request("POST", "/log-request", &[HOST, JSON, CHUNKED], &chunked(&body, &[60_000]))),
        ] {
            let mut client = server.connect();
            client.try_send(&bytes).unwrap_or_else(|error| panic!("{name}, {framing}: {error}"));
            let response = client.response();
            assert_refusal(name, &response, &[413]);
            assert!(response.closes());
            client.finish();
            client.expect_end();
        }
    }

    let length = usize::MAX.to_string();
    let mut client = server.connect();
    client.send(&request("POST", "/log-request", &[HOST, JSON, ("Content-Length", &length)], b"{"));
    let response = client.response();
    assert_refusal("a length that no body has", &response, &[413]);

    let mut client = server.connect();
    let headers = [HOST, JSON, ("Content-Length", "2000000"), ("Expect", "100-continue")];
    let response = client.exchange(&request("POST", "/log-request", &headers, b""));
    assert_refusal("announced", &response, &[413]);
    assert!(response.closes());

    // One that just fits.
    let mut body = corpus::review("fits");
    body.resize(megabyte, b' ');
    let mut client = server.connect();
    assert_eq!(client.exchange(&post("/log-request", &body)).status, 200);
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn an_encoded_body_is_415_even_where_its_bytes_happen_to_be_json() {
    for stage in Stage::both() {
        for coding in ["gzip", "br", "zstd", "deflate", "x-gzip", "identity, gzip", "aes128gcm"] {
            let response = stage.refuses(coding, &stage.valid_with(&[("Content-Encoding", coding)]), &[415]);
            assert_eq!(response.header("Accept-Encoding"), Some("identity"), "{coding}");
            assert!(response.text().contains("Content-Encoding"), "{coding}");
        }
        // The bytes of an empty gzip member: no JSON, and still told of the coding.
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
        let headers = [HOST, JSON, ("Content-Length", "20"), ("Content-Encoding", "gzip")];
        stage.refuses("gzip", &stage.with(&headers, gzip), &[415]);
        for coding in ["identity", "Identity", ""] {
            stage.serves(coding, &stage.valid_with(&[("Content-Encoding", coding)]));
        }
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn each_refused_request_is_said_with_its_status_reason_and_peer() {
    let setup = Setup::new().flag("http-port", "0").flag("max-request-size", "1");
    let server = setup.start();
    let review = corpus::review("secret");
    let length = review.len().to_string();
    let with = |more: (&str, &str)| {
        request("POST", "/log-request", &[HOST, JSON, ("Content-Length", length.as_str()), more], &review)
    };
    let refused = [
        (post("/log-request", b"[\"secret\"]"), 400, "not an AdmissionReview"),
        (post("/secret", &review), 404, "nothing is served at this path"),
        (get("/log-request"), 405, "this path does not allow this method"),
        (with(("Content-Encoding", "gzip")), 415, "Content-Encoding is not taken: send the body uncompressed"),
        (with(("Expect", "secret")), 417, "only 100-continue can be expected"),
        (with(("Transfer-Encoding", "secret")), 501, "no transfer coding but chunked is known here"),
        (post("/log-request", &vec![b' '; 1024 * 1024 + 1]), 413, "the body is larger than --max-request-size"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400, "malformed request: no Host"),
    ];
    // The metrics port is asked for all kinds of things, and none of them is an event.
    assert_eq!(server.connect_metrics().exchange(&get("/x")).status, 404);
    let mut expected = Vec::new();
    for (request, status, reason) in &refused {
        let mut client = server.connect();
        let response = client.exchange(request);
        assert_eq!(response.status, *status, "{reason}");
        expected.push((status.to_string(), (*reason).to_owned()));
        // Said once the answer is sent; the next one is another thread's.
        server.wait_until_said(r#""msg":"request refused""#, expected.len());
    }
    let mut client = server.connect_http();
    assert_eq!(client.exchange(&post("/audit-events", b"{}")).status, 400);
    expected.push(("400".to_owned(), "not an EventList".to_owned()));
    server.wait_until_said(r#""msg":"request refused""#, expected.len());
    let said: Vec<Value> = server.messages().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said: Vec<&Value> = said.iter().filter(|message| message["msg"] == "request refused").collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pairs: Vec<_> = said.iter().map(|message| (text(&message["status"]), text(&message["reason"]))).collect();
    assert_eq!(pairs, expected);
    for message in said {
        assert_eq!((&message["level"], &message["left_out"]), (&"warn".into(), &0.into()));
        assert!(message["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{message}");
        assert!(!message.to_string().contains("secret"), "{message}");
    }
}

#[test]
fn a_flood_of_refused_requests_is_said_a_few_times_and_counted() {
    let mut server = Server::start();
    let mut client = server.connect();
    for _ in 0..500 {
        assert_eq!(client.exchange(&post("/log-request", b"{}")).status, 400);
    }
    assert!(server.stop().success());
    let said = server.said("request refused");
    assert!((10..500).contains(&said), "{said}");
}

#[test]
fn an_append_that_fails_is_not_said_once_a_request() {
    let mut server = Setup::new().flag("logger-filename", "/dev/full").start();
    for _ in 0..5 {
        assert_eq!(server.connect().exchange(&post("/log-request", &corpus::review("u"))).status, 503);
    }
    server.stop();
    assert_eq!(server.said("request refused"), 0);
}

#[test]
fn a_head_over_16_kib_or_64_headers_is_431() {
    for stage in Stage::both() {
        let value = "v".repeat(16 * 1024);
        let request = stage.valid_with(&[("X-Large", &value)]);
        stage.refuses_and_closes("one large header", &request, &[431]);

        let names: Vec<String> = (0..65).map(|n| format!("X-{n}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        stage.refuses_and_closes("68 headers", &stage.valid_with(&many), &[431]);
        stage.refuses_and_closes("65 headers", &stage.valid_with(&many[..62]), &[431]);
        stage.serves("64 headers", &stage.valid_with(&many[..61]));

        let target = format!("/{}", "t".repeat(20_000));
        let request = post(&target, &stage.valid);
        stage.refuses_and_closes("a very long target", &request, &[414, 431]);
        let request = post(&format!("/{}", "t".repeat(8_000)), &stage.valid);
        stage.refuses("a long target", &request, &[404]);

        // 16 KiB to the byte, with the empty line at its end.
        let head = stage.valid_with(&[("X-Fill", "")]).len() - stage.valid.len();
        let fill = "f".repeat(16 * 1024 - head);
        stage.serves("a full head", &stage.valid_with(&[("X-Fill", &fill)]));
        let over = format!("{fill}f");
        let request = stage.valid_with(&[("X-Fill", &over)]);
        stage.refuses_and_closes("a byte too much", &request, &[431]);

        // No end of line ever comes.
        let endless = vec![b'a'; 40_000];
        stage.refuses_and_closes("no line end", &endless, &[400, 414, 431]);
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn an_expectation_other_than_100_continue_is_417_or_ignored() {
    let stage = Stage::https();
    let mut client = stage.connect();
    let response = client.exchange(&stage.valid_with(&[("Expect", "200-ok")]));
    assert!(matches!(response.status, 200 | 417), "{response:?}");
}

#[test]
fn a_record_that_cannot_be_appended_is_503_and_to_be_tried_again_on_a_new_connection() {
    let server = Setup::new().flag("logger-filename", "/dev/full").flag("http-port", "0").start();
    for (name, mut client, request) in [
        ("a review", server.connect(), post("/log-request", &corpus::review("u"))),
        ("events over TLS", server.connect(), post("/audit-events", &corpus::event_list(&["a", "b"]))),
        ("events in the clear", server.connect_http(), post("/", &corpus::event_list(&["a", "b"]))),
    ] {
        let response = client.exchange(&request);
        assert_refusal(name, &response, &[503]);
        assert_eq!(response.header("Retry-After"), Some("0"));
        assert!(response.closes());
        client.expect_end();
    }
    server.wait_for_metric("http_responses_total{code=\"503\"}", 3.0);
    let page = server.metrics();
    let count = |series: &str| page[&format!("kube_audit_rest_{series}")];
    assert_eq!(count("append_errors_total{reason=\"no_space\"}"), 3.0);
    assert_eq!(count("valid_requests_processed_total"), 0.0);
    let ready = server.connect_metrics().exchange(&get("/readyz"));
    assert_eq!(ready.status, 503);
    assert_eq!(ready.text().lines().count(), 1, "{}", ready.text());
}

#[test]
fn while_draining_requests_are_served_with_connection_close_and_readyz_says_so() {
    let mut server = Setup::new().flag("shutdown-delay", "600").start();
    let mut early = server.connect();
    let request = post("/log-request", &corpus::review("u"));
    assert!(!early.exchange(&request).closes());
    server.signal(rustix::process::Signal::TERM);
    server.wait_for_message("the shutdown", |message| message["msg"] == "shutdown begun");
    let ready = server.connect_metrics().exchange(&get("/readyz"));
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("draining"), "{}", ready.text());
    for mut client in [early, server.connect()] {
        let response = client.exchange(&request);
        assert_eq!(response.status, 200);
        assert!(response.closes());
        client.expect_end();
    }
    // The second one cuts the delay short.
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(server.lines().len(), 3);
}
