//! Memory for large bodies is not to be had by holding it: while 64 connections renew themselves and send at any pace,
//! honest reviews of 100 KB, 2 MB and 20 MB are answered.
//!
//! How long that took is printed; what is asserted is the API server's patience, for the attackers take the same
//! processors.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::attack::{self, API_SERVER_PATIENCE, memory_bound};
use common::{Client, Server, Setup, corpus, post, request};

const ATTACKERS: usize = 64;

/// The attackers come back this long after they were cut.
const REDIAL: Duration = Duration::from_millis(5);

/// How often an attacker sends, and how long an attack goes on before the first honest request.
const BEAT: Duration = Duration::from_millis(50);
const LEAD: Duration = Duration::from_secs(2);

/// How an attacker sends a body of 32 MB.
#[derive(Clone, Copy)]
struct Manner {
    /// Bytes at once, to begin with.
    burst: usize,
    /// Bytes a second from there on.
    pace: usize,
}

#[test]
fn whatever_pace_attackers_choose_large_reviews_are_answered() {
    attack::raise_descriptor_limit();
    for (name, burst, pace) in [
        ("a byte, then nothing", 1, 0),
        ("700 KB at once, then nothing", 700_000, 0),
        ("700 KB at once, then 90 KB/s", 700_000, 90_000),
        ("20 KB/s", 1, 20_000),
        ("90 KB/s", 1, 90_000),
        ("300 KB/s", 1, 300_000),
    ] {
        withstands(name, Manner { burst, pace });
    }
}

fn withstands(name: &str, manner: Manner) {
    let server = attack::start_measured(Setup::new());
    let requests = [100_000, 2_000_000, 20_000_000].map(|size| post("/log-request", &corpus::large_review("h", size)));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            let (server, ended) = (&server, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _ = attack_once(server, manner, ended);
                    thread::sleep(REDIAL);
                }
            });
        }
        let honest = scope.spawn(|| {
            thread::sleep(LEAD);
            requests.each_ref().map(|request| (0..4).map(|_| served(&server, request)).collect::<Vec<_>>())
        });
        let honest = honest.join();
        ended.store(true, Ordering::Relaxed);
        let took = honest.expect("honest requests that were served");
        println!("{name}: 100 KB {:.2?}, 2 MB {:.2?}, 20 MB {:.2?}", took[0], took[1], took[2]);
    });
    let peak = attack::kilobytes(&server, "VmHWM:");
    assert!(peak <= memory_bound(64, 32, 256), "{name}: {peak} KiB");
}

/// As an API server: what gave way (503 with `Retry-After: 0`) is sent again.
fn served(server: &Server, request: &[u8]) -> Duration {
    let start = Instant::now();
    loop {
        let mut client = server.connect();
        let response = client.try_send(request).and_then(|()| client.try_response());
        assert!(start.elapsed() < API_SERVER_PATIENCE, "{:?}: {response:?}", start.elapsed());
        if response.is_ok_and(|response| response.status == 200) {
            return start.elapsed();
        }
    }
}

fn attack_once(server: &Server, manner: Manner, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = Client::try_tls(server.https(), &server.endpoint().config)?;
    let headers =
        [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", &(32 << 20).to_string())];
    client.try_send(&request("POST", "/log-request", &headers, b""))?;
    client.try_send(&vec![b' '; manner.burst])?;
    let piece = vec![b' '; manner.pace / 20];
    while client.is_quiet() && !ended.load(Ordering::Relaxed) {
        thread::sleep(BEAT);
        client.try_send(&piece)?;
    }
    Ok(())
}
