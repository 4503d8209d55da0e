//! `--max-connections`: who makes room for a new connection, who never does, and what becomes of a request that was on
//! its way when its connection was closed.

mod common;

use std::fs::File;
use std::io::{self, Read as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use common::attack;
use common::{Client, Server, Setup, corpus, get, post, request};

/// Connections evicted so far, whatever they were.
fn evicted(server: &Server) -> f64 {
    server.counts("connections_evicted_total").values().sum()
}

fn with_cap(cap: usize) -> Server {
    Setup::new().flag("max-connections", &cap.to_string()).start()
}

/// Starts clients that each hold the connection that `dial` gives until it ends, and dial again after `pause`.
fn hold_and_dial_again<'s>(
    scope: &'s Scope<'s, '_>,
    clients: usize,
    pause: Duration,
    ended: &'s AtomicBool,
    dial: &'s (impl Fn() -> io::Result<Client> + Sync),
) {
    for _ in 0..clients {
        let hold = move || {
            while !ended.load(Ordering::Relaxed) {
                let client = dial();
                while !ended.load(Ordering::Relaxed) && client.as_ref().is_ok_and(Client::is_quiet) {
                    thread::sleep(Duration::from_millis(20));
                }
                drop(client);
                thread::sleep(pause);
            }
        };
        thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, hold).unwrap();
    }
}

/// A connection that has carried a valid request.
fn proven(server: &Server) -> Client {
    let mut client = server.connect();
    use_it(&mut client);
    client
}

/// A connection that has carried no valid request, and is surely open on the server's side too.
fn unproven(server: &Server) -> Client {
    let mut client = server.connect();
    assert_eq!(client.exchange(&get("/")).status, 404);
    client
}

fn use_it(client: &mut Client) {
    let response = client.exchange(&post("/log-request", &corpus::review("used")));
    assert_eq!(response.status, 200);
}

/// A request that is surely in progress: the server has asked for its body, which is given beside it.
fn begun(server: &Server, uid: &str) -> (Client, Vec<u8>) {
    let body = corpus::review(uid);
    let mut client = server.connect();
    client.send(&request(
        "POST",
        "/log-request",
        &[
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Content-Length", &body.len().to_string()),
            ("Expect", "100-continue"),
        ],
        b"",
    ));
    assert_eq!(client.head().status, 100);
    (client, body)
}

