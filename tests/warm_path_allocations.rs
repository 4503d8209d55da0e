//! A request on a warm connection allocates nothing of ours. A test binary of its own: the counter counts all threads, so
//! the server runs in this process and the client, which allocates as it likes, in a second one.

mod common;

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::certificates::Authority;
use common::client::{Client, post};
use common::corpus;
use kube_audit_rest::Server;
use kube_audit_rest::cli::Config;
use kube_audit_rest::observe::diagnostics::{Diagnostics, Format};
use kube_audit_rest::observe::metrics::Metrics;
use kube_audit_rest::serve::routes::Port;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 5;
const REQUESTS: usize = 200;

/// rustls' unbuffered API makes one for each record that comes and one for each that goes; a request of 1.2 KB and its
/// reply are one each.
const OF_RUSTLS: usize = 2;

/// Where the client finds port and CA.
const ADDRESS: &str = "KUBE_AUDIT_REST_TEST_ADDRESS";
const CA: &str = "KUBE_AUDIT_REST_TEST_CA";

#[test]
fn a_request_on_a_warm_connection_allocates_nothing_of_ours() {
    // One after the other: the counter counts all that happens in this process.
    for policy in [None, Some("k8s/base/policy.yaml")] {
        serve_and_count(policy.map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file)));
    }
}

fn serve_and_count(policy_filename: Option<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let authority = Authority::new();
    let pair = authority.server();
    std::fs::write(path("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(path("tls.key"), &pair.key).unwrap();
    let config = Config {
        cert_filename: path("tls.crt"),
        cert_key_filename: path("tls.key"),
        logger_filename: path("audit.log"),
        policy_filename,
        server_address: Some([127, 0, 0, 1].into()),
        metrics_address: Some([127, 0, 0, 1].into()),
        server_port: 0,
        metrics_port: 0,
        ..Config::default()
    };
    let diagnostics = Arc::new(Diagnostics::to_sink(Format::Json, Box::new(std::io::sink())));
    let server = Server::start(&config, Arc::new(Metrics::new()), diagnostics).unwrap();

    let mut client = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_client", "--ignored", "--nocapture"])
        .env(ADDRESS, server.address(Port::Https).unwrap().to_string())
        .env(CA, authority.pem())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut orders, mut answers) = (client.stdin.take().unwrap(), client.stderr.take().unwrap());
    let mut answer = [0];
    answers.read_exact(&mut answer).unwrap();
    // The log's watcher allocates now and then, so the quietest of a few rounds counts.
    let quietest = (0..ROUNDS).map(|_| {
        let region = Region::new(ALLOCATOR);
        orders.write_all(b"g").unwrap();
        answers.read_exact(&mut answer).unwrap();
        let change = region.change();
        (change.allocations, change.reallocations)
    });
    assert_eq!(quietest.min(), Some((OF_RUSTLS * REQUESTS, 0)));
    drop(orders);
    assert!(client.wait().unwrap().success());
    server.stop(Duration::ZERO, &|patience| {
        std::thread::sleep(patience);
        None
    });
}

#[test]
#[ignore = "the other process of the test above"]
fn the_client() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut std::env::var(CA).unwrap().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = Client::tls(address.parse().unwrap(), &Arc::new(config));
    let body = corpus::reviews().into_iter().find(|body| body.len() > 1200).unwrap();
    let request = post("/log-request?timeout=1s", &body);
    let mut ask = || assert_eq!(client.exchange(&request).status, 200);
    (0..20).for_each(|_| ask());
    std::io::stderr().write_all(b"w").unwrap();
    while std::io::stdin().read(&mut [0]).unwrap() > 0 {
        (0..REQUESTS).for_each(|_| ask());
        std::io::stderr().write_all(b"d").unwrap();
    }
}
