//! What attacks on a server have in common: a client in good order that goes on being served meanwhile, and a look at
//! what the process holds before and after.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::Client;
use super::{Server, Setup, corpus, eventually, post};

/// An API server gives up on a webhook after ten seconds, where nothing else is configured.
pub const API_SERVER_PATIENCE: Duration = Duration::from_secs(10);

/// Between two requests of that client.
const PAUSE: Duration = Duration::from_millis(20);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Attacks of the same test binary take turns, so that each is measured alone.
pub fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many descriptors as the system allows, for this process and those it starts.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, all).expect("a soft limit up to the hard one");
    assert!(limit.maximum.is_none_or(|most| most >= 4096), "this test needs 4096 descriptors: {limit:?}");
}

/// Starts it with large buffers mapped and unmapped as musl's allocator does, which the image has. glibc's would stop
/// doing so for sizes that it has seen freed once (M_MMAP_THRESHOLD in mallopt(3)), up to 32 MB, and keep them.
pub fn start_measured(setup: Setup) -> Server {
    let mut command = setup.command();
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    setup.start_as(command)
}

/// The README's bound on memory, in KiB, for these flags in MiB and connections.
pub fn memory_bound(inflight: usize, request: usize, connections: usize) -> usize {
    (inflight.max(request) + 2 * request + 16) * 1024 + connections * 5 / 4 * 250
}

/// Posts a request on a new connection, and returns that. The connection may be cut if it had its second, which a client
/// can need on a busy machine to get as far as its request; then it dials again, as an API server does.
pub fn newcomer_is_served(server: &Server, request: &[u8]) -> Client {
    let start = Instant::now();
    loop {
        let dialled = Instant::now();
        let outcome = Client::try_tls(server.https(), &server.endpoint().config).and_then(|mut client| {
            client.try_send(request)?;
            Ok((client.try_response()?, client))
        });
        match outcome {
            Ok((response, client)) => {
                assert_eq!(response.status, 200);
                return client;
            }
            Err(error) if dialled.elapsed() >= Duration::from_secs(1) => {
                println!("dials again after {:.1?}: {error}", start.elapsed());
                assert!(start.elapsed() < API_SERVER_PATIENCE, "{error}");
            }
            Err(error) => panic!("cut after {:?}: {error}", dialled.elapsed()),
        }
    }
}

/// Runs `attack`, and meanwhile posts reviews: one after the other on a connection that is kept, and each time on a new
/// one too, see [`newcomer_is_served`]. None of them may fail, or take longer than an API server waits; but if the new one
/// took over a second, the other was idle for so long and may have made room. Says how long they took, which depends on the
/// machine as much as on the program.
pub fn while_others_are_served<T>(name: &str, server: &Server, attack: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let ended = AtomicBool::new(false);
    let request = post("/log-request", &corpus::review("normal"));
    let mut kept = server.connect();
    assert_eq!(kept.exchange(&request).status, 200);
    thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
            ended.store(true, Ordering::Release);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let mut took = Vec::new();
        let mut used = Instant::now();
        while !ended.load(Ordering::Acquire) {
            let start = Instant::now();
            newcomer_is_served(server, &request);
            took.push(start.elapsed());
            let start = Instant::now();
            match kept.try_send(&request).and_then(|()| kept.try_response()) {
                Ok(response) => assert_eq!(response.status, 200, "{name}"),
                Err(_) if start - used >= Duration::from_secs(1) => kept = newcomer_is_served(server, &request),
                Err(error) => panic!("{name}: cut while in use: {error}"),
            }
            took.push(start.elapsed());
            used = Instant::now();
            thread::sleep(PAUSE);
        }
        took.sort_unstable();
        let most = took.last().copied().unwrap_or_default();
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
        println!("{name}: {} requests of others, p99 {p99:.1?}, at most {most:.1?}", took.len());
        assert!(most < API_SERVER_PATIENCE, "{name}: a client in good order waited for {most:?}");
        attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Holdings {
    pub threads: usize,
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub resident: usize,
}

impl Holdings {
    pub fn of(server: &Server) -> Self {
        let directory = format!("/proc/{}", server.process_id());
        let count = |name: &str| fs::read_dir(format!("{directory}/{name}")).expect("a directory in /proc").count();
        Self { threads: count("task"), descriptors: count("fd"), resident: kilobytes(server, "VmRSS:") }
    }

    /// Waits until the process holds hardly more than this again: a few threads and connections of the normal clients,
    /// and some of the memory, which the allocator keeps.
    pub fn wait_to_be_back(&self, name: &str, server: &Server, kept: usize) {
        let mut now = Self::of(server);
        let start = Instant::now();
        eventually(&format!("{name}: {self:?} again"), || {
            now = Self::of(server);
            let back = now.threads <= self.threads + 4
                && now.descriptors <= self.descriptors + 2
                && now.resident <= self.resident + kept;
            if !back && start.elapsed() > Duration::from_secs(35) {
                eprintln!("{name}: still {now:?}");
                thread::sleep(Duration::from_secs(1));
            }
            back.then_some(())
        });
        println!("{name}: before {self:?}, {:.1?} after {now:?}", start.elapsed());
    }
}

/// A line of /proc/PID/status that holds KiB, such as `VmHWM:`.
pub fn kilobytes(server: &Server, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("the process's status");
    let value = status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {status}"))
}
