//! How it ends: what is served on, what is finished, what is closed and in which order. An event that was sent to it is
//! never missing from the log because it was told to stop.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::json::assert_line_of;
use common::{Client, Response, Server, Setup, corpus, eventually, get, post, request};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

/// The server with a plain HTTP port, and this many seconds of `--shutdown-delay`.
fn start(delay: &str) -> Server {
    Setup::new().flag("http-port", "0").flag("shutdown-delay", delay).start()
}

/// Sends an order to end and waits until it is taken.
fn order(server: &Server, signal: Signal) {
    server.signal(signal);
    server.wait_for_message("the shutdown", |message| message["msg"] == "shutdown begun");
}

fn assert_ended(server: &mut Server) -> Value {
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    server.wait_for_message("the end", |message| message["msg"] == "shutdown ended")
}

fn wait_for_closed_port(address: SocketAddr) {
    eventually("the port to close", || {
        let connected = TcpStream::connect(address);
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

fn readyz(server: &Server) -> Response {
    server.connect_metrics().exchange(&get("/readyz"))
}

fn review_request(uid: &str) -> Vec<u8> {
    post("/log-request", &corpus::review(uid))
}

fn event_request(id: &str) -> Vec<u8> {
    post("/audit-events", &corpus::event_list(&[id]))
}

/// A request whose head the server has read and whose body has not come: it has said so with 100 Continue.
fn begin(client: &mut Client, path: &str, body: &[u8]) {
    let headers = [
        ("Host", "localhost"),
        ("Content-Type", "application/json"),
        ("Content-Length", &body.len().to_string()),
        ("Expect", "100-continue"),
    ];
    client.send(&request("POST", path, &headers, b""));
    assert_eq!(client.head().status, 100);
}

/// How often each uid stands in the log. Every line must be whole.
fn times_recorded(server: &Server, uid: &str) -> usize {
    let wanted = format!(r#""uid":"{uid}""#);
    let lines = server.lines().into_iter().map(String::from_utf8);
    lines.filter(|line| line.as_ref().unwrap().contains(&wanted)).count()
}

#[test]
fn during_the_delay_it_is_not_ready_and_serves_as_before_but_says_close() {
    let mut server = start("3");
    let (mut https, mut http) = (server.connect(), server.connect_http());
    assert!(!https.exchange(&review_request("before")).closes());
    assert!(!http.exchange(&event_request("before")).closes());
    assert_eq!(readyz(&server).status, 200);

    let ordered = Instant::now();
    order(&server, Signal::TERM);
    let ready = readyz(&server);
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("draining"), "{}", ready.text());
    let healthy = server.connect_metrics().exchange(&get("/healthz"));
    assert_eq!(healthy.status, 200);
    // That is no order to end, and so no reason to hurry.
    server.signal(Signal::HUP);

    for (client, request) in [
        (&mut https, review_request("old")),
        (&mut server.connect(), review_request("new")),
        (&mut http, event_request("old")),
        (&mut server.connect_http(), event_request("new")),
    ] {
        let response = client.exchange(&request);
        assert_eq!(response.status, 200);
        assert!(response.closes(), "{response:?}");
        client.expect_end();
    }
    for (request, status) in
        [(post("/log-request", b"no JSON"), 400), (post("/elsewhere", b"{}"), 404), (get("/log-request"), 405)]
    {
        let mut client = server.connect();
        let response = client.exchange(&request);
        assert_eq!(response.status, status);
        assert!(response.closes(), "{response:?}");
        client.expect_end();
    }

    wait_for_closed_port(server.https());
    assert!(ordered.elapsed() >= Duration::from_secs(3));
    let end = assert_ended(&mut server);
    assert_eq!(end["requests_while_draining"], 4, "{end}");
    assert_eq!(end["unfinished_requests"], 0, "{end}");
    assert_eq!(end["hurried"], false, "{end}");
    assert_eq!(server.lines().len(), 6);
}

#[test]
fn without_a_delay_the_ports_close_at_once_and_what_is_in_flight_is_finished_and_answered() {
    let mut server = start("0");
    let large = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"large","object":"{}"}}}}"#,
        "x".repeat(3_000_000)
    )
    .into_bytes();
    let small = corpus::review("small");
    let events = corpus::event_list(&["a", "b"]);
    let mut requests = [
        (server.connect(), "/log-request", &large),
        (server.connect(), "/log-request", &small),
        (server.connect_http(), "/audit-events", &events),
    ];
    for (client, path, body) in &mut requests {
        begin(client, path, body);
        client.send(&body[..body.len() / 2]);
    }
    order(&server, Signal::TERM);
    wait_for_closed_port(server.https());
    // It says that it is not ready for as long as anything is in flight.
    assert_eq!(readyz(&server).status, 503);
    for (client, _, body) in &mut requests {
        client.send(&body[body.len() / 2..]);
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(response.closes(), "{response:?}");
        client.expect_end();
    }
    drop(requests);
    let end = assert_ended(&mut server);
    assert_eq!(end["requests_while_draining"], 3, "{end}");
    assert_eq!(end["unfinished_requests"], 0, "{end}");
    let lines = server.lines();
    assert_eq!(lines.len(), 4);
    assert_line_of(&lines[0], &large);
    assert_line_of(&lines[1], &small);
}

