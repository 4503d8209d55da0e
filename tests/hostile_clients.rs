//! All attacks at once, on all ports, against a client in good order that sends 50 requests a second: none of its requests
//! fails, no probe does, and memory stays under the bound of the README.
//!
//! How long: `KUBE_AUDIT_REST_ATTACK_SECONDS`, 10 where it is not set. How fast the client was served is printed; the
//! benchmark of the server is where speed is judged.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::attack::{self, API_SERVER_PATIENCE, kilobytes};
use common::{Client, Server, Setup, corpus, get, post, request};

/// Threads of the client in good order, and how often each sends a request: 50 a second in all.
const HONEST: usize = 5;
const PACE: Duration = Duration::from_millis(100);

/// Clients of each kind of attack at once.
const ATTACKERS: usize = 48;

/// The attackers come back this long after they were cut.
const REDIAL: Duration = Duration::from_millis(5);

const TOKENLESS: &str = "/nothing";

/// What one attacker does on one connection, until it is cut or the attack ends.
type Attack = fn(&Server, &AtomicBool) -> std::io::Result<()>;

const ATTACKS: [(&str, Attack); 9] = [
    ("idle connections that come back", idle),
    ("silent TCP connections", silent),
    ("a byte of 32 MB", announced),
    ("a large chunk that stands still", chunked),
    ("32 MB at a pace that is not slow", paced),
    ("bodies that trickle to a path that is not there", refused),
    ("heads that trickle", heads),
    ("a probe that announces a body", probes),
    ("probes whose answers nobody reads", deaf_probes),
];

#[test]
fn no_attack_costs_a_client_in_good_order_a_request_or_a_probe_an_answer() {
    attack::raise_descriptor_limit();
    let seconds = std::env::var("KUBE_AUDIT_REST_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let server = attack::start_measured(Setup::new());
    let ended = AtomicBool::new(false);
    let dialled: Vec<AtomicUsize> = ATTACKS.iter().map(|_| AtomicUsize::new(0)).collect();
    let (mut took, mut probes) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for ((_, attack), dialled) in ATTACKS.iter().zip(&dialled) {
            for _ in 0..ATTACKERS {
                let (server, ended) = (&server, &ended);
                thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn_scoped(scope, move || {
                        while !ended.load(Ordering::Relaxed) {
                            dialled.fetch_add(1, Ordering::Relaxed);
                            let _ = attack(server, ended);
                            thread::sleep(REDIAL);
                        }
                    })
                    .unwrap();
            }
        }
        let until = Instant::now() + Duration::from_secs(seconds);
        let server = &server;
        let prober = scope.spawn(move || probe_until(server, until));
        let honest: Vec<_> = (0..HONEST).map(|_| scope.spawn(move || be_served_until(server, until))).collect();
        let honest: Vec<_> = honest.into_iter().map(|thread| thread.join()).collect();
        ended.store(true, Ordering::Relaxed);
        probes = prober.join().unwrap();
        took = honest.into_iter().flat_map(|served| served.expect("a client that was served")).collect();
    });
    for ((name, _), dialled) in ATTACKS.iter().zip(&dialled) {
        println!("{name}: {} connections", dialled.load(Ordering::Relaxed));
    }
    report("requests", &mut took, API_SERVER_PATIENCE);
    report("probes", &mut probes, common::BEFORE_ANY_DEADLINE);
    let (peak, bound) = (kilobytes(&server, "VmHWM:"), attack::memory_bound(64, 32, 256));
    println!(
        "evicted: {:?}; peak RSS {} MiB of {} MiB",
        server.counts("connections_evicted_total"),
        peak / 1024,
        bound / 1024
    );
    assert!(peak <= bound, "{peak} KiB");
}

fn report(what: &str, took: &mut [Duration], patience: Duration) {
    took.sort_unstable();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len() - 1)).copied().unwrap_or_default();
    println!("{} {what}: median {:.1?}, p99 {:.1?}, at most {:.1?}", took.len(), at(50), at(99), at(100));
    assert!(at(100) < patience, "{what}");
}

