//! The program as a child process, on loopback and on ports of its own choosing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::Value;
use tempfile::TempDir;

use super::certificates::Authority;
use super::client::{Client, get};
use super::load::Endpoint;
use super::{PATIENCE, eventually};

/// The value of a series, or of all series of a family together.
pub fn total(page: &HashMap<String, f64>, name: &str) -> Option<f64> {
    let family = format!("{name}{{");
    let values = page.iter().filter(|(series, _)| *series == name || series.starts_with(&family));
    values.map(|(_, value)| *value).reduce(|a, b| a + b)
}

/// Names another build of the program to test, such as the static one of the image, or an older release.
pub const PROGRAM: &str = "KUBE_AUDIT_REST_PROGRAM";

/// The program of this package, unless [`PROGRAM`] names another.
pub fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| env!("CARGO_BIN_EXE_kube-audit-rest").into(), PathBuf::from)
}

/// A program about to be started: its directory, certificate and flags. Flags can be changed and files be added before
/// [`Setup::start`].
pub struct Setup {
    program: PathBuf,
    announces: bool,
    directory: TempDir,
    authority: Authority,
    flags: BTreeMap<String, Option<String>>,
}

impl Setup {
    /// [`program`] with a fresh certificate, a log of its own and free ports on 127.0.0.1.
    pub fn new() -> Self {
        Self::of(program())
    }

    /// The same with another build of it.
    pub fn of(program: PathBuf) -> Self {
        let directory =
            tempfile::Builder::new().prefix("kube-audit-rest-test-").tempdir().expect("a temporary directory");
        let authority = Authority::new();
        let pair = authority.server();
        let setup = Self { program, announces: true, directory, authority, flags: BTreeMap::new() };
        let certificate = setup.file("tls.crt", &pair.certificate);
        let key = setup.file("tls.key", &pair.key);
        let log = setup.path("audit.log");
        setup
            .flag("cert-filename", &certificate)
            .flag("cert-key-filename", &key)
            .flag("logger-filename", log.to_str().expect("a path in UTF-8"))
            .flag("server-address", "127.0.0.1")
            .flag("server-port", "0")
            .flag("metrics-address", "127.0.0.1")
            .flag("metrics-port", "0")
    }

    /// A program with the original's flags only: it knows neither port 0 nor addresses, and does not say when it
    /// listens.
    pub fn of_original(program: PathBuf) -> Self {
        let mut setup = Self::of(program)
            .flag("server-port", &free_port().to_string())
            .flag("metrics-port", &free_port().to_string())
            .without("server-address")
            .without("metrics-address");
        setup.announces = false;
        setup
    }

    /// `--name=value`.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    /// `--name`.
    pub fn switch(mut self, name: &str) -> Self {
        self.flags.insert(name.to_owned(), None);
        self
    }

    /// Leaves `--name` out.
    pub fn without(mut self, name: &str) -> Self {
        self.flags.remove(name);
        self
    }

    /// A path in the directory of this setup.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into the directory of this setup and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in the temporary directory");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What [`Setup::start`] runs.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments());
        command
    }

    pub fn arguments(&self) -> Vec<String> {
        self.flags
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            })
            .collect()
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Server {
        let command = self.command();
        self.start_as(command)
    }

    /// Starts it by another command, such as a tracer with [`Setup::command`] in it.
    pub fn start_as(self, command: Command) -> Server {
        Self::run(Arc::new(self), command)
    }

    fn run(setup: Arc<Self>, mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", setup.program.display()));
        let stdout = Lines::collect(child.stdout.take().expect("a pipe"));
        let messages = Lines::collect(child.stderr.take().expect("a pipe"));
        let config = setup.authority.trust();
        let mut server = Server {
            child,
            stdout,
            messages,
            config,
            https: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http: None,
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            setup,
        };
        if server.setup.announces {
            server.https = server.announced("https");
            server.metrics = server.announced("metrics");
            let with_http = server.setup.flags.contains_key("http-port");
            server.http = with_http.then(|| server.announced("http"));
        } else {
            server.https = server.listening_on("server-port");
            server.metrics = server.listening_on("metrics-port");
        }
        server
    }
}

/// A program that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    stdout: Arc<Lines>,
    messages: Arc<Lines>,
    config: Arc<ClientConfig>,
    https: SocketAddr,
    http: Option<SocketAddr>,
    metrics: SocketAddr,
    setup: Arc<Setup>,
}

impl Server {
    /// [`Setup::new`], started as it is.
    pub fn start() -> Self {
        Setup::new().start()
    }