#[test]
fn a_request_that_meets_the_closing_of_its_idle_connection_is_recorded_although_it_cannot_be_answered() {
    let mut server = start("0");
    let trust = |version| server.setup().authority().trust_with(&[version], &[]);
    let (tls12, tls13) = (trust(&TLS12), trust(&TLS13));
    let connect_tls12 = || Client::tls(server.https(), &tls12);
    let connect_tls13 = || Client::tls(server.https(), &tls13);
    let connect_http = || server.connect_http();
    let connect: [&dyn Fn() -> Client; 3] = [&connect_tls12, &connect_tls13, &connect_http];
    let mut clients = Vec::new();
    for (way, connect) in connect.iter().enumerate() {
        let request = if way == 2 { event_request } else { review_request };
        // Between two requests, not yet used, and with half of a head sent.
        let mut used = connect();
        assert_eq!(used.exchange(&request("before")).status, 200);
        clients.push((used, request(&format!("used-{way}")), 0));
        clients.push((connect(), request(&format!("unused-{way}")), 0));
        let mut half = connect();
        assert_eq!(half.exchange(&request("before")).status, 200);
        half.send(&request(&format!("half-{way}"))[..30]);
        clients.push((half, request(&format!("half-{way}")), 30));
    }
    let expected = clients.len();
    order(&server, Signal::TERM);
    thread::scope(|scope| {
        for (mut client, request, sent) in clients {
            scope.spawn(move || {
                // close_notify and FIN come first: from here on an HTTP client knows not to use it.
                client.expect_end();
                client.send(&request[sent..]);
                // Nothing is answered; the connection is closed for good.
                assert!(client.try_response().is_err());
            });
        }
    });
    let end = assert_ended(&mut server);
    assert_eq!(end["requests_while_draining"], expected, "{end}");
    assert_eq!(end["idle_connections_closed"], expected, "{end}");
    let lines = server.lines().into_iter().map(String::from_utf8);
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    for way in 0..3 {
        for state in ["used", "unused", "half"] {
            let uid = format!(r#":"{state}-{way}""#);
            let count = lines.iter().filter(|line| line.contains(&uid)).count();
            assert_eq!(count, 1, "{uid}: {lines:#?}");
        }
    }
}

/// The uids of the reviews in the log, sorted. Each must be there once.
fn recorded_once(server: &Server) -> Vec<String> {
    let lines = server.lines();
    let mut uids: Vec<String> = lines.iter().map(|line| corpus::uid(line)).collect();
    uids.sort_unstable();
    assert!(uids.is_sorted_by(|one, next| one < next), "a line is there twice");
    uids
}

/// A way to `server` on which each piece takes 50 ms in either direction. Its threads end with the connections.
fn far_way(server: SocketAddr) -> SocketAddr {
    fn carry(mut from: TcpStream, mut to: TcpStream) {
        let mut piece = [0; 16 * 1024];
        while let Ok(length) = from.read(&mut piece) {
            thread::sleep(Duration::from_millis(50));
            if length == 0 || to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            for socket in [&client, &server] {
                socket.set_nodelay(true).unwrap();
            }
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || carry(client, forth));
            thread::spawn(move || carry(server, back));
        }
    });
    address
}

