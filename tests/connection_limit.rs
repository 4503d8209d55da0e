//! `--max-connections`: who makes room for a new connection, who never does, and what becomes of a request that was on
//! its way when its connection was closed.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Client, Server, Setup, corpus, get, post, request};

const EVICTED: &str = "connections_evicted_total";

fn with_cap(cap: usize) -> Server {
    Setup::new().flag("max-connections", &cap.to_string()).start()
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
    server.wait_for_metric(EVICTED, 0.0);
}

#[test]
fn the_longest_idle_makes_room_first_those_that_never_carried_a_valid_request() {
    let server = with_cap(4);
    let mut oldest = proven(&server);
    let mut first_unproven = unproven(&server);
    let mut used_again = proven(&server);
    let mut second_unproven = unproven(&server);

    let mut fifth = proven(&server);
    first_unproven.expect_end();
    let mut sixth = proven(&server);
    second_unproven.expect_end();
    use_it(&mut used_again);
    server.wait_for_metric(EVICTED, 2.0);

    // None but proven ones are left.
    let mut seventh = proven(&server);
    oldest.expect_end();
    for client in [&mut used_again, &mut fifth, &mut sixth, &mut seventh] {
        use_it(client);
    }
    server.wait_for_metric(EVICTED, 3.0);
}

#[test]
fn a_connection_whose_handshake_hangs_makes_room_before_one_in_use() {
    let server = with_cap(2);
    let mut in_use = proven(&server);
    let mut hanging = Client::plain(server.https());
    hanging.send(b"\x16\x03\x01\x02\x00\x01");
    server.wait_for_metric("connections{listener=\"https\"}", 2.0);
    use_it(&mut server.connect());
    assert!(hanging.try_end().is_ok());
    use_it(&mut in_use);
    server.wait_for_metric(EVICTED, 1.0);
}

#[test]
fn a_request_in_progress_is_never_the_victim_and_a_new_connection_waits_for_the_first_to_end() {
    let server = with_cap(2);
    let (mut first, first_body) = begun(&server, "first");
    let (mut second, second_body) = begun(&server, "second");
    thread::scope(|scope| {
        let third = scope.spawn(|| use_it(&mut server.connect()));
        thread::sleep(Duration::from_millis(500));
        assert!(!third.is_finished(), "there was no room for a third");
        let response = first.exchange(&first_body);
        assert_eq!((response.status, response.closes()), (200, false));
        third.join().unwrap();
    });
    first.expect_end();
    assert_eq!(second.exchange(&second_body).status, 200);
    server.wait_for_metric(EVICTED, 1.0);
    assert_eq!((recorded(&server, "first"), recorded(&server, "second")), (1, 1));
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
            // The moments around the rival's arrival, one after the other.
            let until = Instant::now() + Duration::from_micros(50 * (round as u64 % 20));
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
    server.wait_for_metric(EVICTED, 19.0);
    drop(held);
}
