use super::*;

#[test]
fn a_pace_stays_what_it_was_while_the_body_is_not_read() {
    let start = Instant::now();
    let after = |milliseconds| start + Duration::from_millis(milliseconds);
    let mut pace = Pace::new(start);
    pace.add(1000, after(100));
    pace.pause(after(300));
    assert_eq!(pace.recent(after(2000)), 1000);
}

#[test]
fn a_pace_is_told_after_a_window_and_is_zero_when_nothing_came_for_a_window() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut pace = Pace::new(start);
    assert_eq!(pace.recent(after(249)), u64::MAX);
    pace.add(1000, after(100));
    assert_eq!(pace.recent(after(300)), 1000);
    pace.add(10, after(300));
    assert_eq!(pace.recent(after(310)), 1010);
    pace.add(1, after(600));
    assert_eq!(pace.recent(after(610)), 11);
    assert_eq!(pace.recent(after(1100)), 0);
    pace.add(1, after(2000));
    assert_eq!(pace.recent(after(2001)), 1);
}

/// A connection whose other end is kept.
fn connection() -> (Connection, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    (Connection::new(socket, peer, None).unwrap(), other)
}

#[test]
fn a_connection_is_ranked_by_what_it_did_and_for_how_long() {
    let (connection, _other) = connection();
    let start = connection.accepted;
    let as_what = |after| connection.turn(start + Duration::from_millis(after)).map(|(turn, _)| turn);
    assert_eq!(as_what(50), None);
    assert_eq!(as_what(500), Some(Turn::Handshaking));
    assert_eq!(as_what(1001), Some(Turn::Unproven));
    connection.await_request();
    assert_eq!(as_what(50), None);
    assert_eq!(as_what(500), Some(Turn::Newcomer));
    connection.begin_body();
    assert_eq!(as_what(200), None);
    assert_eq!(as_what(1500), Some(Turn::Slow));
    connection.complete();
    assert_eq!(as_what(60_000), None);
    connection.prove();
    connection.await_request();
    assert_eq!(as_what(900), Some(Turn::JustIdle));
    assert_eq!(as_what(2500), Some(Turn::Idle));
}

#[test]
fn a_complete_request_is_not_ended_and_one_that_gives_way_is_told_so() {
    let (connection, _other) = connection();
    connection.await_request();
    assert_eq!(connection.complete(), Standing::Open);
    assert_eq!((connection.close_if_waiting(), connection.give_way()), (Closed::No, Closed::No));
    assert_eq!(connection.evict(connection.accepted + Duration::from_secs(60), LINGER), None);
    connection.await_request();
    connection.begin_body();
    assert_eq!(connection.give_way(), Closed::Now);
    assert_eq!(connection.complete(), Standing::GivingWay);
}

#[test]
fn a_request_that_meets_the_closing_of_its_connection_is_told_so() {
    let (connection, _other) = connection();
    connection.await_request();
    assert_eq!(connection.close_if_waiting(), Closed::Now);
    assert_eq!(connection.begin_body(), Standing::Closing);
    connection.await_request();
    assert_eq!(connection.complete(), Standing::Closing);
}