/// A client looks whether its connection has ended, as Go's pool does, then writes. What it writes before the end has
/// come to it meets a connection that is closed already.
#[test]
fn whatever_was_sent_before_the_client_could_know_of_the_end_is_recorded() {
    let mut unanswered = 0;
    let mut sent = 0;
    for _ in 0..4 {
        let mut server = start("0");
        let way = far_way(server.https());
        let count = AtomicUsize::new(0);
        let requests = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for writer in 0..32_usize {
                let (server, count, requests) = (&server, &count, &requests);
                let trust = server.setup().authority().trust();
                scope.spawn(move || {
                    let mut client = Client::tls(way, &trust);
                    for number in 0_usize.. {
                        let uid = format!("{writer}.{number}");
                        let looked = Instant::now();
                        if !client.is_quiet() || client.try_send(&review_request(&uid)).is_err() {
                            return;
                        }
                        if looked.elapsed() > Duration::from_millis(500) {
                            // This machine has other things to do.
                            return;
                        }
                        let response = client.try_response();
                        requests.lock().unwrap().push((uid, response.is_ok()));
                        count.fetch_add(1, Ordering::Relaxed);
                        if response.map_or(true, |response| response.closes()) {
                            return;
                        }
                        // Idle for half the time.
                        let pause = (writer * 7 + number * 13) % 199;
                        thread::sleep(Duration::from_millis(pause as u64));
                    }
                });
            }
            eventually("some requests", || (count.load(Ordering::Relaxed) > 100).then_some(()));
            server.signal(Signal::TERM);
        });
        assert_ended(&mut server);
        let recorded = recorded_once(&server);
        for (uid, answered) in requests.into_inner().unwrap() {
            let found = recorded.binary_search(&uid).is_ok();
            assert!(found, "{uid} is lost, answered: {answered}");
            unanswered += usize::from(!answered);
            sent += 1;
        }
    }
    assert!(unanswered > 0, "no request met the closing of its connection");
    println!("{sent} requests sent amid 4 ends, all recorded, {unanswered} of them not answered");
}

#[test]
fn connections_that_the_kernel_has_queued_when_the_order_comes_are_served() {
    let mut server = start("0");
    let config = server.setup().authority().trust();
    // Nothing is accepted from here on, and the order comes before all that is queued.
    server.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::tls_not_yet(server.https(), &config)).collect();
    let mut plain: Vec<Client> = (0..20).map(|_| server.connect_http()).collect();
    for (number, client) in plain.iter_mut().enumerate() {
        client.send(&event_request(&number.to_string()));
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let response = client.exchange(&review_request(&format!("queued-{number}")));
                assert_eq!(response.status, 200);
                client.expect_end();
            });
        }
    });
    for client in &mut plain {
        assert_eq!(client.response().status, 200);
    }
    drop((clients, plain));
    assert_ended(&mut server);
    assert_eq!(server.lines().len(), 40);
    for number in 0..20 {
        assert_eq!(times_recorded(&server, &format!("queued-{number}")), 1);
    }
}

