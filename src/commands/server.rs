//! A server: opened, running, drained.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::audit_log::OpenedLog;
use crate::cli::Config;
use crate::commands::reloader::Reloader;
use crate::commands::settings;
use crate::commands::signals::Signal;
use crate::commands::start_error::StartError;
use crate::files::chain_key::ChainKeyFile;
use crate::files::policy_file::PolicyFile;
use crate::files::sources::SourcesFile;
use crate::files::watched;
use crate::net::accept::{self, Listener, Serving};
use crate::net::connection::LINGER;
use crate::net::roster::Roster;
use crate::net::transport::Windows;
use crate::observe::diagnostics::{Diagnostics, RateLimit, Value};
use crate::observe::instruments::Counter;
use crate::observe::metrics::Metrics;
use crate::observe::process;
use crate::serve::connection;
use crate::serve::memory::Memory;
use crate::serve::routes::Port;
use crate::serve::service::Service;
use crate::tls::Tls;

/// After the ports are closed, what is in flight has so long to end. Kubernetes kills 30 s after SIGTERM by default.
const DRAIN: Duration = Duration::from_secs(25);

/// How long the ports may take to close, and the threads to end once their connections are cut.
const JOIN: Duration = Duration::from_secs(2);

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// Probes and a scraper or two; they have a roster of their own, so that no flood of requests shuts them out.
const METRICS_CONNECTIONS: usize = 64;

/// A flood of newcomers takes at least so long to go through all places of the metrics port. A probe needs a thread within
/// it, and waits about twice as long for a place when the kernel's queue of 128 is full.
const METRICS_ROUND: Duration = Duration::from_millis(200);

/// A flood of newcomers takes at least so long to go through all places of the audit ports: a machine or a client under
/// load may need more than 100 ms for a handshake, and a slower turnover costs less of both.
const ROUND: Duration = Duration::from_millis(500);

/// Descriptors beside connections: standard streams, the log with its directory, lock and next file, listeners with their
/// reserves, what is read again.
const OTHER_DESCRIPTORS: usize = 32;

/// Stack of an accepting thread.
const ACCEPT_STACK: usize = 128 * 1024;

/// A running server.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    /// The audit ports, which close first.
    audit: Ports,
    /// The metrics port, which tells how the drain goes.
    metrics: Ports,
    reloader: Reloader,
}

/// Ports that share a roster and are closed together.
#[derive(Debug)]
struct Ports {
    roster: Arc<Roster>,
    addresses: Vec<(Port, SocketAddr)>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens certificates, sources, policy, the chain's key, log and ports, in this order, then serves. If one of them
    /// cannot be opened, nothing is served.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &Config, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, StartError> {
        settings::say(config, &diagnostics);
        let tls = Tls::load(settings::tls(config), Arc::clone(&metrics), Arc::clone(&diagnostics))?;
        let sources = load(config.sources_filename.as_ref(), &metrics, &diagnostics, SourcesFile::load)?;
        let policy = load(config.policy_filename.as_ref(), &metrics, &diagnostics, PolicyFile::load)?;
        let chain_key = config.chain_key_filename.as_ref().filter(|_| config.chain);
        let chain_key = load(chain_key, &metrics, &diagnostics, ChainKeyFile::load)?;
        let log = settings::log(config, chain_key.clone());
        let log = OpenedLog::open(log, Arc::clone(&metrics), Arc::clone(&diagnostics))?;
        let audit = bind_audit(config)?;
        let metrics_address = ("--metrics-address", config.metrics_address);
        let metrics_port = bind(Port::Metrics, ("--metrics-port", config.metrics_port), metrics_address)?;
        let log = log.start().map_err(StartError::system)?;

