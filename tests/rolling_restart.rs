//! Restarts under load, as a Deployment's rollout does them: behind a balancer that learns with a lag which instance is
//! ready, and with a client that keeps connections and gives up requests as the API server's does. What was answered 200
//! is in a file exactly once, and nothing fails.
//!
//! The runs behind haproxy take long; `KUBE_AUDIT_REST_ROUNDS` sets the number of restarts.

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::server::lines_of;
use common::{Client, PATIENCE, Response, Server, Setup, StopAtEnd, corpus, eventually, get, post};
use rustix::process::Signal;
use rustls::ClientConfig;
use tempfile::TempDir;

/// Until the balancer sends no new connection to an instance that is not ready. A Service takes about as long.
const LAG: Duration = Duration::from_secs(1);

/// `--shutdown-delay` in seconds, longer than [`LAG`].
const DELAY: &str = "2";

/// The requests that are sent: a burst of so many, so often.
#[derive(Clone, Copy)]
struct Load {
    burst: usize,
    period: Duration,
}

/// 150 requests a second.
const BURSTS: Load = Load { burst: 10, period: Duration::from_micros(66_667) };

/// 40 requests a second.
const STEADY: Load = Load { burst: 1, period: Duration::from_millis(25) };

/// An instance of the program with addresses that stay the same when it is restarted.
struct Replica {
    https: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
    server: Option<Server>,
}

/// Two instances with one certificate.
struct Fleet {
    // The instances end before their directory is removed.
    replicas: [Replica; 2],
    /// Holds the certificate.
    identity: Setup,
    directory: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("kube-audit-rest-fleet-").tempdir().unwrap();
        let replica = |name: &str| Replica {
            https: free_address(),
            metrics: free_address(),
            log: directory.path().join(name).join("audit.log"),
            server: None,
        };
        let replicas = [replica("a"), replica("b")];
        for replica in &replicas {
            fs::create_dir(replica.log.parent().unwrap()).unwrap();
        }
        Self { replicas, identity: Setup::new(), directory }
    }

    fn start(&mut self, which: usize) {
        let replica = &mut self.replicas[which];
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let setup = Setup::new()
            .flag("cert-filename", &text(self.identity.path("tls.crt")))
            .flag("cert-key-filename", &text(self.identity.path("tls.key")))
            .flag("logger-filename", &text(replica.log.clone()))
            .flag("server-address", &replica.https.ip().to_string())
            .flag("server-port", &replica.https.port().to_string())
            .flag("metrics-address", &replica.metrics.ip().to_string())
            .flag("metrics-port", &replica.metrics.port().to_string())
            .flag("shutdown-delay", DELAY);
        replica.server = Some(setup.start());
    }

    fn stop(&mut self, which: usize, signal: Signal) {
        let mut server = self.replicas[which].server.take().expect("it runs");
        server.signal(signal);
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Each uid with how often it is in the files, and the number of lines in each instance's file.
    fn recorded(&self) -> (HashMap<String, usize>, [usize; 2]) {
        let mut recorded = HashMap::new();
        let counts = [0, 1].map(|which: usize| {
            let log = &self.replicas[which].log;
            let lines = if log.exists() { lines_of(log) } else { Vec::new() };
            for line in &lines {
                *recorded.entry(corpus::uid(line)).or_default() += 1;
            }
            lines.len()
        });
        (recorded, counts)
    }
}

/// A port on a loopback address that nothing else binds, and not one of those that connections take: it is still free
/// when an instance comes back.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let process = std::process::id();
    let number = u16::try_from(TAKEN.fetch_add(1, Ordering::Relaxed)).unwrap();
    let [_, _, high, low] = process.to_be_bytes();
    SocketAddr::from(([127, 99, high, low], 20_000 + number))
}

/// What stands between the client and the instances.
trait Balancer {
    fn address(&self) -> SocketAddr;
    /// Whether new connections go to this instance.
    fn is_up(&self, which: usize) -> bool;
}