/// A client in good order, as Go's: it keeps a connection, and sends again on a new one what met the end of an idle one.
fn be_served_until(server: &Server, until: Instant) -> Vec<Duration> {
    let requests =
        [1_200, 100_000, 2_000_000, 20_000_000].map(|size| post("/log-request", &corpus::large_review("honest", size)));
    let mut kept: Option<Client> = None;
    let mut took = Vec::new();
    let mut number = 0_usize;
    // Once at least, however busy the machine is.
    while number == 0 || Instant::now() < until {
        let request = &requests[match number {
            n if n % 200 == 199 => 3,
            n if n % 50 == 49 => 2,
            n if n % 10 == 9 => 1,
            _ => 0,
        }];
        let start = Instant::now();
        let reused = kept.take().filter(|_| number.is_multiple_of(2)).and_then(|mut client| {
            client.try_send(request).and_then(|()| client.try_response()).ok().map(|response| (client, response))
        });
        let (client, response) = reused.unwrap_or_else(|| {
            loop {
                let mut client = server.connect();
                // What gives way is told so with 503 and Retry-After: 0, and may still be sending then.
                let _ = client.try_send(request);
                match client.try_response() {
                    Ok(response) if response.status != 503 => break (client, response),
                    last => assert!(start.elapsed() < API_SERVER_PATIENCE, "{:?}: {last:?}", start.elapsed()),
                }
            }
        });
        assert_eq!(response.status, 200, "{}", response.text());
        took.push(start.elapsed());
        kept = Some(client);
        number += 1;
        thread::sleep(PACE.saturating_sub(start.elapsed()));
    }
    took
}

/// As the kubelet, but more often. It would restart the pod after three probes in a row that failed; on a machine that is
/// busy with the attackers themselves one may be cut, but not two in a row.
fn probe_until(server: &Server, until: Instant) -> Vec<Duration> {
    let probe = || {
        let mut client = Client::try_plain(server.metrics_address())?;
        client.try_send(&get("/healthz"))?;
        client.try_response()
    };
    let mut took = Vec::new();
    while took.is_empty() || Instant::now() < until {
        let start = Instant::now();
        let answer = probe().or_else(|_| probe()).expect("an answer to one of two probes");
        assert_eq!(answer.status, 200);
        took.push(start.elapsed());
        thread::sleep(Duration::from_millis(200));
    }
    took
}

fn connect(server: &Server) -> std::io::Result<Client> {
    Client::try_tls(server.https(), &server.endpoint().config)
}

/// Until the server has ended the connection, or the attack is over.
fn wait_for_the_end(client: &Client, ended: &AtomicBool) {
    while client.is_quiet() && !ended.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

fn idle(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let client = connect(server)?;
    wait_for_the_end(&client, ended);
    Ok(())
}

fn silent(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let client = Client::try_plain(server.https())?;
    wait_for_the_end(&client, ended);
    Ok(())
}

fn announced(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = connect(server)?;
    client.try_send(&request("POST", "/audit-events", &[HOST, JSON, ("Content-Length", "33554432")], b"{"))?;
    wait_for_the_end(&client, ended);
    Ok(())
}

fn chunked(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = connect(server)?;
    client.try_send(&request("POST", "/log-request", &[HOST, JSON, ("Transfer-Encoding", "chunked")], b""))?;
    client.try_send(b"1000000\r\n")?;
    client.try_send(&[b' '; 200_000])?;
    wait_for_the_end(&client, ended);
    Ok(())
}

fn paced(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = connect(server)?;
    client.try_send(&request("POST", "/log-request", &[HOST, JSON, ("Content-Length", "33554432")], b""))?;
    trickle(&mut client, &[b' '; 4_500], ended)
}

fn refused(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = connect(server)?;
    client.try_send(&request("POST", TOKENLESS, &[HOST, JSON, ("Content-Length", "100")], b"x"))?;
    trickle(&mut client, b" ", ended)
}

fn heads(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = connect(server)?;
    client.try_send(b"POST /log-request HTTP/1.1\r\nX: ")?;
    trickle(&mut client, b"x", ended)
}

fn trickle(client: &mut Client, piece: &[u8], ended: &AtomicBool) -> std::io::Result<()> {
    while client.is_quiet() && !ended.load(Ordering::Relaxed) {
        client.try_send(piece)?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn probes(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut client = Client::try_plain(server.metrics_address())?;
    client.try_send(&request("GET", "/healthz", &[HOST, ("Content-Length", "100")], b"x"))?;
    // Its answer is not read, nor its end looked for, for a while.
    for _ in 0..10 {
        if !ended.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn deaf_probes(server: &Server, ended: &AtomicBool) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(server.metrics_address())?;
    tcp.set_write_timeout(Some(Duration::from_millis(100)))?;
    tcp.set_read_timeout(Some(Duration::from_millis(100)))?;
    let many = get("/metrics").repeat(200);
    while !ended.load(Ordering::Relaxed) {
        match tcp.write(&many) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    let _ = tcp.read(&mut [0]);
    Ok(())
}

const HOST: (&str, &str) = ("Host", "localhost");
const JSON: (&str, &str) = ("Content-Type", "application/json");
