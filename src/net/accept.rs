//! Binding, accepting, and the threads that serve. Knows nothing of HTTP or JSON.
//!
//! The accepting thread does nothing but accept, so that a burst of connections does not overflow the kernel's queue. A
//! worker that takes a connection first sees to it that another worker waits for the next one; so the pool grows with
//! the demand, and workers that find nothing to do for a while end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::net::roster::{Place, Roster};
use crate::net::transport::Wire;
use crate::observe::diagnostics::RateLimit;
use crate::serve::connection;
use crate::serve::routes::Port;
use crate::serve::service::Service;

/// How often the accepting thread looks up from accept(2): for the order to stop, and for connections whose time is up.
const TICK: Duration = Duration::from_millis(100);

/// A worker that has had nothing to do for so long ends, unless it is the last that waits.
const WORKER_IDLE: Duration = Duration::from_secs(10);

/// A rest after accept(2) failed for want of descriptors or memory, unless a connection ends meanwhile, instead of
/// spinning.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Of a worker. A handshake takes the most, under 64 KiB; only what is touched becomes memory.
const STACK: usize = 512 * 1024;

/// A port that is bound, not yet served.
#[derive(Debug)]
pub struct Listener {
    port: Port,
    socket: TcpListener,
    /// The address really bound.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds `number` (0: a free one) on `address`, or on all addresses, IPv6 and IPv4.
    pub fn bind(port: Port, address: Option<IpAddr>, number: u16) -> io::Result<Self> {
        let socket = match address {
            Some(address) => TcpListener::bind((address, number))?,
            None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, number)) {
                // A kernel without IPv6.
                Err(error) if error.kind() != ErrorKind::AddrInUse && error.kind() != ErrorKind::PermissionDenied => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number))?
                }
                bound => bound?,
            },
        };
        // Linux lets SO_RCVTIMEO end accept(2) too; std offers it on streams.
        TcpStream::from(OwnedFd::from(socket.try_clone()?)).set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        Ok(Self { port, socket, address })
    }

    /// What it serves.
    pub fn port(&self) -> Port {
        self.port
    }
}

/// Tells the listeners to stop.
#[derive(Debug, Default)]
pub struct Orders {
    /// Take what the kernel has queued, then close the port.
    stop_accepting: AtomicBool,
    /// Nobody waits for a place any more.
    give_up: AtomicBool,
    /// Listeners that still accept.
    accepting: AtomicUsize,
}

impl Orders {
    /// Closes the ports once what the kernel has queued is taken, and waits for that at most until `deadline`.
    pub fn close_ports(&self, deadline: Instant) {
        self.stop_accepting.store(true, Ordering::Release);
        while self.accepting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Connections that wait for a place are dropped.
    pub fn give_up(&self) {
        self.give_up.store(true, Ordering::Release);
    }

    /// A listener is about to accept. Counted before its thread starts, so that [`Orders::close_ports`] waits for it.
    pub fn expect_one(&self) {
        self.accepting.fetch_add(1, Ordering::AcqRel);
    }
}

/// Serves a port until it is ordered to stop and its last connection has ended.
pub fn serve(listener: Listener, service: &Service, roster: &Arc<Roster>, orders: &Orders) {
    let pool = Pool {
        port: listener.port,
        // One waits for the next connection while all others serve.
        most: roster.most().saturating_add(1),
        service,
        roster,
        complaints: RateLimit::new(),
        jobs: Mutex::default(),
        arrived: Condvar::new(),
    };
    thread::scope(|scope| {
        accept(listener, scope, &pool, roster, orders);
        orders.accepting.fetch_sub(1, Ordering::AcqRel);
        pool.lock().closed = true;
        pool.arrived.notify_all();
    });
}

fn accept<'s>(listener: Listener, scope: &'s Scope<'s, '_>, pool: &'s Pool<'_>, roster: &Arc<Roster>, orders: &Orders) {
    let mut last_round = false;
    loop {
        pool.see_to_a_waiting_worker(scope);
        roster.cut_expired();
        if !last_round && orders.stop_accepting.load(Ordering::Acquire) {
            // From here on accept(2) fails where it would wait.
            last_round = listener.socket.set_nonblocking(true).is_ok();
            if !last_round {
                return;
            }
        }
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                if let Some(place) = admit(stream, peer, pool, roster, orders) {
                    pool.serve_soon(place);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && last_round => return,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                // The peer gave up between its connect and our accept.
                ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                _ => {
                    // No descriptor or no memory: an idle connection gives its own back.
                    let evicted = roster.evict();
                    pool.complain("cannot accept connections", &error, evicted);
                    roster.wait_for_one_to_leave(ACCEPT_REST);
                }
            },
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, pool: &Pool<'_>, roster: &Arc<Roster>, orders: &Orders) -> Option<Place> {
    // A reply must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let config = (pool.port == Port::Https).then(|| pool.service.tls.config());
    let wire =
        Wire::new(stream, config).map_err(|error| pool.complain("cannot begin a TLS session", &error, false)).ok()?;
    roster.admit(wire, peer, || orders.give_up.load(Ordering::Acquire))
}

/// The threads that serve a port's connections, one each.
struct Pool<'e> {
    port: Port,
    most: usize,
    service: &'e Service,
    roster: &'e Arc<Roster>,
    complaints: RateLimit,
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Place>,
    threads: usize,
    idle: usize,
    /// Threads started since the start, for their names.
    started: usize,
    closed: bool,
}