    pub fn https(&self) -> SocketAddr {
        self.https
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Kills it, if it still runs, and starts it again with the same flags; ports of its own choosing are new ones.
    pub fn restart(mut self) -> Self {
        self.kill();
        let command = self.setup.command();
        Setup::run(Arc::clone(&self.setup), command)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Where its HTTPS port is, for those who may outlive it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.https, config: Arc::clone(&self.config) }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A numeric field of /proc/PID/stat, by its number in proc_pid_stat(5), from 4 on.
    pub fn stat(&self, field: usize) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process_id())).unwrap();
        // The second field is a name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let field = fields.split_whitespace().nth(field - 3).unwrap();
        field.parse().unwrap()
    }

    /// What a TLS client says first.
    pub fn client_hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("localhost").unwrap();
        let config = self.setup().authority().trust();
        let mut session = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        hello
    }

    /// A new connection to the HTTPS port.
    pub fn connect(&self) -> Client {
        Client::tls(self.https, &self.config)
    }

    /// A new connection to the plain HTTP port, which `--http-port` must have opened.
    pub fn connect_http(&self) -> Client {
        Client::plain(self.http.expect("--http-port"))
    }

    /// A new connection to the metrics port.
    pub fn connect_metrics(&self) -> Client {
        Client::plain(self.metrics)
    }

    pub fn log_path(&self) -> PathBuf {
        self.setup.path("audit.log")
    }

    /// The audit log's lines without their newlines. Every line must be whole.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        lines_of(&self.log_path())
    }

    /// The samples of the metrics page: series to value.
    pub fn metrics(&self) -> HashMap<String, f64> {
        let page = self.connect_metrics().exchange(&get("/metrics"));
        assert_eq!(page.status, 200);
        page.text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a sample");
                (series.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }

    /// The samples of one family by their labels' text (`reason="io"`), those that are not 0.
    pub fn counts(&self, family: &str) -> BTreeMap<String, f64> {
        let before = format!("kube_audit_rest_{family}{{");
        let samples = self.metrics().into_iter().filter_map(|(series, value)| {
            let labels = series.strip_prefix(&before)?.strip_suffix('}')?;
            (value != 0.0).then(|| (labels.to_owned(), value))
        });
        samples.collect()
    }

    /// Waits until `/readyz` answers with this status, and returns its text.
    pub fn wait_for_readiness(&self, status: u16) -> String {
        eventually(&format!("/readyz to be {status}"), || {
            let answer = self.connect_metrics().exchange(&get("/readyz"));
            (answer.status == status).then(|| answer.text().to_owned())
        })
    }

    /// How many messages so far have this `msg`.
    pub fn said(&self, msg: &str) -> usize {
        let messages = self.messages();
        let parsed = messages.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|message| message["msg"] == msg).count()
    }

    /// Waits until messages with these words in them have been said so often. A message may come out a little after what
    /// it tells of can be seen; one too many is a failure.
    pub fn wait_until_said(&self, words: &str, times: usize) {
        let mut said = 0;
        eventually(&format!("{words:?} to be said {times} times"), || {
            said = self.messages().iter().filter(|line| line.contains(words)).count();
            (said >= times).then_some(())
        });
        assert_eq!(said, times, "{words:?}");
    }

    /// Waits until this series of ours (named without the prefix), or all of this family together, has this value.
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        let series = format!("kube_audit_rest_{series}");
        let mut last = None;
        eventually(&format!("{series} to be {value}"), || {
            last = total(&self.metrics(), &series);
            (last == Some(value)).then_some(())
        });
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Standard error so far.
    pub fn messages(&self) -> Vec<String> {
        self.messages.so_far()
    }

    /// Waits for a message (a JSON line on standard error) that `wanted` accepts.
    pub fn wait_for_message(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.messages.wait_for(what, |line| {
            let message = serde_json::from_str(line).ok()?;
            wanted(&message).then_some(message)
        })
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("the process takes the signal");
    }

    /// SIGTERM, then [`Server::wait`].
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.messages.wait_for_end();
        self.stdout.wait_for_end();
        self.child.wait().expect("a process to wait for")
    }

    fn announced(&self, listener: &str) -> SocketAddr {
        let what = format!("the {listener} listener");
        self.messages.wait_for(&what, |line| {
            if !line.contains("listening") {
                return None;
            }
            // With -v the messages are not JSON, but name="value".
            let plain = line.replace(['"', '{', '}'], "").replace(':', "=");
            let mut fields = plain.split([' ', ',']);
            fields.clone().any(|field| field == format!("listener={listener}")).then_some(())?;
            let address = fields.find_map(|field| field.strip_prefix("address="))?;
            let address = address.replace('=', ":");
            Some(address.parse().unwrap_or_else(|error| panic!("{error}: {line}")))
        })
    }

    fn listening_on(&self, flag: &str) -> SocketAddr {
        let port = self.setup.flags[flag].as_deref().unwrap_or_default();
        let address = format!("127.0.0.1:{port}").parse().expect("a port");
        eventually(&format!("--{flag}={port} to listen"), || TcpStream::connect(address).ok());
        address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("messages of the program:");
            for line in self.messages() {
                eprintln!("  {line}");
            }
        }
    }
}

/// The lines of a file without their newlines; every line must be whole.
pub fn lines_of(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Some(text) = text.strip_suffix(b"\n") else {
        assert!(text.is_empty(), "{} ends in a torn line", path.display());
        return Vec::new();
    };
    text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// What the program prints, as it comes.
struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self { state: Mutex::new((Vec::new(), false)), changed: Condvar::new() });
        let collected = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { break };
                collected.lock().0.push(line);
                collected.changed.notify_all();
            }
            collected.lock().1 = true;
            collected.changed.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        // A test that gave up while it waited has spoilt nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn so_far(&self) -> Vec<String> {
        self.lock().0.clone()
    }

    fn wait_for<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.0.iter().find_map(|line| wanted(line)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!state.1 && !left.is_zero(), "{what} was not said: {:#?}", state.0);
            state = self.changed.wait_timeout(state, left).expect("the collector lives").0;
        }
    }

    fn wait_for_end(&self) {
        let ended =
            self.changed.wait_timeout_while(self.lock(), PATIENCE, |state| !state.1).expect("the collector lives");
        assert!(ended.0.1, "the program did not end: {:#?}", ended.0.0);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