/// haproxy: TCP, round robin, health checks on /readyz. As with a Service, a connection that is refused is not tried
/// elsewhere.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    statistics: PathBuf,
}

impl Haproxy {
    fn start(fleet: &Fleet) -> Self {
        let address = free_address();
        let statistics = fleet.directory.path().join("haproxy.socket");
        let lag = LAG.as_millis();
        let mut config = format!(
            "global\n maxconn 2000\n stats socket {}\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 120s\n timeout server 120s\n retries 0\n\
             listen audit\n bind {address}\n balance roundrobin\n option httpchk GET /readyz\n",
            statistics.display()
        );
        for (name, replica) in ["a", "b"].iter().zip(&fleet.replicas) {
            let (https, metrics) = (replica.https, replica.metrics.port());
            config += &format!(" server {name} {https} check port {metrics} inter {lag} downinter 100 fall 1 rise 1\n");
        }
        let path = fleet.directory.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-q", "-db", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy is installed");
        let haproxy = Self { child, address, statistics };
        eventually("haproxy", || TcpStream::connect(address).ok());
        haproxy
    }

    fn state(&self, which: usize) -> io::Result<String> {
        let mut socket = UnixStream::connect(&self.statistics)?;
        socket.write_all(b"show stat\n")?;
        let mut table = String::new();
        socket.read_to_string(&mut table)?;
        let server = format!("audit,{},", ["a", "b"][which]);
        let row = table.lines().find(|row| row.starts_with(&server));
        // The 18th column is the state.
        let state = row.and_then(|row| row.split(',').nth(17));
        Ok(state.unwrap_or_default().to_owned())
    }
}

impl Balancer for Haproxy {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_up(&self, which: usize) -> bool {
        // "UP 1/2" is on its way down.
        self.state(which).is_ok_and(|state| state == "UP")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same in a few lines, for where there is no haproxy. Its threads end with the test.
struct RoundRobin {
    address: SocketAddr,
    ready: Arc<[AtomicBool; 2]>,
}

impl RoundRobin {
    fn start(fleet: &Fleet) -> Self {
        let ready = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        for which in [0, 1] {
            let (ready, metrics) = (Arc::clone(&ready), fleet.replicas[which].metrics);
            thread::spawn(move || {
                loop {
                    ready[which].store(is_ready(metrics), Ordering::Relaxed);
                    thread::sleep(LAG / 4);
                }
            });
        }
        let listener = TcpListener::bind(free_address()).unwrap();
        let address = listener.local_addr().unwrap();
        let instances = [fleet.replicas[0].https, fleet.replicas[1].https];
        let known = Arc::clone(&ready);
        thread::spawn(move || {
            let mut turn = 0;
            for client in listener.incoming() {
                turn += 1;
                let order = [turn % 2, (turn + 1) % 2];
                let up = order.into_iter().find(|which| known[*which].load(Ordering::Relaxed));
                let (Ok(client), Some(which)) = (client, up) else {
                    continue;
                };
                let instance = instances[which];
                thread::spawn(move || {
                    if let Ok(instance) = TcpStream::connect(instance) {
                        let (back, forth) = (client.try_clone(), instance.try_clone());
                        let (Ok(back), Ok(forth)) = (back, forth) else {
                            return;
                        };
                        thread::spawn(move || pass_on(instance, back));
                        pass_on(client, forth);
                    }
                });
            }
        });
        Self { address, ready }
    }
}

impl Balancer for RoundRobin {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_up(&self, which: usize) -> bool {
        self.ready[which].load(Ordering::Relaxed)
    }
}

fn is_ready(metrics: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(metrics) else {
        return false;
    };
    let mut status = [0; 12];
    socket.set_read_timeout(Some(PATIENCE)).is_ok()
        && socket.write_all(&get("/readyz")).is_ok()
        && socket.read_exact(&mut status).is_ok()
        && &status == b"HTTP/1.1 200"
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    match io::copy(&mut from, &mut to) {
        Ok(_) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both))),
    }
}

