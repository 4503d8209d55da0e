//! Audit webhooks: EventLists over TLS and in the clear, one line for each event, as the API server's own log backend
//! would have written it.

mod common;

use std::thread;

use common::json::{assert_line_of, items, line_of_event, spread};
use common::stage::{CHUNKED, HOST, JSON, assert_refusal};
use common::{Client, Response, Server, Setup, chunked, corpus, get, post, request};

fn with_http_port() -> Server {
    Setup::new().flag("http-port", "0").start()
}

fn assert_processed(response: &Response, events: usize) {
    assert_eq!(response.status, 200, "{response:?}");
    let kind = response.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(response.text().trim_end(), format!("processed {events} lines"));
}

/// Plays all recorded lists on one connection and compares the log line for line.
fn play(connect: impl Fn(&Server) -> Client, frame: impl Fn(&[u8]) -> Vec<u8>) {
    let lines = play_lists(&corpus::event_lists(), connect, frame);
    assert!(lines > 400);
}

/// The same with these lists; gives the number of lines.
fn play_lists(lists: &[Vec<u8>], connect: impl Fn(&Server) -> Client, frame: impl Fn(&[u8]) -> Vec<u8>) -> usize {
    let server = with_http_port();
    let mut client = connect(&server);
    let mut expected = Vec::new();
    for list in lists {
        let lines: Vec<Vec<u8>> = items(list).iter().map(|item| line_of_event(item, None)).collect();
        assert_processed(&client.exchange(&frame(list)), lines.len());
        expected.extend(lines);
    }
    let lines = server.lines();
    assert!(lines == expected, "the lines differ");
    let count = lines.len() as f64;
    server.wait_for_metric("audit_lines_total{kind=\"Event\"}", count);
    let longest = lines.iter().map(Vec::len).max().unwrap() + 1;
    server.wait_for_metric("audit_line_bytes_max", longest as f64);
    assert!(server.counts("events_mended_total").is_empty());
    lines.len()
}

#[test]
fn the_splitter_of_these_tests_finds_the_items_that_serde_json_finds() {
    for list in corpus::event_lists() {
        let value: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let found: Vec<serde_json::Value> =
            items(&list).iter().map(|item| serde_json::from_slice(item).unwrap()).collect();
        assert_eq!(value["items"], serde_json::Value::from(found));
    }
}

#[test]
fn every_recorded_list_over_tls_gives_the_lines_of_the_api_servers_own_log() {
    play(Server::connect, |list| post("/audit-events?timeout=30s", list));
}

#[test]
fn every_recorded_list_in_the_clear_gives_the_same_lines() {
    play(Server::connect_http, |list| post("/audit-events", list));
}

#[test]
fn every_shape_that_the_recording_lacks_gives_its_line() {
    let lists = corpus::event_list_shapes();
    assert_eq!(play_lists(&lists, Server::connect, |list| post("/audit-events?timeout=30s", list)), 9);
    assert_eq!(play_lists(&lists, Server::connect_http, |list| post("/", &spread(list))), 9);
}

#[test]
fn a_remote_server_without_a_path_is_served_in_the_clear() {
    play(Server::connect_http, |list| post("/?timeout=30s", list));
}

#[test]
fn every_recorded_list_spread_out_with_white_space_gives_the_same_lines() {
    play(Server::connect, |list| post("/audit-events", &spread(list)));
}

#[test]
fn every_recorded_list_in_chunks_gives_the_same_lines() {
    play(Server::connect_http, |list| {
        let body = chunked(list, &[1, 4095, 3, 16_385]);
        request("POST", "/", &[HOST, JSON, CHUNKED], &body)
    });
}

#[test]
fn where_items_stand_in_the_list_does_not_matter() {
    let server = Server::start();
    let mut client = server.connect();
    let lists = [
        r#"{"items":[{"auditID":"a"}],"metadata":{},"kind":"EventList","apiVersion":"audit.k8s.io/v1"}"#,
        r#"{"kind":"EventList","items":[{"auditID":"a"}],"apiVersion":"audit.k8s.io/v1"}"#,
        r#"{"metadata":{"items":[{"auditID":"b"}]},"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":"a"}]}"#,
        r#"{"\u0069tems":[{"auditID":"a"}],"kind":"EventList","apiVersion":"audit.k8s.io/v1","x":["items"]}"#,
    ];
    for list in lists {
        assert_processed(&client.exchange(&post("/audit-events", list.as_bytes())), 1);
    }
    let expected = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#;
    assert_eq!(server.lines(), vec![expected.to_vec(); lists.len()]);
}