#[test]
fn a_handshake_under_way_when_the_order_comes_is_completed_and_its_first_request_answered() {
    let mut server = start("0");
    let config = server.setup().authority().trust();
    let mut client = Client::tls_not_yet(server.https(), &config);
    // Until the server has taken it.
    server.wait_for_metric(r#"connections{listener="https"}"#, 1.0);
    order(&server, Signal::TERM);
    wait_for_closed_port(server.https());
    // A slow network, in both pauses.
    thread::sleep(Duration::from_millis(1_200));
    client.shake_hands();
    thread::sleep(Duration::from_millis(300));
    let response = client.exchange(&review_request("late"));
    assert_eq!(response.status, 200);
    assert!(response.closes());
    client.expect_end();
    drop(client);
    let end = assert_ended(&mut server);
    assert_eq!(end["unfinished_requests"], 0, "{end}");
    assert_eq!(times_recorded(&server, "late"), 1);
}

/// An API server's handshake takes milliseconds; nobody else holds up the end for the ten seconds that a handshake has.
#[test]
fn handshakes_that_carry_no_request_do_not_hold_up_the_end() {
    let mut server = start("0");
    let hello = server.client_hello();
    let mut held: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(server.https()).unwrap()).collect();
    // Some say nothing, some half of a hello.
    for tcp in held.iter_mut().step_by(2) {
        tcp.write_all(&hello[..hello.len() / 2]).unwrap();
    }
    server.wait_for_metric(r#"connections{listener="https"}"#, 60.0);
    order(&server, Signal::TERM);
    let end = assert_ended(&mut server);
    assert_eq!(end["unfinished_requests"], 0, "{end}");
    assert!(end["milliseconds"].as_u64().unwrap() < 6_000, "{end}");
    drop(held);
}

/// New keys that a client asked for are announced with whatever is sent next: a reply by the thread that serves the
/// connection, or close_notify by the one that ends the program. Records on the wire in another order than they were
/// encrypted in would not decrypt.
#[test]
fn the_answer_to_a_key_update_and_the_end_of_its_connection_do_not_change_places() {
    let (count, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for _ in 0..4 {
        let mut server = start("0");
        let before = count.load(Ordering::Relaxed);
        thread::scope(|scope| {
            for number in 0..48 {
                let (count, ends) = (&count, &ends);
                // Before the end, however late its thread comes to run.
                let mut client = server.connect();
                scope.spawn(move || {
                    let request = review_request(&format!("keys-{number}"));
                    let ended = loop {
                        let response = client.try_send(&request).and_then(|()| client.try_response());
                        match response.and_then(|_| client.try_new_keys()) {
                            Ok(()) => count.fetch_add(1, Ordering::Relaxed),
                            Err(error) => break error,
                        };
                        if number % 2 == 0 {
                            thread::sleep(Duration::from_millis(number));
                        }
                    };
                    assert_ne!(ended.kind(), ErrorKind::InvalidData, "{ended}");
                    ends.fetch_add(usize::from(ended.kind() == ErrorKind::UnexpectedEof), Ordering::Relaxed);
                });
            }
            eventually("some new keys", || (count.load(Ordering::Relaxed) > before + 500).then_some(()));
            server.signal(Signal::TERM);
        });
        assert_ended(&mut server);
    }
    println!("{count:?} times new keys, {ends:?} ends in order");
}

#[test]
fn sigint_skips_the_delay() {
    let mut server = start("30");
    let mut client = server.connect();
    let body = corpus::review("in-flight");
    begin(&mut client, "/log-request", &body);
    order(&server, Signal::INT);
    wait_for_closed_port(server.https());
    assert_eq!(client.exchange(&body).status, 200);
    client.expect_end();
    drop(client);
    let end = assert_ended(&mut server);
    assert_eq!(end["hurried"], false, "{end}");
    assert!(end["milliseconds"].as_u64().unwrap() < 10_000, "{end}");
}

/// Clients that write without pause, until their connections end. After `interrupt`, which must end the program, all that
/// was answered is in the log exactly once.
fn end_amid_writers(mut server: Server, interrupt: impl Fn(&Server)) -> Value {
    let answered = Mutex::new(Vec::new());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for writer in 0..8 {
            let (server, answered, count) = (&server, &answered, &count);
            scope.spawn(move || {
                for connection in 0.. {
                    let config = server.setup().authority().trust();
                    let Ok(mut client) = Client::try_tls(server.https(), &config) else {
                        return;
                    };
                    for number in 0.. {
                        let uid = format!("{writer}.{connection}.{number}");
                        let sent = client.try_send(&review_request(&uid));
                        let Ok(response) = sent.and_then(|()| client.try_response()) else {
                            return;
                        };
                        assert_eq!(response.status, 200);
                        answered.lock().unwrap().push(uid);
                        count.fetch_add(1, Ordering::Relaxed);
                        if response.closes() {
                            break;
                        }
                    }
                }
            });
        }
        eventually("some writing", || (count.load(Ordering::Relaxed) > 50).then_some(()));
        interrupt(&server);
    });
    let end = assert_ended(&mut server);
    let lines = recorded_once(&server);
    for uid in answered.into_inner().unwrap() {
        assert!(lines.binary_search(&uid).is_ok(), "{uid} is lost");
    }
    end
}