        let service = Arc::new(Service {
            log,
            memory: Arc::new(Memory::new(config.max_inflight_size, Arc::clone(&metrics))),
            windows: Arc::new(Windows::default()),
            metrics: Arc::clone(&metrics),
            diagnostics: Arc::clone(&diagnostics),
            tls: Arc::new(tls),
            sources,
            policy,
            max_request: config.max_request_size,
            draining: AtomicBool::new(false),
            recorded_requests: Counter::default(),
            handshake_messages: RateLimit::new(),
            refused_messages: RateLimit::new(),
            mended_messages: RateLimit::new(),
        });
        let roster = |cap, round| Arc::new(Roster::new(cap, round, Arc::clone(&metrics), Arc::clone(&diagnostics)));
        let audit_roster = roster(config.max_connections, ROUND);
        let metrics_roster = roster(METRICS_CONNECTIONS, METRICS_ROUND);
        let needed = audit_roster.most() + metrics_roster.most() + OTHER_DESCRIPTORS;
        warn_of_few_descriptors(needed, &diagnostics);
        let metrics_port = Ports::serve(metrics_port, &service, metrics_roster)?;
        let audit = Ports::serve(audit, &service, audit_roster)?;
        let reloader = Reloader::start(&service, chain_key).map_err(StartError::system)?;
        for (port, address) in audit.addresses.iter().chain(&metrics_port.addresses) {
            let address = address.to_string();
            let fields = [("listener", port.name().into()), ("address", (&address).into())];
            diagnostics.info("listening", &fields);
        }
        Ok(Self { service, audit, metrics: metrics_port, reloader })
    }

    /// Where a port really listens.
    pub fn address(&self, port: Port) -> Option<SocketAddr> {
        let mut addresses = self.audit.addresses.iter().chain(&self.metrics.addresses);
        addresses.find(|(bound, _)| *bound == port).map(|(_, address)| *address)
    }

    /// SIGHUP: the log is opened anew, certificates, sources and the policy are read again.
    pub fn reload(&self) {
        self.service.log.reopen();
        self.reloader.reload();
    }

    /// Ends in order. For `delay` everything is served as before but for `Connection: close` and readiness; then the
    /// ports close, what is in flight is finished, idle connections are closed, and the log last. `next_signal` waits for
    /// a signal for at most the time that it is given; one that orders to end cuts all waiting short.
    pub fn stop(self, delay: Duration, next_signal: &dyn Fn(Duration) -> Option<Signal>) {
        let said = Instant::now();
        let diagnostics = Arc::clone(&self.service.diagnostics);
        let recorded_before = self.service.recorded_requests.value();
        self.service.draining.store(true, Ordering::Release);
        let fields = [("connections", self.audit.roster.count().into()), ("delay_seconds", delay.as_secs().into())];
        diagnostics.info("shutdown begun", &fields);

        let mut pace = self.wait(delay, || false, next_signal);
        self.audit.roster.close_ports(JOIN);
        if pace == Pace::Orderly {
            pace = self.wait(DRAIN, || self.audit.roster.due() == 0, next_signal);
        }
        let unfinished = self.audit.roster.due();
        let linger = if pace == Pace::Hurried { Duration::ZERO } else { LINGER };
        let closed = self.audit.roster.close_all(linger);
        self.metrics.roster.close_ports(JOIN);
        self.metrics.roster.close_all(linger);

        let Self { service, audit, metrics, reloader } = self;
        let mut threads = vec![reloader.end()];
        threads.extend(audit.threads.into_iter().chain(metrics.threads));
        join_all(threads, Instant::now() + JOIN);
        let fields: [(&str, Value<'_>); 5] = [
            ("requests_while_draining", (service.recorded_requests.value() - recorded_before).into()),
            ("unfinished_requests", unfinished.into()),
            ("idle_connections_closed", closed.into()),
            ("hurried", (pace == Pace::Hurried).into()),
            ("milliseconds", u64::try_from(said.elapsed().as_millis()).unwrap_or(u64::MAX).into()),
        ];
        // This closes the log and joins its threads, unless a thread that could not be joined still uses it.
        drop(service);
        diagnostics.info("shutdown ended", &fields);
    }

    /// Waits for `patience` or until `done`, and does what signals ask for meanwhile.
    fn wait(
        &self,
        patience: Duration,
        done: impl Fn() -> bool,
        next_signal: &dyn Fn(Duration) -> Option<Signal>,
    ) -> Pace {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !done() {
            match next_signal(DRAIN_LOOK.min(deadline.saturating_duration_since(Instant::now()))) {
                None => {}
                Some(Signal::Reload) => self.reload(),
                Some(Signal::Terminate | Signal::Interrupt) => return Pace::Hurried,
            }
        }
        Pace::Orderly
    }
}