/// Go's pool of connections, as the API server's webhook client uses it.
struct Pool {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    idle: Mutex<Vec<(Client, Instant)>>,
    returned: Condvar,
    dials: AtomicUsize,
    retries: AtomicUsize,
}

/// Connections that are kept.
const MOST_IDLE: usize = 25;

/// How long they are.
const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// How often one request is sent at most.
const MOST_ATTEMPTS: usize = 11;

impl Pool {
    fn new(address: SocketAddr, config: Arc<ClientConfig>) -> Arc<Self> {
        Arc::new(Self {
            address,
            config,
            idle: Mutex::default(),
            returned: Condvar::new(),
            dials: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
        })
    }

    /// Sends a request as often as the client would, until it is answered 200; or says why it failed.
    fn send(self: &Arc<Self>, request: &[u8]) -> Result<(), String> {
        let mut attempts = 0;
        let mut last = String::new();
        while attempts < MOST_ATTEMPTS {
            let mut client = self.take()?;
            // A connection that was found closed before a byte was written is no attempt.
            if client.try_send(request).is_err() {
                continue;
            }
            attempts += 1;
            let response = client.try_response().map_err(|error| error.to_string())?;
            let retry_after = retry_after(&response);
            last = format!("{} {}", response.status, response.text());
            if response.closes() {
                client.finish();
            } else {
                self.put(client);
            }
            match (response.status, retry_after) {
                (200, _) => return Ok(()),
                (_, Some(seconds)) => thread::sleep(seconds),
                _ => return Err(last),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        Err(last)
    }

    /// The connection used last, or a new one, whichever can be had first. A new one that is not needed any more when it
    /// is there joins the pool.
    fn take(self: &Arc<Self>) -> Result<Client, String> {
        let mut idle = self.idle.lock().unwrap();
        if let Some(client) = pop(&mut idle) {
            return Ok(client);
        }
        drop(idle);
        let failure = Arc::new(Mutex::new(None));
        let (pool, told) = (Arc::clone(self), Arc::clone(&failure));
        thread::spawn(move || {
            pool.dials.fetch_add(1, Ordering::Relaxed);
            match Client::try_tls(pool.address, &pool.config) {
                Ok(client) => pool.put(client),
                Err(error) => {
                    *told.lock().unwrap() = Some(format!("no connection: {error}"));
                    // So that it is not told between another's look at `failure` and its wait.
                    drop(pool.idle.lock());
                    pool.returned.notify_all();
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        idle = self.idle.lock().unwrap();
        loop {
            if let Some(client) = pop(&mut idle) {
                return Ok(client);
            }
            if let Some(failure) = failure.lock().unwrap().take() {
                return Err(failure);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("no connection in time".to_owned());
            }
            idle = self.returned.wait_timeout(idle, left).unwrap().0;
        }
    }

    fn put(&self, client: Client) {
        let mut idle = self.idle.lock().unwrap();
        if idle.len() < MOST_IDLE {
            idle.push((client, Instant::now()));
        }
        drop(idle);
        self.returned.notify_all();
    }
}

/// Go reads on each idle connection, and so knows of its end as soon as it has come.
fn pop(idle: &mut Vec<(Client, Instant)>) -> Option<Client> {
    while let Some((client, since)) = idle.pop() {
        if client.is_quiet() && since.elapsed() < LONGEST_IDLE {
            return Some(client);
        }
    }
    None
}

/// What makes the client send the request again, and when.
fn retry_after(response: &Response) -> Option<Duration> {
    let again = response.status == 429 || response.status >= 500;
    let seconds = response.header("Retry-After")?.parse().ok()?;
    again.then_some(Duration::from_secs(seconds))
}

/// What became of the requests.
#[derive(Default)]
struct Outcome {
    answered: Vec<String>,
    failed: Vec<(String, String)>,
    slowest: Duration,
}

/// Sends requests until `stop`.
fn send(pool: &Arc<Pool>, load: Load, stop: &AtomicBool) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    thread::scope(|scope| {
        let mut next = Instant::now();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..load.burst {
                number += 1;
                let (pool, outcome) = (pool, &outcome);
                scope.spawn(move || {
                    let uid = format!("event-{number}");
                    let began = Instant::now();
                    let sent = pool.send(&post("/log-request?timeout=10s", &corpus::review(&uid)));
                    let took = began.elapsed();
                    let mut outcome = outcome.lock().unwrap();
                    outcome.slowest = outcome.slowest.max(took);
                    match sent {
                        Ok(()) => outcome.answered.push(uid),
                        Err(why) => outcome.failed.push((uid, why)),
                    }
                });
            }
            next += load.period;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    outcome.into_inner().unwrap()
}

/// Sends requests while `restart` runs, then stops all and holds the files against the answers.
fn under_load(
    name: &str,
    fleet: &mut Fleet,
    balancer: &dyn Balancer,
    load: Load,
    restart: impl FnOnce(&mut Fleet, &Pool),
) -> ([usize; 2], usize) {
    let config = fleet.identity.authority().trust();
    let pool = Pool::new(balancer.address(), config);
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let sender = {
        let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
        thread::spawn(move || send(&pool, load, &stop))
    };
    // Ends the sending even if the restarts fail.
    let stopper = StopAtEnd(&stop);
    restart(fleet, &pool);
    drop(stopper);
    let outcome = sender.join().unwrap();
    let took = began.elapsed();
    pool.idle.lock().unwrap().clear();
    for which in [0, 1] {
        if fleet.replicas[which].server.is_some() {
            // Without the delay.
            fleet.stop(which, Signal::INT);
        }
    }
    let (recorded, counts) = fleet.recorded();
    let lost = outcome.answered.iter().filter(|uid| !recorded.contains_key(*uid));
    let lost = lost.count();
    let unrecorded = outcome.failed.iter().filter(|(uid, _)| !recorded.contains_key(uid));
    let unrecorded = unrecorded.count();
    let twice: Vec<_> = recorded.iter().filter(|(_, count)| **count > 1).collect();
    let retries = pool.retries.load(Ordering::Relaxed);
    println!(
        "{name}: {} events sent in {took:.0?}, {} answered 200, {} failed ({unrecorded} of them not recorded), \
         {lost} lost, {} recorded ({} and {}), {} twice; {} connections, {retries} retries, slowest {:.0?}",
        outcome.answered.len() + outcome.failed.len(),
        outcome.answered.len(),
        outcome.failed.len(),
        recorded.len(),
        counts[0],
        counts[1],
        twice.len(),
        pool.dials.load(Ordering::Relaxed),
        outcome.slowest,
    );
    assert_eq!(lost, 0, "answered and in no file");
    assert!(twice.is_empty(), "{twice:?}");
    assert!(outcome.failed.is_empty(), "{:#?}", outcome.failed);
    (counts, retries)
}

fn wait_until_up(balancer: &dyn Balancer, which: usize) {
    eventually("the balancer to find an instance ready", || balancer.is_up(which).then_some(()));
}

/// Restarts one instance after the other, as often as `rounds` says.
fn restart_in_turn(fleet: &mut Fleet, balancer: &dyn Balancer, rounds: usize) {
    for round in 0..rounds {
        let which = round % 2;
        fleet.stop(which, Signal::TERM);
        fleet.start(which);
        wait_until_up(balancer, which);
    }
}

/// Both instances run, and the balancer knows.
fn fleet_of_two<B: Balancer>(start: impl Fn(&Fleet) -> B) -> (Fleet, B) {
    let mut fleet = Fleet::new();
    fleet.start(0);
    fleet.start(1);
    let balancer = start(&fleet);
    wait_until_up(&balancer, 0);
    wait_until_up(&balancer, 1);
    (fleet, balancer)
}

fn rounds(default: usize) -> usize {
    let rounds = std::env::var("KUBE_AUDIT_REST_ROUNDS");
    rounds.map_or(default, |rounds| rounds.parse().expect("a number of rounds"))
}

#[test]
fn two_restarts_lose_no_event_and_fail_none() {
    let (mut fleet, balancer) = fleet_of_two(RoundRobin::start);
    under_load("2 restarts, 150/s in bursts", &mut fleet, &balancer, BURSTS, |fleet, _| {
        restart_in_turn(fleet, &balancer, 2);
    });
}

#[test]
#[ignore = "takes long and needs haproxy; .ci/run installs it and runs this"]
fn behind_haproxy_restarts_under_bursts_lose_no_event_and_fail_none() {
    let rounds = rounds(20);
    let (mut fleet, balancer) = fleet_of_two(Haproxy::start);
    let name = format!("{rounds} restarts, 150/s in bursts");
    under_load(&name, &mut fleet, &balancer, BURSTS, |fleet, _| {
        restart_in_turn(fleet, &balancer, rounds);
    });
}

#[test]
#[ignore = "takes long and needs haproxy; .ci/run installs it and runs this"]
fn behind_haproxy_restarts_under_a_steady_load_lose_no_event_and_fail_none() {
    let rounds = rounds(5);
    let (mut fleet, balancer) = fleet_of_two(Haproxy::start);
    let name = format!("{rounds} restarts, 40/s");
    under_load(&name, &mut fleet, &balancer, STEADY, |fleet, _| {
        restart_in_turn(fleet, &balancer, rounds);
    });
}

/// As a Deployment of one replica does it: the new one is ready before the old one is told to end.
#[test]
#[ignore = "takes long and needs haproxy; .ci/run installs it and runs this"]
fn behind_haproxy_a_single_replica_that_is_replaced_loses_no_event_and_fails_none() {
    let rounds = rounds(5);
    let mut fleet = Fleet::new();
    fleet.start(0);
    let balancer = Haproxy::start(&fleet);
    wait_until_up(&balancer, 0);
    eventually("haproxy to miss the second", || (!balancer.is_up(1)).then_some(()));
    let name = format!("{rounds} replacements of a single replica, 40/s");
    under_load(&name, &mut fleet, &balancer, STEADY, |fleet, _| {
        for round in 0..rounds {
            let (old, new) = (round % 2, (round + 1) % 2);
            fleet.start(new);
            wait_until_up(&balancer, new);
            fleet.stop(old, Signal::TERM);
        }
    });
}

/// A tmpfs, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(at).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot mount a tmpfs: run this test as root, with CAP_SYS_ADMIN"
        );
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root to mount a tmpfs, and haproxy; .ci/run installs it and runs this"]
fn behind_haproxy_with_one_of_two_disks_full_every_event_is_in_the_other_file() {
    let rounds = rounds(5);
    let mut fleet = Fleet::new();
    let mounted = Mounted::tmpfs(fleet.replicas[1].log.parent().unwrap());
    // All but some 60 KB.
    fs::write(mounted.0.join("ballast"), vec![0; (2 << 20) - (64 << 10)]).unwrap();
    fleet.start(0);
    fleet.start(1);
    let balancer = Haproxy::start(&fleet);
    let name = format!("one of two disks full, {rounds} restarts of that one, 150/s in bursts");
    let (counts, retries) = under_load(&name, &mut fleet, &balancer, BURSTS, |fleet, pool| {
        for _ in 0..rounds {
            // It is ready with each start, until it has to write. All that goes well is kept, so in the end the client
            // has connections to the other one only; it begins anew.
            wait_until_up(&balancer, 1);
            pool.idle.lock().unwrap().clear();
            eventually("the full disk to be noticed", || (!is_ready(fleet.replicas[1].metrics)).then_some(()));
            fleet.stop(1, Signal::TERM);
            fleet.start(1);
        }
    });
    assert!(retries > 0 && counts[1] < counts[0], "{retries} {counts:?}");
}