#[test]
fn a_second_signal_in_the_delay_ends_it_at_once_with_the_log_in_order() {
    let server = start("30");
    let mut stuck = server.connect();
    begin(&mut stuck, "/log-request", &corpus::review("stuck"));
    let end = end_amid_writers(server, |server| {
        order(server, Signal::TERM);
        server.signal(Signal::TERM);
    });
    assert_eq!(end["hurried"], true, "{end}");
    assert!(end["unfinished_requests"].as_u64().unwrap() >= 1, "{end}");
    assert!(end["milliseconds"].as_u64().unwrap() < 10_000, "{end}");
}

#[test]
fn a_second_signal_while_requests_are_finished_ends_it_at_once_with_the_log_in_order() {
    let server = start("0");
    let mut stuck = server.connect();
    begin(&mut stuck, "/log-request", &corpus::review("stuck"));
    let end = end_amid_writers(server, |server| {
        order(server, Signal::TERM);
        wait_for_closed_port(server.https());
        server.signal(Signal::INT);
    });
    assert_eq!(end["hurried"], true, "{end}");
    assert!(end["unfinished_requests"].as_u64().unwrap() >= 1, "{end}");
    assert!(end["milliseconds"].as_u64().unwrap() < 10_000, "{end}");
}

#[test]
fn an_order_to_end_amid_writers_loses_nothing_that_was_answered() {
    let end = end_amid_writers(start("0"), |server| order(server, Signal::TERM));
    assert_eq!(end["hurried"], false, "{end}");
    assert_eq!(end["unfinished_requests"], 0, "{end}");
}

#[test]
fn with_nothing_to_drain_it_ends_within_a_second() {
    let mut server = start("0");
    let ordered = Instant::now();
    order(&server, Signal::TERM);
    let end = assert_ended(&mut server);
    println!("idle, from the signal to the end: {:?}, {end}", ordered.elapsed());
    assert!(end["milliseconds"].as_u64().unwrap() < 1_000, "{end}");
}

#[test]
#[ignore = "takes 26 s; .ci/run runs it"]
fn a_body_that_never_comes_holds_the_end_up_for_25_seconds_and_no_longer() {
    let mut server = start("0");
    let mut stuck = server.connect();
    begin(&mut stuck, "/log-request", &corpus::review("stuck"));
    let mut trickling = server.connect_http();
    begin(&mut trickling, "/audit-events", &[b' '; 1000]);
    let ordered = Instant::now();
    order(&server, Signal::TERM);
    while trickling.try_send(b" ").is_ok() && ordered.elapsed() < Duration::from_secs(35) {
        thread::sleep(Duration::from_millis(500));
    }
    let end = assert_ended(&mut server);
    assert_eq!(end["unfinished_requests"], 2, "{end}");
    let took = end["milliseconds"].as_u64().unwrap();
    assert!((25_000..29_000).contains(&took), "{end}");
    assert!(server.lines().is_empty());
}
