//! Load from several connections at once, what became of each request, and whether the log agrees.
//!
//! What is in a line follows from its id, so a line found can be compared byte for byte without having kept what was
//! sent: `PREFIX-WORKER-NUMBER-SIZE`, and `.0`, `.1`, ... behind that for the events of a list.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::client::{Client, Response, post};
use super::eventually;
use super::json::assert_timestamp;
use super::server::{Server, lines_of};

/// Where to connect to, apart from the server, which may end before the load does.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub config: Arc<ClientConfig>,
}

/// One request.
#[derive(Clone, Copy)]
pub enum Body {
    /// An AdmissionReview with this many bytes of padding.
    Review(usize),
    /// An EventList: how many events, and the padding of each.
    Events(usize, usize),
}

/// What a load does.
#[derive(Clone)]
pub struct Plan {
    /// First in every id.
    pub prefix: String,
    pub connections: usize,
    /// Requests of each connection; without it until [`Load::end`].
    pub requests: Option<usize>,
    /// By the connection's number and the request's.
    pub body: fn(usize, usize) -> Body,
    /// Whether what is answered 503 is sent again until it is answered 200, as the API server does.
    pub retries: bool,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Fate {
    pub ids: Vec<String>,
    pub outcome: Outcome,
    /// When it was first sent, and when its last answer came.
    pub began: Instant,
    pub ended: Instant,
    /// How often it was answered 503.
    pub refusals: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200: its lines must be there once.
    Acknowledged,
    /// 503: its lines must not be there.
    Refused,
    /// No answer came: its lines may be there, once.
    Unanswered,
}

/// A load that is running.
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Vec<Fate>>>,
}

struct Shared {
    plan: Plan,
    endpoint: Endpoint,
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    refusals: AtomicUsize,
}

impl Load {
    pub fn begin(server: &Server, plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            endpoint: server.endpoint(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            plan,
        });
        let workers = (0..shared.plan.connections)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.work(worker))
            })
            .collect();
        Self { shared, workers }
    }

    /// Requests answered 200 so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Answers 503 so far.
    pub fn refusals(&self) -> usize {
        self.shared.refusals.load(Relaxed)
    }

    /// Waits until so many requests more have been answered 200.
    pub fn await_acknowledged(&self, more: usize) {
        let goal = self.acknowledged() + more;
        self.wait_until("requests to be recorded", || self.acknowledged() >= goal);
    }

    /// Waits until so many answers more were 503.
    pub fn await_refusals(&self, more: usize) {
        let goal = self.refusals() + more;
        self.wait_until("requests to be refused", || self.refusals() >= goal);
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        eventually(what, || {
            let over = self.shared.plan.requests.is_none() && self.workers.iter().any(JoinHandle::is_finished);
            assert!(!over, "a connection's thread has ended");
            condition().then_some(())
        });
    }

    /// Lets each connection end with the answer that it waits for.
    pub fn end(self) -> Vec<Fate> {
        self.shared.stop.store(true, Relaxed);
        self.join()
    }

    /// Waits for all requests of a plan that says how many.
    pub fn join(mut self) -> Vec<Fate> {
        std::mem::take(&mut self.workers)
            .into_iter()
            .flat_map(|worker| worker.join().expect("a connection's thread"))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

impl Shared {
    fn work(&self, worker: usize) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut client = None;
        for number in 0..self.plan.requests.unwrap_or(usize::MAX) {
            if self.stop.load(Relaxed) {
                break;
            }
            let (ids, request) = self.request(worker, number);
            let mut fate =
                Fate { ids, outcome: Outcome::Unanswered, began: Instant::now(), ended: Instant::now(), refusals: 0 };
            loop {
                match self.exchange(&mut client, &request) {
                    Ok(response) if response.status == 200 => {
                        fate.outcome = Outcome::Acknowledged;
                        self.acknowledged.fetch_add(1, Relaxed);
                    }
                    Ok(response) => {
                        assert_unavailable(&response);
                        client = None;
                        fate.outcome = Outcome::Refused;
                        fate.refusals += 1;
                        self.refusals.fetch_add(1, Relaxed);
                    }
                    Err(_) => {
                        client = None;
                        fate.outcome = Outcome::Unanswered;
                        // The server may be gone for good.
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                fate.ended = Instant::now();
                let again = self.plan.retries && fate.outcome == Outcome::Refused;
                if !again || self.stop.load(Relaxed) {
                    break;
                }
            }
            fates.push(fate);
        }
        fates
    }

    fn exchange(&self, client: &mut Option<Client>, request: &[u8]) -> io::Result<Response> {
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::try_tls(self.endpoint.address, &self.endpoint.config)?),
        };
        client.try_send(request)?;
        client.try_response()
    }

    fn request(&self, worker: usize, number: usize) -> (Vec<String>, Vec<u8>) {
        let prefix = &self.plan.prefix;
        match (self.plan.body)(worker, number) {
            Body::Review(size) => {
                let id = format!("{prefix}-{worker}-{number}-{size}");
                let request = post("/log-request?timeout=1s", &review(&id));
                (vec![id], request)
            }
            Body::Events(count, size) => {
                let ids: Vec<String> =
                    (0..count).map(|event| format!("{prefix}-{worker}-{number}-{size}.{event}")).collect();
                let events: Vec<String> = ids.iter().map(|id| event(id)).collect();
                let list = format!(
                    r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#,
                    events.join(",")
                );
                (ids, post("/audit-events?timeout=30s", list.as_bytes()))
            }
        }
    }
}

