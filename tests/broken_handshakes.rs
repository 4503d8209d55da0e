//! What comes to the ports beside handshakes and requests in good order: plain HTTP to the TLS port, garbage, half a
//! hello, and nothing at all for too long.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::stage::assert_refusal;
use common::{Client, Server, Setup, corpus, get, post};

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    let server = Server::start();
    for request in [post("/log-request", &corpus::review("u")), get("/healthz"), b"HEAD / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut client = Client::plain(server.https());
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, 400);
        assert!(response.text().contains("HTTPS"), "{}", response.text());
        assert!(response.closes());
        client.expect_end();
    }
    let garbage: [&[u8]; 5] = [
        b"\0",
        b"\x16\x03\x01\xff\xff",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0x80; 20_000],
    ];
    for bytes in garbage {
        let mut tcp = TcpStream::connect(server.https()).unwrap();
        tcp.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let _ = tcp.write_all(bytes);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let end = tcp.read_to_end(&mut Vec::new());
        let hangs = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hangs, "{bytes:?} is not answered");
    }
    assert_eq!(server.connect().exchange(&post("/log-request", &corpus::review("u"))).status, 200);
    assert_eq!(server.lines().len(), 1);
    let failures = "tls_handshake_failures_total{reason=\"not_tls\"}";
    common::eventually("not_tls to be counted", || {
        let page = server.metrics();
        (page[&format!("kube_audit_rest_{failures}")] >= 3.0).then_some(())
    });
}

/// Under TLS 1.3 a ServerHello is queued before the alert.
#[test]
fn a_client_without_a_common_protocol_is_told_so_by_an_alert_in_both_versions_of_tls() {
    let server = Server::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let trust = server.setup().authority().trust_with(&[version], &[b"h2"]);
        let error = Client::try_tls(server.https(), &trust).err().expect("no connection");
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
        assert_eq!(error, Some(&alert), "{version:?}");
    }
    server.wait_for_metric("tls_handshake_failures_total{reason=\"no_application_protocol\"}", 2.0);
}

/// Bytes of a hello changed, taken out, doubled, and cut into records: whatever rustls makes of it, no thread dies.
#[test]
fn hellos_with_random_faults_leave_the_server_well() {
    let server = Server::start();
    let hello = server.client_hello();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |most: usize| {
        // xorshift: any bytes will do, the same in each run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % most
    };
    for _ in 0..1_500 {
        let mut bytes = hello.clone();
        for _ in 0..1 + next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = next(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, next(256) as u8),
                // Behind a whole hello, so that it meets a session that has begun.
                _ => bytes = [&hello, &bytes[..]].concat(),
            }
        }
        if next(3) == 0 {
            let (first, rest) = hello[5..].split_at(1 + next(hello.len() - 6));
            bytes = [(first, 22_u8), (rest, if next(4) == 0 { 23 } else { 22 })]
                .iter()
                .flat_map(|(part, kind)| [&[*kind, 3, 3][..], &(part.len() as u16).to_be_bytes(), part].concat())
                .collect();
            bytes.extend(&hello[..next(hello.len())]);
        }
        let mut tcp = TcpStream::connect(server.https()).unwrap();
        let _ = tcp.write_all(&bytes);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let _ = tcp.read_to_end(&mut Vec::new());
    }
    assert!(server.messages().iter().all(|line| !line.contains("panicked")), "a thread died");
    assert_eq!(server.connect().exchange(&post("/log-request", &corpus::review("u"))).status, 200);
    server.wait_for_metric("connections{listener=\"https\"}", 0.0);
}

#[test]
fn every_prefix_of_a_client_hello_leaves_the_server_well() {
    let server = Server::start();
    let hello = server.client_hello();
    for end in 0..hello.len() {
        let mut tcp = TcpStream::connect(server.https()).unwrap();
        tcp.write_all(&hello[..end]).unwrap();
    }
    let response = server.connect().exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, 200);
    server.wait_for_metric("connections{listener=\"https\"}", 0.0);
}

/// The waits of the contract that are short enough to wait for, side by side.
#[test]
fn a_head_or_a_handshake_that_does_not_arrive_in_time_is_ended() {
    let server = Setup::new().flag("http-port", "0").start();
    let took = |start: Instant| start.elapsed().as_secs_f64();
    thread::scope(|scope| {
        for (name, mut client) in [("TLS", server.connect()), ("plain", server.connect_http())] {
            scope.spawn(move || {
                let start = Instant::now();
                client.send(b"POST /audit-events HTTP/1.1\r\nHost: ");
                let response = client.response();
                assert_refusal(name, &response, &[408]);
                assert!(response.closes());
                client.expect_end();
                assert!((4.5..8.0).contains(&took(start)), "{name}: {}", took(start));
            });
        }
        // A byte a second gains nothing.
        let mut slow = server.connect();
        scope.spawn(move || {
            let start = Instant::now();
            let mut trickle = b"POST /log-request HTTP/1.1\r\nHost: ".iter().cycle();
            while start.elapsed() < Duration::from_secs(4) {
                slow.send(&[*trickle.next().unwrap()]);
                thread::sleep(Duration::from_millis(500));
            }
            assert_refusal("a trickle", &slow.response(), &[408]);
            assert!((4.0..8.0).contains(&took(start)), "{}", took(start));
        });
        let hello = server.client_hello();
        for length in [0, 40] {
            let bytes = hello[..length].to_vec();
            let mut tcp = TcpStream::connect(server.https()).unwrap();
            tcp.set_read_timeout(Some(common::PATIENCE)).unwrap();
            scope.spawn(move || {
                let start = Instant::now();
                tcp.write_all(&bytes).unwrap();
                tcp.read_to_end(&mut Vec::new()).unwrap();
                assert!((9.5..14.0).contains(&took(start)), "{}", took(start));
            });
        }
    });
    assert_eq!(server.connect().exchange(&post("/log-request", &corpus::review("u"))).status, 200);
    server.wait_for_metric("tls_handshake_failures_total{reason=\"timeout\"}", 2.0);
    server.wait_for_metric("http_responses_total{code=\"408\"}", 3.0);
}

#[test]
#[ignore = "needs openssl; .ci/run installs it and runs this"]
fn a_renegotiation_is_refused() {
    let server = Server::start();
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect"])
        .arg(server.https().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    let output = openssl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no renegotiation"), "{said}");
    let answer = server.connect().exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(answer.status, 200);
}