fn recorded(server: &Server, uid: &str) -> usize {
    let uid = format!(r#""uid":"{uid}""#);
    server.lines().iter().filter(|line| String::from_utf8_lossy(line).contains(&uid)).count()
}

#[test]
fn as_many_connections_as_the_cap_allows_are_all_kept_whether_they_carried_anything_or_not() {
    let server = with_cap(8);
    let mut all: Vec<Client> = (0..8)
        .map(|number| match number % 2 {
            0 => proven(&server),
            _ => server.connect(),
        })
        .collect();
    // Long enough for whatever is done several times a second.
    thread::sleep(Duration::from_millis(1500));
    all.iter_mut().for_each(use_it);
    assert_eq!(evicted(&server), 0.0);
}

/// Longer than a newcomer has for its first request, and than a connection in use is left alone.
const A_SECOND: Duration = Duration::from_millis(1200);

#[test]
fn unproven_connections_that_had_their_second_make_room_before_the_longest_idle() {
    let server = with_cap(4);
    let mut oldest = proven(&server);
    let mut first_unproven = unproven(&server);
    let mut used_again = proven(&server);
    let mut second_unproven = unproven(&server);
    thread::sleep(A_SECOND);

    let mut fifth = proven(&server);
    first_unproven.expect_end();
    let mut sixth = proven(&server);
    second_unproven.expect_end();
    use_it(&mut used_again);
    server.wait_for_metric(r#"connections_evicted_total{kind="unproven"}"#, 2.0);

    // None but proven ones are left.
    let mut seventh = proven(&server);
    oldest.expect_end();
    for client in [&mut used_again, &mut fifth, &mut sixth, &mut seventh] {
        use_it(client);
    }
    server.wait_for_metric(r#"connections_evicted_total{kind="idle"}"#, 1.0);
    assert_eq!(evicted(&server), 3.0);
    server.wait_for_message("an eviction", |message| {
        message["msg"] == "connection evicted to make room"
            && message["kind"] == "unproven"
            && message["peer"].is_string()
    });
}

#[test]
fn newcomers_are_let_in_at_the_cost_of_idle_connections_and_none_of_them_is_cut() {
    const IDLE: usize = 256;
    const NEWCOMERS: usize = 50;
    attack::raise_descriptor_limit();
    let server = with_cap(IDLE);
    let idle: Vec<Client> = (0..IDLE).map(|_| proven(&server)).collect();
    thread::sleep(A_SECOND);
    for round in 1..=5 {
        thread::scope(|scope| {
            for _ in 0..NEWCOMERS {
                scope.spawn(|| use_it(&mut server.connect()));
            }
        });
        // The last that was used is the last to make room.
        assert!(idle.last().is_some_and(Client::is_quiet), "round {round}");
    }
    server.wait_for_metric("connections_evicted_total{kind=\"newcomer\"}", 0.0);
    server.wait_for_metric("tls_handshake_failures_total{reason=\"eof\"}", 0.0);
    let closed = idle.iter().filter(|client| !client.is_quiet()).count();
    let longest_idle = idle.iter().take(closed).filter(|client| !client.is_quiet()).count();
    // A connection is idle once its thread has said so, and on a busy machine a few threads come to that late.
    assert!(closed - longest_idle <= closed / 10 + 1, "{longest_idle} of {closed} closed ones are the longest idle");
    assert_eq!(evicted(&server), closed as f64);
    assert_eq!(recorded(&server, "used"), IDLE + 5 * NEWCOMERS);
}

#[test]
fn ten_newcomers_are_served_among_five_hundred_clients_that_hold_idle_connections_and_dial_again() {
    const CAP: usize = 256;
    attack::raise_descriptor_limit();
    let server = with_cap(CAP);
    let ended = AtomicBool::new(false);
    let dial = || Client::try_tls(server.https(), &server.endpoint().config);
    thread::scope(|scope| {
        hold_and_dial_again(scope, 500, Duration::from_millis(5), &ended, &dial);
        let newcomers = scope.spawn(|| {
            common::eventually("all places to be fought for", || (evicted(&server) > CAP as f64).then_some(()));
            for number in 1..=10 {
                let began = Instant::now();
                attack::newcomer_is_served(&server, &post("/log-request", &corpus::review("newcomer")));
                println!("newcomer {number}: {:.0?}", began.elapsed());
            }
        });
        let newcomers = newcomers.join();
        ended.store(true, Ordering::Relaxed);
        newcomers.expect("ten newcomers that were served");
    });
    println!("evicted: {:?}", server.counts("connections_evicted_total"));
}

#[test]
fn a_connection_whose_handshake_hangs_makes_room_before_one_in_use_and_is_counted_as_evicted() {
    let server = with_cap(2);
    let mut in_use = proven(&server);
    let mut hanging = Client::plain(server.https());
    hanging.send(b"\x16\x03\x01\x02\x00\x01");
    server.wait_for_metric("connections{listener=\"https\"}", 2.0);
    thread::sleep(A_SECOND);
    use_it(&mut in_use);
    use_it(&mut server.connect());
    assert!(hanging.try_end().is_ok());
    use_it(&mut in_use);
    server.wait_for_metric("tls_handshake_failures_total{reason=\"evicted\"}", 1.0);
    assert_eq!(evicted(&server), 1.0);
    assert!(server.messages().iter().all(|line| !line.contains("EOF")), "it is not blamed on the client");
}

#[test]
fn a_body_that_trickles_in_gives_way_with_503_and_is_told_to_try_again() {
    let server = with_cap(2);
    let slow = [begun(&server, "slow-1"), begun(&server, "slow-2")];
    let started = Instant::now();
    use_it(&mut server.connect());
    assert!(started.elapsed() < common::BEFORE_ANY_DEADLINE, "{:?}", started.elapsed());
    server.wait_for_metric(r#"connections_evicted_total{kind="slow"}"#, 1.0);
    let mut told = 0;
    for (mut client, body) in slow {
        client.send(&body[..body.len() / 2]);
        if !client.is_quiet() {
            let response = client.response();
            assert_eq!((response.status, response.header("Retry-After")), (503, Some("0")));
            assert!(response.closes());
            told += 1;
        }
    }
    assert_eq!(told, 1);
    server.wait_for_metric(r#"http_responses_total{code="503"}"#, 1.0);
    server.wait_until_said("not recorded: the body came slowly", 1);
}

#[test]
fn the_body_of_a_refused_request_keeps_nobody_out() {
    let token = "0123456789abcdef0123456789abcdef";
    let setup = Setup::new().flag("max-connections", "4");
    let sources = setup.file("sources", &format!("prod {token}\n"));
    let server = setup.flag("sources-filename", &sources).start();
    let path = format!("/log-request/{token}");
    let attackers: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            let headers = [("Host", "localhost"), ("Content-Length", "1000")];
            client.send(&request("POST", "/nothing", &headers, b"x"));
            client
        })
        .collect();
    let started = Instant::now();
    let response = server.connect().exchange(&post(&path, &corpus::review("honest")));
    assert_eq!(response.status, 200);
    assert!(started.elapsed() < common::BEFORE_ANY_DEADLINE, "{:?}", started.elapsed());
    drop(attackers);
}

#[test]
fn nor_do_such_bodies_when_many_are_sent_and_renewed() {
    const ATTACKERS: usize = 160;
    let server = with_cap(64);
    let ended = AtomicBool::new(false);
    let begin_a_body = || {
        let mut client = Client::try_tls(server.https(), &server.endpoint().config)?;
        let headers = [("Host", "localhost"), ("Content-Length", "1000")];
        client.try_send(&request("POST", "/nothing", &headers, b"x"))?;
        Ok(client)
    };
    thread::scope(|scope| {
        hold_and_dial_again(scope, ATTACKERS, Duration::from_millis(50), &ended, &begin_a_body);
        let honest = scope.spawn(|| {
            common::eventually("all places to be fought for", || (evicted(&server) > 64.0).then_some(()));
            for number in 1..=8 {
                let started = Instant::now();
                use_it(&mut server.connect());
                println!("{number}: {:.0?}", started.elapsed());
                assert!(started.elapsed() < Duration::from_secs(10), "an API server would have given up");
            }
        });
        let honest = honest.join();
        ended.store(true, Ordering::Relaxed);
        honest.expect("honest clients that were served");
    });
}

/// The log is a pipe that nobody reads, so requests that are complete stay in progress.
#[test]
fn a_complete_request_is_never_the_victim_and_a_new_connection_waits_for_the_first_to_end() {
    let setup = Setup::new();
    let fifo = setup.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let path = fifo.to_str().unwrap().to_owned();
    // Reading and writing, so that neither side waits for the other to open it.
    let mut reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let server = setup.flag("max-connections", "2").flag("logger-filename", &path).start();
    let large = |uid: &str| post("/log-request", &corpus::large_review(uid, 150_000));
    thread::scope(|scope| {
        let complete: Vec<_> = ["first", "second"]
            .map(|uid| {
                let mut client = server.connect();
                client.send(&large(uid));
                client
            })
            .into();
        thread::sleep(A_SECOND);
        let third = scope.spawn(|| use_it(&mut server.connect()));
        thread::sleep(Duration::from_millis(500));
        assert!(!third.is_finished(), "there was no room for a third");
        scope.spawn(move || {
            let mut lines = 0;
            let mut piece = vec![0; 64 * 1024];
            while lines < 3 {
                let length = reader.read(&mut piece).unwrap();
                lines += piece[..length].iter().filter(|byte| **byte == b'\n').count();
            }
        });
        for mut client in complete {
            assert_eq!(client.response().status, 200);
        }
        third.join().unwrap();
    });
}

#[test]
fn a_request_that_comes_right_after_its_connection_made_room_is_recorded_though_not_answered() {
    let server = with_cap(1);
    let mut evicted = proven(&server);
    let mut successor = proven(&server);
    evicted.send(&post("/log-request", &corpus::review("on its way")));
    evicted.expect_end();
    common::eventually("the request to be recorded", || (recorded(&server, "on its way") == 1).then_some(()));
    use_it(&mut successor);
    // What could not be answered does not count as processed.
    server.wait_for_metric("valid_requests_processed_total", 3.0);
}

#[test]
fn a_request_sent_in_the_moment_of_an_eviction_is_recorded_exactly_once_answered_or_not() {
    const ROUNDS: usize = 60;
    let server = with_cap(1);
    let mut unanswered = 0;
    for round in 0..ROUNDS {
        let mut client = proven(&server);
        let request = post("/log-request", &corpus::review(&format!("round {round}")));
        thread::scope(|scope| {
            let rival = scope.spawn(|| use_it(&mut server.connect()));
            // The moments around the eviction, one after the other: 100 ms after the last request.
            let until = Instant::now() + Duration::from_micros(98_000 + 250 * (round as u64 % 20));
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            client.send(&request);
            match client.try_response() {
                Ok(response) => assert_eq!(response.status, 200),
                Err(_) => unanswered += 1,
            }
            rival.join().unwrap();
        });
    }
    println!("{unanswered} of {ROUNDS} met the eviction");
    common::eventually("all to be recorded", || {
        (0..ROUNDS).all(|round| recorded(&server, &format!("round {round}")) == 1).then_some(())
    });
}

/// The other side of an eviction: it does not last.
#[test]
fn a_client_that_does_not_close_after_it_made_room_is_cut_within_seconds() {
    let server = with_cap(1);
    let held: Vec<Client> = (0..20).map(|_| unproven(&server)).collect();
    server.wait_for_metric("connections{listener=\"https\"}", 1.0);
    common::eventually("19 to be evicted", || (evicted(&server) == 19.0).then_some(()));
    drop(held);
}