#[test]
fn what_an_item_already_says_of_itself_is_not_said_twice() {
    let server = Server::start();
    let whole = [
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#,
        r#"{"auditID":"a","apiVersion":"audit.k8s.io/v1","kind":"Event"}"#,
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","x":{"kind":1},"auditID":"a","auditID":"b"}"#,
    ];
    let list =
        format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{}, {{}}]}}"#, whole.join("\n, "));
    let response = server.connect().exchange(&post("/audit-events", list.as_bytes()));
    assert_processed(&response, 4);
    let lines = server.lines();
    for (line, item) in lines.iter().zip(whole) {
        assert_eq!(str::from_utf8(line).unwrap(), item);
    }
    assert_eq!(lines[3], br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1"}"#);
}

#[test]
fn a_list_with_no_events_is_answered_and_writes_nothing() {
    let server = Server::start();
    let null = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":null}"#;
    for list in [corpus::event_list(&[]), null.to_vec(), spread(null)] {
        let response = server.connect().exchange(&post("/audit-events", &list));
        assert_processed(&response, 0);
    }
    assert_eq!(server.lines().len(), 0);
}

/// Three good events around one whose patch is this, as the API server copies it.
fn around(patch: &[u8]) -> (Vec<u8>, impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let good =
        |n: usize| format!(r#"{{"level":"Metadata","auditID":"ok-{n}","stage":"ResponseComplete","verb":"get"}}"#);
    let bad = |patch: &[u8]| {
        let before =
            br#"{"level":"Request","auditID":"bad","stage":"ResponseComplete","verb":"patch","requestObject":"#;
        [before, patch, b"}"].concat()
    };
    let all = move |patch: &[u8]| vec![good(0).into_bytes(), good(1).into_bytes(), bad(patch), good(2).into_bytes()];
    let body = [
        br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#,
        &*all(patch).join(&b','),
        b"]}\n",
    ]
    .concat();
    (body, move |mended| all(mended).iter().map(|item| line_of_event(item, None)).collect())
}

#[test]
fn bytes_that_are_not_utf8_cost_their_event_nothing_but_these_bytes_and_its_batch_nothing() {
    let server = with_http_port();
    let patch = b"{\"data\":{\"k\":\"a\xff\xfeb\",\"\xf0\x9f\":[\"\xc3\xa9\xc3\"]}}";
    let mended = "{\"data\":{\"k\":\"a\u{fffd}b\",\"\u{fffd}\":[\"\u{e9}\u{fffd}\"]}}";
    let (list, lines) = around(patch);
    for mut client in [server.connect(), server.connect_http()] {
        for _ in 0..2 {
            assert_processed(&client.exchange(&post("/audit-events", &list)), 4);
        }
    }
    let expected = lines(mended.as_bytes());
    assert_eq!(server.lines(), [&*expected, &expected, &expected, &expected].concat());
    assert_eq!(server.metrics()["kube_audit_rest_events_mended_total{reason=\"not_utf8\"}"], 4.0);
    let message = server.wait_for_message("the mended event", |message| message["msg"] == "events mended");
    assert_eq!((&message["level"], &message["events"], &message["left_out"]), (&"warn".into(), &1.into(), &0.into()));
    assert!(message["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{message}");
    assert!(!server.messages().join("").contains("ok-0"));
}

#[test]
fn a_patch_as_deep_as_go_takes_it_costs_its_batch_nothing() {
    let server = Server::start();
    let patch = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let (list, lines) = around(&patch);
    assert_processed(&server.connect().exchange(&post("/audit-events", &list)), 4);
    assert_eq!(server.lines(), lines(&patch));
}

#[test]
fn a_bare_event_is_a_list_of_one_and_ndjson_is_told_what_is_taken() {
    let server = with_http_port();
    let event = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a"}"#;
    for mut client in [server.connect(), server.connect_http()] {
        for body in [event.to_vec(), spread(event)] {
            assert_processed(&client.exchange(&post("/audit-events", &body)), 1);
        }
        let response = client.exchange(&post("/audit-events", &[event.as_slice(), event].join(&b'\n')));
        assert_refusal("NDJSON", &response, &[400]);
        assert!(response.text().contains("NDJSON"), "{response:?}");
    }
    assert_eq!(server.lines(), vec![event.to_vec(); 4]);
}

#[test]
fn a_list_that_is_not_whole_and_right_writes_nothing_of_it() {
    let server = with_http_port();
    let list = |items: &str| format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{items}}}"#);
    let many = vec![r#"{"auditID":"x"}"#; 400].join(",");
    let twice = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[],"items":[{}]}"#;
    let broken = [
        ("a broken last item", list(&format!("[{many},{{\"auditID\":}}]"))),
        ("a last item that is no object", list(&format!("[{many},7]"))),
        ("a last item cut short", list(&format!("[{many},{{\"auditID\":\"x"))),
        ("a comma too many", list(&format!("[{many},]"))),
        ("something after it", format!("{} {{}}", list(&format!("[{many}]")))),
        ("null as an item", list("[null]")),
        ("an array as an item", list("[[]]")),
        ("items twice", twice.to_owned()),
        ("items twice, once escaped", twice.replacen("items", "it\\u0065ms", 1)),
        ("items absent", list("[]").replace("items", "itemz")),
        ("items an object", list("{}")),
        ("no kind", list("[]").replace(r#""kind":"EventList","#, "")),
        ("another kind", list("[]").replace("EventList", "Event")),
        ("kind twice", list("[]").replacen('{', r#"{"kind":"EventList","#, 1)),
        ("v1beta1", list("[]").replace("k8s.io/v1", "k8s.io/v1beta1")),
        ("v1alpha1", list("[]").replace("k8s.io/v1", "k8s.io/v1alpha1")),
        ("an array", format!("[{}]", list("[]"))),
        ("empty", String::new()),
    ];
    for mut client in [server.connect(), server.connect_http()] {
        for (name, body) in &broken {
            let response = client.exchange(&post("/audit-events", body.as_bytes()));
            assert_refusal(name, &response, &[400]);
            assert!(!response.closes(), "{name}");
            let words = response.text();
            if name.starts_with("v1") {
                assert!(words.contains("audit.k8s.io/v1"), "{name}: {words}");
            }
        }
    }
    assert_eq!(server.lines().len(), 0);
}

#[test]
fn each_kind_at_the_others_path_is_told_the_right_one() {
    let server = with_http_port();
    let (review, list) = (corpus::review("u"), corpus::event_list(&["a"]));
    let mut tls = server.connect();
    let mut plain = server.connect_http();
    for (name, response, path) in [
        ("a list at /log-request", tls.exchange(&post("/log-request", &list)), "/audit-events"),
        ("a review at /audit-events", tls.exchange(&post("/audit-events", &review)), "/log-request"),
        ("a review in the clear", plain.exchange(&post("/audit-events", &review)), "/log-request"),
    ] {
        assert_refusal(name, &response, &[400]);
        assert!(response.text().contains(path), "{name}: {}", response.text());
    }
    assert_eq!(server.lines().len(), 0);
}

#[test]
fn reviews_are_never_taken_in_the_clear() {
    let server = with_http_port();
    let review = corpus::review("u");
    let mut client = server.connect_http();
    let statuses = ["/log-request", "/", "/audit-events"].map(|path| client.exchange(&post(path, &review)).status);
    assert_eq!(statuses, [404, 400, 400]);
    assert_eq!(server.lines().len(), 0);
    // And lists have no path but their own over TLS.
    let list = corpus::event_list(&["a"]);
    let response = server.connect().exchange(&post("/", &list));
    assert_eq!(response.status, 404);
}

#[test]
fn the_http_port_is_closed_unless_it_is_asked_for_and_warned_of_when_it_is() {
    let server = Server::start();
    let listening = |server: &Server| {
        let said = server.messages();
        said.iter().filter(|line| line.contains(r#""msg":"listening""#)).count()
    };
    assert_eq!(listening(&server), 2);
    let server = with_http_port();
    assert_eq!(listening(&server), 3);
    server.wait_for_message("a warning", |message| {
        message["level"] == "warn" && message["msg"].as_str().is_some_and(|msg| msg.contains("--http-port"))
    });
}

#[test]
fn a_source_is_known_by_bearer_token_or_path_on_both_ports() {
    let token = "0123456789abcdef".repeat(2);
    let setup = Setup::new().flag("http-port", "0");
    let sources = setup.file("sources", &format!("blue {token}\n"));
    let server = setup.flag("sources-filename", &sources).start();
    let list = corpus::event_list(&["a"]);
    let length = list.len().to_string();
    let bearing = |path: &str, value: &str| {
        let headers = [HOST, JSON, ("Content-Length", length.as_str()), ("Authorization", value)];
        request("POST", path, &headers, &list)
    };
    let bearer = format!("Bearer {token}");
    let in_path = format!("/audit-events/{token}");
    let other = "f".repeat(32);
    let smuggled = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"source":"green","auditID":"a"}]}"#;
    let mut served = 0;
    for tls in [true, false] {
        let mut client = if tls { server.connect() } else { server.connect_http() };
        let good = [
            bearing("/audit-events", &bearer),
            post(&in_path, &list),
            post(&format!("{in_path}?timeout=30s"), smuggled),
        ];
        for request in &good {
            assert_processed(&client.exchange(request), 1);
            served += 1;
        }
        let bad = [
            post("/audit-events", &list),
            post(&format!("/audit-events/{other}"), &list),
            bearing("/audit-events", &format!("Bearer {other}")),
            bearing("/audit-events", "Bearer "),
            bearing("/audit-events", &format!("Basic {token}")),
            bearing("/audit-events", &token),
            bearing(&format!("/audit-events/{other}"), "Basic x"),
            post(&format!("{in_path}/"), &list),
        ];
        for request in &bad {
            let response = client.exchange(request);
            let request = String::from_utf8_lossy(request);
            assert_eq!(response.status, 404, "{request}");
        }
    }
    // A remote server with no path, or none but the token, in the clear only.
    let mut client = server.connect_http();
    for request in [bearing("/", &bearer), post(&format!("/{token}"), &list)] {
        assert_processed(&client.exchange(&request), 1);
        served += 1;
    }
    let response = client.exchange(&post(&format!("/{other}"), &list));
    assert_eq!(response.status, 404);

    let lines = server.lines();
    let expected = line_of_event(br#"{"level":"Metadata","auditID":"a"}"#, Some("blue"));
    let cleaned = line_of_event(br#"{"auditID":"a"}"#, Some("blue"));
    assert_eq!(lines.len(), served);
    assert!(lines.iter().all(|line| *line == expected || *line == cleaned));
    assert_eq!(lines.iter().filter(|line| **line == cleaned).count(), 2);
    let said = server.messages().join("\n");
    assert!(!said.contains(&token) && !said.contains(&other), "{said}");
    let page = server.metrics();
    let rejected: f64 = page
        .iter()
        .filter(|(series, _)| series.starts_with("kube_audit_rest_source_rejections_total"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(rejected, 17.0);
    assert_eq!(page[r#"kube_audit_rest_source_requests_total{source="blue"}"#], served as f64);
}

#[test]
fn both_kinds_from_sixteen_connections_are_each_recorded_exactly_once() {
    let setup = Setup::new().flag("http-port", "0").flag("logger-max-size", "1").flag("logger-max-backups", "0");
    let server = setup.start();
    let padding = "p".repeat(2000);
    let (rounds, workers) = (40, 16);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (server, padding) = (&server, &padding);
            scope.spawn(move || {
                let mut tls = server.connect();
                let mut plain = server.connect_http();
                for round in 0..rounds {
                    let id = |n: u32| format!("{worker}-{round}-{n}-{padding}");
                    let response = tls.exchange(&post("/log-request", &corpus::review(&id(0))));
                    assert_eq!(response.status, 200);
                    let ids = [id(1), id(2), id(3)];
                    let list = corpus::event_list(&ids.each_ref().map(String::as_str));
                    let client = if worker % 2 == 0 { &mut tls } else { &mut plain };
                    assert_processed(&client.exchange(&post("/audit-events", &list)), 3);
                }
            });
        }
    });
    let mut lines = Vec::new();
    let mut files = 0;
    for entry in std::fs::read_dir(server.log_path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            assert!(path.metadata().unwrap().len() <= 1024 * 1024);
            lines.extend(common::server::lines_of(&path));
            files += 1;
        }
    }
    assert!(files > 4, "{files} files");
    let mut ids: Vec<String> = lines
        .iter()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            let id = value["auditID"].as_str().or(value["request"]["uid"].as_str());
            id.unwrap().to_owned()
        })
        .collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!((all, ids.len()), (all, rounds * workers * 4));
    for line in &lines {
        if line.starts_with(br#"{"kind":"AdmissionReview""#) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_line_of(line, &corpus::review(value["request"]["uid"].as_str().unwrap()));
        }
    }
}

#[test]
fn the_http_port_has_no_pages_of_the_metrics_port() {
    let server = with_http_port();
    let mut client = server.connect_http();
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(client.exchange(&get(path)).status, 404);
    }
    assert_eq!(client.exchange(&get("/")).status, 405);
}
