//! What the program does, in one run on this machine: `cargo run --release --example quickstart`.
//!
//! Makes a throw-away CA and certificate, starts the real server on loopback, plays a handful of requests recorded from
//! a real API server over TLS, shows what came of them, and cleans up. With `-- --serve` it stays, to play with by hand.

// Shared with the tests, which use more of it.
#[allow(dead_code, unreachable_pub)]
#[path = "../common/certificates.rs"]
mod certificates;
#[allow(dead_code, unreachable_pub)]
#[path = "../common/client.rs"]
mod client;
#[allow(dead_code, unreachable_pub)]
#[path = "../common/corpus.rs"]
mod corpus;

use std::error::Error;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certificates::Authority;
use client::{Client, get, post};
use kube_audit_rest::Server;
use kube_audit_rest::cli::Config;
use kube_audit_rest::commands::read;
use kube_audit_rest::observe::diagnostics::{Diagnostics, Format};
use kube_audit_rest::observe::metrics::Metrics;
use kube_audit_rest::serve::routes::Port;
use serde_json::Value;

/// Operation, resource and subresource of the recorded requests that are played.
const PLAYED: [(&str, &str, Option<&str>); 6] = [
    ("CREATE", "namespaces", None),
    ("CREATE", "deployments", None),
    ("CREATE", "pods", None),
    ("CREATE", "secrets", None),
    ("CONNECT", "pods", Some("exec")),
    ("DELETE", "pods", None),
];

/// The metrics that are shown of all there are.
const SHOWN: [&str; 7] = [
    "kube_audit_rest_http_requests_total",
    "kube_audit_rest_valid_requests_processed_total",
    "kube_audit_rest_audit_lines_total",
    "kube_audit_rest_log_bytes_written_total",
    "kube_audit_rest_append_errors_total{reason=\"no_space\"}",
    "kube_audit_rest_tls_handshakes_total",
    "process_resident_memory_bytes",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let serve = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => false,
        (Some("--serve"), None) => true,
        _ => return Err("the only argument is --serve".into()),
    };
    let directory = tempfile::Builder::new().prefix("kube-audit-rest-quickstart-").tempdir()?;
    let log = directory.path().join("audit.log");
    let messages = directory.path().join("messages.log");

    println!("1. A throw-away CA and certificate, and the server on loopback\n");
    let authority = Authority::new();
    let config = configuration(directory.path(), &authority, &log)?;
    let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(File::create(&messages)?));
    let server = Server::start(&config, Arc::new(Metrics::new()), Arc::new(diagnostics))?;
    let https = server.address(Port::Https).ok_or("no HTTPS port")?;
    let metrics = server.address(Port::Metrics).ok_or("no metrics port")?;
    println!("   webhooks   https://{}", https);
    println!("   metrics    http://{}/metrics", metrics);
    println!("   audit log  {}", log.display());
    println!("   messages   {}\n", messages.display());

    println!("2. AdmissionReviews recorded from a real API server, posted to /log-request over TLS\n");
    let reviews = corpus::reviews();
    let mut client = Client::tls(https, &authority.trust());
    for wanted in PLAYED {
        play_review(&mut client, &reviews, wanted)?;
    }

    println!("3. An EventList as an audit webhook sends it, posted to /audit-events\n");
    let lists = corpus::event_lists();
    let list = lists.first().ok_or("no EventList is there")?;
    let response = client.exchange(&post("/audit-events", list));
    println!("   {} bytes", list.len());
    println!("   -> {} {}\n", response.status, response.text());
    drop(client);

    let text = fs::read_to_string(&log)?;
    println!("4. What the audit log holds: {} lines\n", text.lines().count());
    for line in text.lines() {
        show(line);
    }

    println!("5. Some of the metrics\n");
    let page = Client::plain(metrics).exchange(&get("/metrics"));
    for line in page.text().lines() {
        if SHOWN.iter().any(|name| line.starts_with(name)) {
            println!("   {line}");
        }
    }

    if serve {
        stay(https, metrics, directory.path(), &log)?;
    } else {
        // It ends its process at SIGINT, so it cannot run in one that stays.
        println!("\n6. The log as `kube-audit-rest read` shows it\n");
        let words = ["--format=table".into(), log.clone().into_os_string()];
        if read::main(words) != ExitCode::SUCCESS {
            return Err("the log could not be read".into());
        }
    }
    server.stop(Duration::ZERO, &|patience| {
        std::thread::sleep(patience);
        None
    });
    directory.close()?;
    println!("\nStopped, and all that it made is deleted again. Where to go next:\n");
    println!("   cargo run --release --example quickstart -- --serve   to keep it running and play with it");
    println!("   cargo run --release -- --help                         every flag");
    println!("   README.md                                             to deploy and operate it in a cluster");
    println!("   k8s/                                                  manifests to start from");
    Ok(())
}