/// The answer that has the API server try again at once, on another connection.
pub fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("Retry-After"), Some("0"), "{response:?}");
    assert!(response.closes(), "{response:?}");
    assert!(response.text().starts_with("not recorded: "), "{response:?}");
}

fn padding(id: &str) -> String {
    let size = id.rsplit('-').next().and_then(|size| {
        let size = size.split('.').next()?;
        size.parse().ok()
    });
    "p".repeat(size.expect("an id that ends in a size"))
}

/// The review with this id.
pub fn review(id: &str) -> Vec<u8> {
    let padding = padding(id);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"{id}","object":"{padding}"}}}}"#
    )
    .into_bytes()
}

/// The event with this id, as it stands in a list.
fn event(id: &str) -> String {
    let padding = padding(id);
    format!(r#"{{"level":"Request","auditID":"{id}","requestObject":"{padding}"}}"#)
}

/// The id of a line, which must be the whole and unchanged line of its review or event.
pub fn id_of(line: &[u8]) -> String {
    const TIMESTAMP: &[u8] = br#","requestReceivedTimestamp":""#;
    let after = |marker: &str| -> Option<String> {
        let head = line.get(..line.len().min(250))?;
        let head = String::from_utf8_lossy(head);
        let (_, rest) = head.split_once(marker)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let shown = || {
        let (first, last) = (&line[..line.len().min(200)], &line[line.len().saturating_sub(100)..]);
        format!("{} bytes: {}...{}", line.len(), String::from_utf8_lossy(first), String::from_utf8_lossy(last))
    };
    if let Some(id) = after(r#""request":{"uid":""#) {
        let review = review(&id);
        let rest = line
            .strip_prefix(&review[..review.len() - 1])
            .and_then(|rest| rest.strip_prefix(TIMESTAMP))
            .and_then(|rest| rest.strip_suffix(br#""}"#))
            .unwrap_or_else(|| panic!("a line that is not its review's: {}", shown()));
        assert_timestamp(str::from_utf8(rest).expect("a timestamp"));
        return id;
    }
    let id = after(r#""auditID":""#).unwrap_or_else(|| panic!("a line without an id: {}", shown()));
    let expected = event(&id).replacen('{', r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#, 1);
    assert!(line == expected.as_bytes(), "a line that is not its event's: {}", shown());
    id
}

/// How often each id stands in the given lines.
pub fn counted(lines: impl IntoIterator<Item = Vec<u8>>) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for line in lines {
        *found.entry(id_of(&line)).or_insert(0) += 1;
    }
    found
}

/// The `*.log` files of a directory, oldest first by name, the log itself last.
pub fn log_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the log's directory");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    // "audit.log" sorts behind "audit-2026...log".
    paths.sort_unstable();
    paths
}

/// How often each id stands in the log files of these directories, each of which must be whole.
pub fn recorded(directories: &[&Path]) -> HashMap<String, usize> {
    let files = directories.iter().flat_map(|directory| log_files(directory));
    counted(files.flat_map(|file| lines_of(&file)))
}

/// Asserts that the log agrees with the answers: what was acknowledged is there once, what was refused is not, of what
/// got no answer all or nothing, and nothing else.
pub fn assert_agree(fates: &[Fate], found: &HashMap<String, usize>) {
    assert_agree_but(fates, found, |_| false);
}

/// The same, where the fault itself takes the lines of the requests away that `taken` names.
pub fn assert_agree_but(fates: &[Fate], found: &HashMap<String, usize>, taken: impl Fn(&Fate) -> bool) {
    let mut known = 0;
    for fate in fates {
        let counts: Vec<usize> = fate.ids.iter().map(|id| found.get(id).copied().unwrap_or(0)).collect();
        known += counts.iter().sum::<usize>();
        let all = |wanted: usize| counts.iter().all(|count| *count == wanted);
        let agrees = match fate.outcome {
            _ if taken(fate) => counts.iter().all(|count| *count <= 1),
            Outcome::Acknowledged => all(1),
            Outcome::Refused => all(0),
            Outcome::Unanswered => all(0) || all(1),
        };
        assert!(agrees, "{counts:?} times there: {fate:?}");
    }
    let all: usize = found.values().sum();
    assert_eq!(all, known, "lines that nobody sent");
}

/// Requests with this outcome.
pub fn count(fates: &[Fate], outcome: Outcome) -> usize {
    fates.iter().filter(|fate| fate.outcome == outcome).count()
}