/// Opens a file that is read again while the program runs, if there is to be one.
fn load<T>(
    path: Option<&PathBuf>,
    metrics: &Arc<Metrics>,
    diagnostics: &Arc<Diagnostics>,
    load: impl Fn(PathBuf, Arc<Metrics>, Arc<Diagnostics>) -> Result<T, watched::Error>,
) -> Result<Option<Arc<T>>, StartError> {
    let loaded = path.map(|path| load(path.clone(), Arc::clone(metrics), Arc::clone(diagnostics)));
    Ok(loaded.transpose()?.map(Arc::new))
}

/// Whether the shutdown takes the time that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It does.
    Orderly,
    /// No: a second signal to end came.
    Hurried,
}

/// Joins the threads that end before `deadline`. The others end with the process.
fn join_all(threads: Vec<JoinHandle<()>>, deadline: Instant) {
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // Its panic has been said by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Binds the audit ports.
fn bind_audit(config: &Config) -> Result<Vec<Listener>, StartError> {
    let address = ("--server-address", config.server_address);
    let mut listeners = bind(Port::Https, ("--server-port", config.server_port), address)?;
    if let Some(number) = config.http_port {
        listeners.extend(bind(Port::Http, ("--http-port", number), address)?);
    }
    Ok(listeners)
}

/// Binds a port; number and address with the flags that set them.
fn bind(
    port: Port,
    (flag, number): (&'static str, u16),
    (address_flag, address): (&'static str, Option<IpAddr>),
) -> Result<Vec<Listener>, StartError> {
    Listener::bind(port, address, number).map_err(|error| {
        let address = address.map_or_else(String::new, |address| format!("{address_flag} {address}, "));
        StartError(format!("{address}{flag} {number}: {error}"))
    })
}

impl Ports {
    /// Starts a thread for each listener.
    fn serve(listeners: Vec<Listener>, service: &Arc<Service>, roster: Arc<Roster>) -> Result<Self, StartError> {
        let addresses = listeners.iter().map(|listener| (listener.port, listener.address)).collect();
        let mut ports = Self { roster, addresses, threads: Vec::new() };
        for listener in listeners {
            let (service, roster) = (Arc::clone(service), Arc::clone(&ports.roster));
            roster.expect_listener();
            let thread = thread::Builder::new()
                .name(format!("accept-{}", listener.port.name()))
                .stack_size(ACCEPT_STACK)
                .spawn(move || serve_port(listener, &service, &roster));
            ports.threads.push(thread.map_err(StartError::system)?);
        }
        Ok(ports)
    }
}

/// An accepting thread: hands what `net` accepts to what serves a connection.
fn serve_port(listener: Listener, service: &Service, roster: &Roster) {
    let port = listener.port;
    let tls = || service.tls.config();
    let serving = Serving {
        roster,
        diagnostics: &service.diagnostics,
        tls: match port {
            Port::Https => Some(&tls),
            Port::Http | Port::Metrics => None,
        },
        serve: &|accepted| connection::serve(service, port, accepted),
    };
    accept::serve(listener, &serving);
}

fn warn_of_few_descriptors(needed: usize, diagnostics: &Diagnostics) {
    if let Some(limit) = process::descriptor_limit()
        && limit < needed
    {
        let msg = "the limit on open files is too low for --max-connections: connections will be closed early";
        diagnostics.warn(msg, &[("limit", limit.into()), ("needed", needed.into())]);
    }
}