/// The flags' defaults but for the directory, loopback, and ports that are free.
fn configuration(directory: &Path, authority: &Authority, log: &Path) -> std::io::Result<Config> {
    let pair = authority.server();
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    fs::write(directory.join("ca.crt"), authority.pem())?;
    fs::write(&certificate, &pair.certificate)?;
    fs::write(&key, &pair.key)?;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ok(Config {
        cert_filename: certificate,
        cert_key_filename: key,
        logger_filename: log.to_owned(),
        server_address: Some(loopback),
        server_port: 0,
        metrics_address: Some(loopback),
        metrics_port: 0,
        ..Config::default()
    })
}

/// Posts the first recorded review of this kind, and says what it was and what came back.
fn play_review(
    client: &mut Client,
    reviews: &[Vec<u8>],
    (operation, resource, subresource): (&str, &str, Option<&str>),
) -> Result<(), Box<dyn Error>> {
    let (body, request) = reviews
        .iter()
        .filter_map(|body| {
            let review: Value = serde_json::from_slice(body).ok()?;
            Some((body, review["request"].clone()))
        })
        .find(|(_, request)| {
            request["operation"] == operation
                && request["resource"]["resource"] == resource
                && request["subResource"].as_str() == subresource
                && request["name"].is_string()
        })
        .ok_or("that review is not among the recorded ones")?;
    let part = subresource.map(|name| format!("/{name}")).unwrap_or_default();
    let name = request["name"].as_str().unwrap_or_default();
    let user = request["userInfo"]["username"].as_str().unwrap_or_default();
    println!("   {operation} {resource}{part} {name} by {user}, {} bytes", body.len());
    let start = Instant::now();
    let response = client.exchange(&post("/log-request?timeout=1s", body));
    let took = start.elapsed().as_secs_f64() * 1000.0;
    println!("   -> {} in {took:.2} ms: {}\n", response.status, response.text());
    Ok(())
}

/// Keeps the server running until Ctrl-C, and says how to talk to it.
fn stay(https: SocketAddr, metrics: SocketAddr, directory: &Path, log: &Path) -> Result<(), Box<dyn Error>> {
    let review = directory.join("review.json");
    fs::write(&review, [corpus::review("by-hand"), b"\n".to_vec()].concat())?;
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    println!("\nThe server stays until Ctrl-C. Send it a review from another terminal:\n");
    println!(
        "   curl --cacert {} -H 'Content-Type: application/json' --data-binary @{} https://{}/log-request\n",
        directory.join("ca.crt").display(),
        review.display(),
        https
    );
    println!("and look at what it does:\n");
    println!("   cargo run --release -- read --follow {}", log.display());
    println!("   curl http://{}/metrics", metrics);
    println!("   curl http://{}/readyz", metrics);
    signals.forever().next();
    Ok(())
}

/// A line's beginning and its end, one below the other.
fn show(line: &str) {
    let beginning = line.get(..92).unwrap_or(line);
    let end = line.get(line.len().saturating_sub(64)..).unwrap_or(line);
    println!("   {beginning} ...");
    println!("      ... {end}  ({} bytes)\n", line.len());
}
