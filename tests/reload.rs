//! Certificates, client CAs and sources that change while it runs, as a Secret volume changes them.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use common::certificates::Pair;
use common::{Authority, Client, Server, Setup, corpus, eventually, get, post};
use rustix::process::Signal;
use rustls::ClientConfig;
use std::sync::Arc;
use time::OffsetDateTime;

/// Puts files into `volume` as the kubelet does: into a new directory, to which `..data` is then pointed in one step.
fn publish(volume: &Path, files: &[(&str, &str)]) {
    let number = fs::read_dir(volume).map_or(0, Iterator::count);
    let version = format!("..2026_11_20_{number}");
    fs::create_dir_all(volume.join(&version)).unwrap();
    for (name, text) in files {
        fs::write(volume.join(&version).join(name), text).unwrap();
        if !volume.join(name).is_symlink() {
            symlink(format!("..data/{name}"), volume.join(name)).unwrap();
        }
    }
    symlink(&version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

fn publish_pair(volume: &Path, pair: &Pair) {
    publish(volume, &[("tls.crt", &pair.certificate), ("tls.key", &pair.key)]);
}

/// A server whose certificate comes from a volume with this pair in it.
fn start(pair: &Pair) -> Server {
    let setup = Setup::new();
    let volume = setup.path("volume");
    publish_pair(&volume, pair);
    let certificate = volume.join("tls.crt");
    let key = volume.join("tls.key");
    setup.flag("cert-filename", certificate.to_str().unwrap()).flag("cert-key-filename", key.to_str().unwrap()).start()
}

fn volume(server: &Server) -> std::path::PathBuf {
    server.setup().path("volume")
}

/// Sends SIGHUP and waits until the files have been read again.
fn reload(server: &Server) {
    let count = || {
        let messages = server.messages();
        let reloading = messages.iter().filter(|line| line.contains(r#""msg":"reloading""#));
        reloading.count()
    };
    // It is said before it is done, so the first is done when the second is said.
    for _ in 0..2 {
        let before = count();
        server.signal(Signal::HUP);
        eventually("the reload", || (count() > before).then_some(()));
    }
}

/// Whether a new connection carries a request, as this client sees it.
fn is_served(server: &Server, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut client) = Client::try_tls(server.https(), config) else {
        return false;
    };
    let sent = client.try_send(&post("/log-request", &corpus::review("u")));
    sent.and_then(|()| client.try_response()).is_ok_and(|response| response.status == 200)
}

fn assert_serves(client: &mut Client) {
    let response = client.exchange(&post("/log-request", &corpus::review("u")));
    assert_eq!(response.status, 200);
    assert!(!response.closes());
}

fn said(server: &Server, words: &str) -> usize {
    let messages = server.messages();
    messages.iter().filter(|line| line.contains(words)).count()
}

fn metric(server: &Server, series: &str) -> f64 {
    let page = server.metrics();
    page.get(&format!("kube_audit_rest_{series}")).copied().unwrap_or_else(|| panic!("no {series}"))
}

fn readyz(server: &Server) -> (u16, String) {
    let response = server.connect_metrics().exchange(&get("/readyz"));
    (response.status, response.text().to_owned())
}

#[test]
fn a_renewed_certificate_is_in_use_within_ten_seconds_and_old_connections_live_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let until = OffsetDateTime::now_utc() + Duration::from_secs(50 * 24 * 60 * 60);
    let server = start(&old.server());
    let mut connected_before = Client::tls(server.https(), &old.trust());
    assert_serves(&mut connected_before);
    assert!(!is_served(&server, &new.trust()));

    let renewed = Instant::now();
    publish_pair(&volume(&server), &new.server_until(until));
    eventually("the new certificate", || is_served(&server, &new.trust()).then_some(()));
    let took = renewed.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    println!("a renewed certificate was in use after {took:?}");
    assert!(!is_served(&server, &old.trust()));
    assert_serves(&mut connected_before);
    // It is in use a little before it is counted and said.
    server.wait_until_said("certificate reloaded", 1);
    server.wait_for_metric("certificate_expiry_timestamp_seconds", until.unix_timestamp() as f64);
    server.wait_for_metric(r#"certificate_reloads_total{result="success"}"#, 1.0);
    assert_eq!(readyz(&server).0, 200);
}

#[test]
fn sighup_puts_a_renewed_certificate_into_use_at_once() {
    let old = Authority::new();
    let server = start(&old.server());
    let mut connected_before = Client::tls(server.https(), &old.trust());
    for _ in 0..5 {
        let new = Authority::new();
        publish_pair(&volume(&server), &new.server());
        reload(&server);
        assert!(is_served(&server, &new.trust()));
        assert!(!is_served(&server, &old.trust()));
        assert_serves(&mut connected_before);
    }
    assert_eq!(said(&server, "certificate reloaded"), 5);
    assert_eq!(said(&server, "reload failed"), 0);
}

#[test]
fn a_broken_certificate_is_said_and_counted_once_and_the_old_one_kept() {
    let old = Authority::new();
    let pair = old.server();
    let server = start(&pair);
    let stranger = Authority::new().server();
    let yesterday = OffsetDateTime::now_utc() - Duration::from_secs(24 * 60 * 60);
    let expired = old.server_until(yesterday);
    let broken: [(&str, &str, &str); 5] = [
        ("an empty certificate", "", &pair.key),
        ("no PEM", "hello\n", &pair.key),
        ("half a certificate", &pair.certificate[..200], &pair.key),
        ("another's key", &pair.certificate, &stranger.key),
        ("an expired certificate", &expired.certificate, &expired.key),
    ];
    for (number, (name, certificate, key)) in broken.into_iter().enumerate() {
        publish(&volume(&server), &[("tls.crt", certificate), ("tls.key", key)]);
        for _ in 0..2 {
            reload(&server);
        }
        assert_eq!(said(&server, "reload failed"), number + 1, "{name}");
        let failures = metric(&server, r#"certificate_reloads_total{result="failure"}"#);
        assert_eq!(failures, (number + 1) as f64, "{name}");
        assert!(is_served(&server, &old.trust()), "{name}");
        assert_eq!(readyz(&server).0, 200, "{name}");
    }
    fs::remove_file(volume(&server).join("..data")).unwrap();
    for _ in 0..2 {
        reload(&server);
    }
    assert_eq!(said(&server, "reload failed"), 6);
    assert!(is_served(&server, &old.trust()));

    let new = Authority::new();
    publish_pair(&volume(&server), &new.server());
    reload(&server);
    assert!(is_served(&server, &new.trust()));
    assert_eq!(said(&server, "certificate reloaded"), 1);
    let messages = server.messages().join("\n");
    assert!(!messages.contains("PRIVATE"), "{messages}");
}

#[test]
fn an_expired_certificate_makes_it_not_ready_until_it_is_renewed() {
    let authority = Authority::new();
    let until = OffsetDateTime::now_utc() + Duration::from_secs(4);
    let until = until.replace_nanosecond(0).unwrap();
    let server = start(&authority.server_until(until));
    assert_eq!(metric(&server, "certificate_expiry_timestamp_seconds"), until.unix_timestamp() as f64);
    eventually("the certificate to expire", || {
        let before = OffsetDateTime::now_utc();
        let (status, text) = readyz(&server);
        if status == 200 {
            assert!(before < until + Duration::from_secs(2), "{before} {until}");
            return None;
        }
        assert_eq!(status, 503);
        assert!(text.contains("certificate has expired"), "{text}");
        assert!(OffsetDateTime::now_utc() > until);
        Some(())
    });
    reload(&server);
    assert_eq!(said(&server, "certificate has expired"), 1);
    publish_pair(&volume(&server), &authority.server());
    reload(&server);
    assert_eq!(readyz(&server).0, 200);
    assert!(is_served(&server, &authority.trust()));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_used_from_its_first_second_on() {
    let old = Authority::new();
    let server = start(&old.server());
    let new = Authority::new();
    let from = OffsetDateTime::now_utc() + Duration::from_secs(6);
    let from = from.replace_nanosecond(0).unwrap();
    publish_pair(&volume(&server), &new.server_from(from));
    for _ in 0..2 {
        reload(&server);
    }
    let served_early = is_served(&server, &old.trust());
    assert!(OffsetDateTime::now_utc() >= from || served_early, "the certificate in use was given up");
    assert_eq!(said(&server, "not valid before"), 1);
    assert_eq!(metric(&server, r#"certificate_reloads_total{result="failure"}"#), 1.0);
    eventually("the new certificate", || is_served(&server, &new.trust()).then_some(()));
    assert!(OffsetDateTime::now_utc() >= from);
    assert_eq!(said(&server, "certificate reloaded"), 1);
}

#[test]
fn what_the_api_server_will_refuse_is_said_at_load_and_the_certificate_is_used() {
    let setup = Setup::new();
    let pair = setup.authority().client();
    let certificate = setup.file("client.crt", &pair.certificate);
    let key = setup.file("client.key", &pair.key);
    let server = setup.flag("cert-filename", &certificate).flag("cert-key-filename", &key).start();
    let warning = server
        .wait_for_message("the warning", |message| message["msg"] == "the API server will refuse this certificate");
    assert_eq!(warning["level"], "warn");
    assert_eq!(warning["error"], "x509: certificate specifies an incompatible key usage");
    assert_eq!(readyz(&server).0, 200);
}

#[test]
fn a_client_ca_file_whose_first_block_is_damaged_is_refused_and_the_old_one_kept() {
    let setup = Setup::new();
    let (first, second) = (Authority::new(), Authority::new());
    let ca = setup.file("ca.crt", first.pem());
    let server = setup.flag("client-ca-filename", &ca).start();
    let authority = server.setup().authority();
    let by_first = authority.trust_and_show(&first.client());
    let by_second = authority.trust_and_show(&second.client());
    let indented = first.pem().replace("-----BEGIN", " -----BEGIN");
    let trusted = first.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let mark = format!("\u{feff}{}", first.pem());
    let leaf = first.client().certificate;
    for (number, damaged) in [indented, trusted, mark, leaf].into_iter().enumerate() {
        fs::write(&ca, [&damaged, second.pem()].concat()).unwrap();
        for _ in 0..2 {
            reload(&server);
        }
        assert_eq!(said(&server, "client CA: reload failed"), number + 1, "{damaged}");
        assert!(is_served(&server, &by_first) && !is_served(&server, &by_second), "{damaged}");
    }
}

#[test]
fn client_cas_can_be_added_and_taken_away_while_it_runs() {
    let setup = Setup::new();
    let (first, second) = (Authority::new(), Authority::new());
    let ca = setup.file("ca.crt", first.pem());
    let server = setup.flag("client-ca-filename", &ca).start();
    let authority = server.setup().authority();
    let nobody = authority.trust();
    let by_first = authority.trust_and_show(&first.client());
    let by_second = authority.trust_and_show(&second.client());
    let served = || [&by_first, &by_second, &nobody].map(|config| is_served(&server, config));
    assert_eq!(served(), [true, false, false]);
    let mut connected_before = Client::tls(server.https(), &by_first);
    assert_serves(&mut connected_before);

    fs::write(&ca, [first.pem(), second.pem()].concat()).unwrap();
    reload(&server);
    assert_eq!(served(), [true, true, false]);
    fs::write(&ca, second.pem()).unwrap();
    reload(&server);
    assert_eq!(served(), [false, true, false]);
    assert_serves(&mut connected_before);

    fs::write(&ca, "").unwrap();
    for _ in 0..3 {
        reload(&server);
    }
    assert_eq!(served(), [false, true, false]);
    assert_eq!(said(&server, "client CA: reload failed"), 1);
    assert_eq!(metric(&server, r#"certificate_reloads_total{result="failure"}"#), 1.0);
}

#[test]
fn a_sources_token_is_rotated_without_a_request_refused() {
    let setup = Setup::new();
    let (old, new) = ("0123456789abcdef".repeat(2), "fedcba9876543210".repeat(2));
    let sources = setup.file("sources", &format!("blue {old}\n"));
    let server = setup.flag("sources-filename", &sources).start();
    let mut client = server.connect();
    let mut answers = || {
        [&old, &new].map(|token| {
            let path = format!("/log-request/{token}?timeout=1s");
            client.exchange(&post(&path, &corpus::review("u"))).status
        })
    };
    assert_eq!(answers(), [200, 404]);
    fs::write(&sources, format!("blue {old}\nblue {new}\n")).unwrap();
    reload(&server);
    assert_eq!(answers(), [200, 200]);
    fs::write(&sources, format!("blue {new}\n")).unwrap();
    reload(&server);
    assert_eq!(answers(), [404, 200]);

    for broken in ["", "blue 0123\n", "blue\n"] {
        fs::write(&sources, broken).unwrap();
        for _ in 0..2 {
            reload(&server);
        }
        assert_eq!(answers(), [404, 200], "{broken:?}");
    }
    assert_eq!(said(&server, "reload failed"), 3);
    let lines = server.lines();
    assert_eq!(lines.len(), 7);
    assert_eq!(metric(&server, r#"source_requests_total{source="blue"}"#), 7.0);
    for line in lines {
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains(r#","source":"blue","requestReceived"#), "{line}");
    }
    let messages = server.messages().join("\n");
    assert!(!messages.contains(&old) && !messages.contains(&new), "{messages}");
}

#[test]
fn files_are_read_again_during_the_shutdown_delay_and_sighup_works_there() {
    let old = Authority::new();
    let setup = Setup::new();
    let volume = setup.path("volume");
    publish_pair(&volume, &old.server());
    let (certificate, key) = (volume.join("tls.crt"), volume.join("tls.key"));
    let mut server = setup
        .flag("cert-filename", certificate.to_str().unwrap())
        .flag("cert-key-filename", key.to_str().unwrap())
        .flag("shutdown-delay", "30")
        .start();
    server.signal(Signal::TERM);
    server.wait_for_message("the shutdown", |message| message["msg"] == "shutdown begun");
    let new = Authority::new();
    publish_pair(&volume, &new.server());
    server.signal(Signal::HUP);
    eventually("the new certificate", || is_served(&server, &new.trust()).then_some(()));
    assert!(!server.has_ended());
    assert!(said(&server, "reloading") >= 1);
    // A second order to end ends the delay.
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn a_storm_of_sighups_is_folded() {
    let server = Server::start();
    for _ in 0..2_000 {
        server.signal(Signal::HUP);
    }
    let request = post("/log-request", &corpus::review("afterwards"));
    assert_eq!(server.connect().exchange(&request).status, 200);
    server.wait_for_message("a reload", |message| message["msg"] == "reloading");
    let reloads = said(&server, "reloading");
    assert!((1..500).contains(&reloads), "{reloads}");
}

/// Every look at the certificate but the first hangs, as on a file system whose server is gone.
#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn a_hung_file_system_under_the_certificate_holds_up_neither_requests_nor_the_end() {
    let setup = Setup::new();
    let certificate = setup.path("tls.crt");
    let mut command = std::process::Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P", certificate.to_str().unwrap()]).args([
        "-e",
        "trace=statx,openat",
        "-e",
        "inject=statx,openat:delay_enter=60s:when=3+",
        "--",
    ]);
    let traced = setup.command();
    command.arg(traced.get_program()).args(traced.get_args());
    let server = setup.start_as(command);
    server.signal(Signal::HUP);
    eventually("the reload", || (said(&server, "reloading") == 1).then_some(()));
    let request = post("/log-request", &corpus::review("meanwhile"));
    assert_eq!(server.connect().exchange(&request).status, 200);
    let ordered = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_message("the end", |message| message["msg"] == "shutdown ended");
    assert!(ordered.elapsed() < Duration::from_secs(10), "{:?}", ordered.elapsed());
}