impl<'e> Pool<'e> {
    fn serve_soon(&self, place: Place) {
        self.lock().waiting.push_back(place);
        self.arrived.notify_one();
    }

    /// Starts a worker if more connections wait than workers.
    fn see_to_a_waiting_worker<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut jobs = self.lock();
        if jobs.idle > jobs.waiting.len() || jobs.threads >= self.most || jobs.closed {
            return;
        }
        jobs.threads += 1;
        jobs.idle += 1;
        jobs.started += 1;
        let name = format!("{}-{}", self.port.name(), jobs.started);
        drop(jobs);
        let worker = thread::Builder::new().name(name).stack_size(STACK);
        if let Err(error) = worker.spawn_scoped(scope, move || self.work(scope)) {
            let mut jobs = self.lock();
            jobs.threads -= 1;
            jobs.idle -= 1;
            let one_waits = jobs.waiting.len() > jobs.idle;
            drop(jobs);
            // A connection that waits for a worker gets that of the one longest idle, or the next try's a tick later.
            let evicted = one_waits && self.roster.evict();
            self.complain("cannot start a thread", &error, evicted);
        }
    }

    /// A worker's life.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        while let Some(place) = self.next_job() {
            self.see_to_a_waiting_worker(scope);
            let connections = &self.service.metrics.connections;
            connections.add(self.port, 1);
            connection::serve(self.service, self.port, &place.slot);
            connections.add(self.port, -1);
            drop(place);
            self.lock().idle += 1;
        }
    }

    /// Waits for a connection, as one of the idle. `None` when the worker is not needed any more.
    fn next_job(&self) -> Option<Place> {
        let mut jobs = self.lock();
        let mut superfluous = false;
        loop {
            if let Some(place) = jobs.waiting.pop_front() {
                jobs.idle -= 1;
                return Some(place);
            }
            if jobs.closed || superfluous {
                jobs.idle -= 1;
                jobs.threads -= 1;
                return None;
            }
            let waited = self.arrived.wait_timeout(jobs, WORKER_IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = waited.0;
            superfluous = waited.1.timed_out() && jobs.idle > 1;
        }
    }

    fn complain(&self, msg: &str, error: &dyn std::fmt::Display, evicted: bool) {
        if let Some(left_out) = self.complaints.admit(Instant::now()) {
            let error = error.to_string();
            let fields = [
                ("listener", self.port.name().into()),
                ("error", (&error).into()),
                ("evicted", evicted.into()),
                ("left_out", left_out.into()),
            ];
            self.service.diagnostics.error(msg, &fields);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
