//! The server: opened, run, drained.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::VERSION;
use crate::audit_log::{self, AuditLog, Target};
use crate::cli::{self, Action, Config};
use crate::commands::signals::{Signal, Signals};
use crate::files::policy_file::PolicyFile;
use crate::files::sources::SourcesFile;
use crate::files::watched;
use crate::net::accept::{self, Listener, Orders};
use crate::net::roster::{LINGER, Roster};
use crate::observe::diagnostics::{Diagnostics, Format, RateLimit, Value};
use crate::observe::metrics::Metrics;
use crate::serve::memory::Bodies;
use crate::serve::routes::Port;
use crate::serve::service::Service;
use crate::tls::{self, Tls};

/// How often certificates, sources and the policy are read again. The contract promises 10 s.
const RELOAD: Duration = Duration::from_secs(5);

/// After the ports are closed, what is in flight has so long to end. Kubernetes kills 30 s after SIGTERM by default.
const DRAIN: Duration = Duration::from_secs(25);

/// How long the threads of a port may take to end once their connections are cut.
const JOIN: Duration = Duration::from_secs(2);

/// Probes and a scraper or two; they have a roster of their own, so that no flood of requests shuts them out.
const METRICS_CONNECTIONS: usize = 16;

/// Runs the program with these arguments, the program's own name first: 0 after an orderly end, 1 where it cannot start,
/// 2 for a wrong command line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match cli::parse(args) {
        Ok(Action::Run(config)) => config,
        Ok(Action::ShowHelp) => return print(&cli::usage()),
        Ok(Action::ShowVersion) => return print(&format!("{}\n", VERSION)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "kube-audit-rest: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    let format = if config.verbosity { Format::Text } else { Format::Json };
    let diagnostics = Arc::new(Diagnostics::to_stderr(format));
    match run(&config, &diagnostics) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            diagnostics.error("cannot start", &[("error", (&error.to_string()).into())]);
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(config: &Config, diagnostics: &Arc<Diagnostics>) -> Result<(), StartError> {
    // First, so that an order to end that comes during the start is not lost (as PID 1) and does not end it half-way.
    let signals = Signals::catch().map_err(StartError::System)?;
    let server = Server::start(config, Arc::clone(diagnostics))?;
    let delay = loop {
        match signals.wait(RELOAD) {
            None => server.look_after(),
            Some(Signal::Reload) => server.reload(),
            Some(Signal::Terminate) => break config.shutdown_delay,
            Some(Signal::Interrupt) => break Duration::ZERO,
        }
    };
    server.stop(delay, &|| signals.hurry());
    Ok(())
}

/// Why the program cannot start, with the flag and the path or address at fault.
#[derive(Debug)]
pub enum StartError {
    /// The certificate, its key or the client CA.
    Tls(watched::Error),
    /// The sources file.
    Sources(watched::Error),
    /// The policy file.
    Policy(watched::Error),
    /// The audit log.
    Log(audit_log::OpenError),
    /// A port cannot be bound.
    Bind {
        /// The flag that sets the port.
        flag: &'static str,
        /// What was asked for.
        port: u16,
        /// The flag that sets the address, with what was asked for.
        address: Option<(&'static str, IpAddr)>,
        /// What the system said.
        error: io::Error,
    },
    /// No thread or no signal handler can be had.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::Sources(error) | Self::Policy(error) => error.fmt(f),
            Self::Log(error) => write!(f, "--logger-filename {error}"),
            Self::Bind { flag, port, address, error } => {
                if let Some((flag, address)) = address {
                    write!(f, "{flag} {address}, ")?;
                }
                write!(f, "{flag} {port}: {error}")
            }
            Self::System(error) => write!(f, "the system refused a thread or a signal handler: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    roster: Arc<Roster>,
    audit_orders: Arc<Orders>,
    metrics_orders: Arc<Orders>,
    metrics_roster: Arc<Roster>,
    audit_threads: Vec<JoinHandle<()>>,
    metrics_thread: JoinHandle<()>,
    addresses: Vec<(Port, SocketAddr)>,
}

impl Server {
    /// Opens certificates, policy, log and ports, in this order, then serves. Nothing listens if anything is amiss.
    pub fn start(config: &Config, diagnostics: Arc<Diagnostics>) -> Result<Self, StartError> {
        say_settings(config, &diagnostics);
        let metrics = Arc::new(Metrics::new());
        let tls =
            Tls::load(tls_settings(config), Arc::clone(&metrics), Arc::clone(&diagnostics)).map_err(StartError::Tls)?;
        let sources = match &config.sources_filename {
            Some(path) => Some(
                SourcesFile::load(path.clone(), Arc::clone(&metrics), Arc::clone(&diagnostics))
                    .map_err(StartError::Sources)?,
            ),
            None => None,
        };
        let policy = match &config.policy_filename {
            Some(path) => Some(
                PolicyFile::load(path.clone(), Arc::clone(&metrics), Arc::clone(&diagnostics))
                    .map_err(StartError::Policy)?,
            ),
            None => None,
        };
        let log = AuditLog::open(log_settings(config), Arc::clone(&metrics), Arc::clone(&diagnostics))
            .map_err(StartError::Log)?;
        let bind = |flag, port, (address_flag, address): (_, Option<IpAddr>), number| {
            Listener::bind(port, address, number).map_err(|error| StartError::Bind {
                flag,
                port: number,
                address: address.map(|address| (address_flag, address)),
                error,
            })
        };
        let audit_address = ("--server-address", config.server_address);
        let mut audit = vec![bind("--server-port", Port::Https, audit_address, config.server_port)?];
        if let Some(number) = config.http_port {
            audit.push(bind("--http-port", Port::Http, audit_address, number)?);
        }
        let probes =
            bind("--metrics-port", Port::Metrics, ("--metrics-address", config.metrics_address), config.metrics_port)?;

        let service = Arc::new(Service {
            log,
            bodies: Bodies::new(config.max_inflight_size, Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            diagnostics,
            tls,
            sources,
            policy,
            max_request: config.max_request_size,
            draining: AtomicBool::new(false),
            handshake_messages: RateLimit::new(),
        });
        let addresses = audit.iter().chain([&probes]).map(|listener| (listener.port(), listener.address)).collect();
        let roster = Roster::new(config.max_connections, Arc::clone(&metrics));
        let metrics_roster = Roster::new(METRICS_CONNECTIONS, metrics);
        let audit_orders = Arc::new(Orders::default());
        let metrics_orders = Arc::new(Orders::default());
        let metrics_thread = spawn(probes, &service, &metrics_roster, &metrics_orders)?;
        let mut audit_threads = Vec::new();
        for listener in audit {
            audit_threads.push(spawn(listener, &service, &roster, &audit_orders)?);
        }
        let server = Self {
            service,
            roster,
            audit_orders,
            metrics_orders,
            metrics_roster,
            audit_threads,
            metrics_thread,
            addresses,
        };
        for (port, address) in &server.addresses {
            let address = address.to_string();
            let fields = [("listener", port.name().into()), ("address", (&address).into())];
            server.service.diagnostics.info("listening", &fields);
        }
        Ok(server)
    }

    /// Where a port really listens.
    pub fn address(&self, port: Port) -> Option<SocketAddr> {
        self.addresses.iter().find(|(bound, _)| *bound == port).map(|(_, address)| *address)
    }

    /// What has to be done every few seconds: certificates, sources and the policy are read again, unused memory is given back.
    pub fn look_after(&self) {
        self.service.tls.reload();
        if let Some(sources) = &self.service.sources {
            sources.reload();
        }
        if let Some(policy) = &self.service.policy {
            policy.reload();
        }
        self.service.bodies.trim();
    }

    /// SIGHUP: the log is opened anew, certificates, sources and the policy are read again.
    pub fn reload(&self) {
        self.service.diagnostics.info("reloading", &[]);
        self.service.log.reopen();
        self.look_after();
    }

    /// Ends in order. For `delay` everything is served as before but for `Connection: close` and readiness; then the
    /// ports close, what is in flight is finished, idle connections are closed, and the log last. `hurry` cuts all
    /// waiting short when it becomes true.
    pub fn stop(self, delay: Duration, hurry: &dyn Fn() -> bool) {
        let said = Instant::now();
        let diagnostics = Arc::clone(&self.service.diagnostics);
        let served_before = self.service.metrics.valid_requests.value();
        self.service.draining.store(true, Ordering::Release);
        let fields = [("connections", self.roster.len().into()), ("delay_seconds", delay.as_secs().into())];
        diagnostics.info("shutdown begun", &fields);

        let hurried = wait(delay, || false, hurry);
        self.audit_orders.close_ports(Instant::now() + JOIN);
        let hurried = hurried || wait(DRAIN, || self.roster.wait_for_requests(Instant::now()) == 0, hurry);
        let unfinished = self.roster.wait_for_requests(Instant::now());
        self.audit_orders.give_up();
        let linger = if hurried { Duration::ZERO } else { LINGER };
        let closed = self.roster.close_all(linger);
        self.metrics_orders.close_ports(Instant::now() + JOIN);
        self.metrics_orders.give_up();
        self.metrics_roster.close_all(linger);
        let mut threads = self.audit_threads;
        threads.push(self.metrics_thread);
        let joined = wait(JOIN, || threads.iter().all(JoinHandle::is_finished), &|| false)
            || threads.iter().all(JoinHandle::is_finished);
        if joined {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        let fields: [(&str, Value<'_>); 5] = [
            ("requests_while_draining", (self.service.metrics.valid_requests.value() - served_before).into()),
            ("unfinished_requests", unfinished.into()),
            ("idle_connections_closed", closed.into()),
            ("hurried", hurried.into()),
            ("milliseconds", u64::try_from(said.elapsed().as_millis()).unwrap_or(u64::MAX).into()),
        ];
        // The log is closed, and its thread joined, before the end is said.
        drop(self.service);
        diagnostics.info("shutdown ended", &fields);
    }
}

/// Waits for `patience` or until `done`; true if `hurry` ended it.
fn wait(patience: Duration, done: impl Fn() -> bool, hurry: &dyn Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !done() {
        if hurry() {
            return true;
        }
        thread::sleep(Duration::from_millis(5).min(deadline.saturating_duration_since(Instant::now())));
    }
    false
}

fn spawn(
    listener: Listener,
    service: &Arc<Service>,
    roster: &Arc<Roster>,
    orders: &Arc<Orders>,
) -> Result<JoinHandle<()>, StartError> {
    let (service, roster, orders) = (Arc::clone(service), Arc::clone(roster), Arc::clone(orders));
    orders.expect_one();
    thread::Builder::new()
        .name(format!("accept-{}", listener.port().name()))
        .stack_size(128 * 1024)
        .spawn(move || accept::serve(listener, &service, &roster, &orders))
        .map_err(StartError::System)
}

fn say_settings(config: &Config, diagnostics: &Diagnostics) {
    let settings = config.settings();
    let mut fields: Vec<(&str, Value<'_>)> = vec![("version", VERSION.into())];
    fields.extend(settings.iter().map(|(name, value)| (*name, Value::from(value))));
    diagnostics.info("starting", &fields);
    for warning in config.warnings() {
        diagnostics.warn(warning, &[]);
    }
}

fn tls_settings(config: &Config) -> tls::Settings {
    tls::Settings {
        certificate: config.cert_filename.clone(),
        key: config.cert_key_filename.clone(),
        client_ca: config.client_ca_filename.clone(),
    }
}

fn log_settings(config: &Config) -> audit_log::Settings {
    let target = if config.audit_to_std_log { Target::Stdout } else { Target::File(config.logger_filename.clone()) };
    audit_log::Settings {
        target,
        max_size: config.logger_max_size,
        max_backups: config.logger_max_backups,
        max_age: config.logger_max_age,
        sync: config.logger_sync,
        file_mode: config.logger_file_mode,
    }
}
