use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::observe::diagnostics::Format;

/// A connection whose other end is kept.
fn connection() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    (Connection::new(socket, peer, None).unwrap(), other)
}

#[test]
fn whoever_made_room_is_cut_in_time_though_a_newcomer_waits_for_a_place() {
    let diagnostics = Arc::new(Diagnostics::to_sink(Format::Json, Box::new(std::io::sink())));
    let roster = Roster::new(1, Duration::ZERO, Arc::new(Metrics::new()), diagnostics);
    let [(first, _one), (second, _two), (third, _three)] = [connection(), connection(), connection()];
    let first = roster.admit(first).unwrap();
    let second = roster.admit(second).unwrap();
    assert!(first.leaves_by().is_some(), "it made room");
    second.complete();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| roster.admit(third));
        let patience = Instant::now() + Duration::from_secs(30);
        while first.leaves_by().is_some() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        let cut = first.leaves_by().is_none();
        roster.close_all(Duration::ZERO);
        assert!(waiting.join().unwrap().is_none(), "nobody made room");
        assert!(cut, "it was not cut");
    });
}
