//! Binding and accepting. The accepting thread does nothing but accept, so that a burst of connections does not overflow
//! the kernel's queue.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::net::connection::Connection;
use crate::net::pool::Pool;
use crate::net::roster::{Room, Roster};
use crate::observe::diagnostics::Diagnostics;

/// How often the accepting thread looks up from accept(2): for the order to stop, and for connections whose time is up.
const TICK: Duration = Duration::from_millis(100);

/// How long the accepting thread rests after accept(2) failed for want of descriptors or memory, if no connection ends
/// meanwhile.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Tells whether an IPv6 socket takes IPv4 connections too (ip(7)); `1`: it does not.
const BIND_V6_ONLY: &str = "/proc/sys/net/ipv6/bindv6only";

/// A port that is bound, not yet served.
#[derive(Debug)]
pub struct Listener {
    /// What messages and threads call it.
    pub name: &'static str,
    socket: TcpListener,
    /// The address really bound.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds `port` (0: a free one) on `address`, or on all addresses, IPv6 and IPv4, which takes two sockets where the
    /// system is set to `bindv6only`.
    ///
    /// # Errors
    /// What bind(2) said.
    pub fn bind(name: &'static str, address: Option<IpAddr>, port: u16) -> io::Result<Vec<Self>> {
        let Some(address) = address else {
            return Self::bind_all(name, port);
        };
        Ok(vec![Self::bind_one(name, address, port)?])
    }

    fn bind_all(name: &'static str, port: u16) -> io::Result<Vec<Self>> {
        let all_ipv4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        match Self::bind_one(name, Ipv6Addr::UNSPECIFIED.into(), port) {
            // The kernel has no IPv6.
            Err(error) if error.kind() != ErrorKind::AddrInUse && error.kind() != ErrorKind::PermissionDenied => {
                Ok(vec![Self::bind_one(name, all_ipv4, port)?])
            }
            Err(error) => Err(error),
            Ok(both) if !fs::read_to_string(BIND_V6_ONLY).is_ok_and(|setting| setting.trim() == "1") => Ok(vec![both]),
            Ok(ipv6) => {
                let ipv4 = Self::bind_one(name, all_ipv4, ipv6.address.port())?;
                Ok(vec![ipv6, ipv4])
            }
        }
    }

    fn bind_one(name: &'static str, address: IpAddr, port: u16) -> io::Result<Self> {
        let socket = TcpListener::bind((address, port))?;
        // Linux lets SO_RCVTIMEO end accept(2) too; std offers it on streams.
        TcpStream::from(OwnedFd::from(socket.try_clone()?)).set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        Ok(Self { name, socket, address })
    }
}

/// Tells listeners to stop. Shared by those that stop together.
#[derive(Debug, Default)]
pub struct Orders {
    state: Mutex<Ordered>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct Ordered {
    order: Order,
    /// Listeners that still accept.
    accepting: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Order {
    #[default]
    Accept,
    /// Take what the kernel has queued, then close the port.
    Close,
    /// Drop connections that still wait for admission.
    GiveUp,
}

impl Orders {
    /// A listener is about to accept. Called before its thread starts, so that [`Orders::close_ports`] waits for it.
    pub fn expect_one(&self) {
        self.lock().accepting += 1;
    }

    /// Closes the ports once what the kernel has queued is taken, and waits for that at most until `deadline`.
    pub fn close_ports(&self, deadline: Instant) {
        let mut state = self.lock();
        state.order = Order::Close;
        while state.accepting > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Drops connections that still wait for admission.
    pub fn give_up(&self) {
        self.lock().order = Order::GiveUp;
    }

    fn current(&self) -> Order {
        self.lock().order
    }

    fn one_stopped(&self) {
        self.lock().accepting -= 1;
        self.stopped.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a listener's connections are handed to.
pub struct Serving<'a> {
    /// Who is let in.
    pub roster: &'a Roster,
    /// When to stop.
    pub orders: &'a Orders,
    /// The program's messages.
    pub diagnostics: &'a Diagnostics,
    /// The TLS configuration for a new connection; `None`: plain TCP.
    pub tls: Option<&'a (dyn Fn() -> Arc<ServerConfig> + Sync)>,
    /// Serves a connection until it ends.
    pub serve: &'a (dyn Fn(&Arc<Connection>) + Sync),
}

/// Serves a port until it is ordered to stop and its last connection has ended.
pub fn serve(listener: Listener, serving: &Serving<'_>) {
    let pool = Pool::new(listener.name, serving);
    thread::scope(|scope| {
        Acceptor { listener, pool: &pool, serving, reserve: None }.run(scope);
        serving.orders.one_stopped();
        pool.close();
    });
}

struct Acceptor<'p, 'e> {
    listener: Listener,
    pool: &'p Pool<'e>,
    serving: &'e Serving<'e>,
    /// A descriptor kept back: when there is no other, it is given up to accept a newcomer, for whom another connection
    /// then makes room.
    reserve: Option<File>,
}

impl<'p, 'e> Acceptor<'p, 'e> {
    fn run<'s>(mut self, scope: &'s Scope<'s, '_>)
    where
        'p: 's,
        'e: 's,
    {
        let (roster, orders) = (self.serving.roster, self.serving.orders);
        let mut last_round = false;
        loop {
            self.pool.see_to_a_waiting_worker(scope);
            roster.cut_expired();
            if !last_round && orders.current() != Order::Accept {
                // From here on accept(2) fails instead of waiting.
                last_round = self.listener.socket.set_nonblocking(true).is_ok();
                if !last_round {
                    return;
                }
            }
            if let Err(error) = self.keep_a_reserve() {
                self.make_room(&error);
                continue;
            }
            match self.accept() {
                Ok((socket, peer)) => {
                    if let Some(connection) = self.admit(socket, peer) {
                        self.pool.serve_soon(connection);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && last_round => return,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    // The peer gave up between its connect and our accept.
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    _ => self.make_room(&error),
                },
            }
        }
    }

    /// Where there is no /dev/null, as in a bare chroot, connections are accepted without a reserve.
    fn keep_a_reserve(&mut self) -> io::Result<()> {
        if self.reserve.is_none() {
            match File::open("/dev/null") {
                Err(error) if is_out_of_descriptors(&error) => return Err(error),
                opened => self.reserve = opened.ok(),
            }
        }
        Ok(())
    }

    /// accept(2), with the reserve's descriptor if there is no other.
    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.listener.socket.accept() {
            Err(error) if is_out_of_descriptors(&error) => {
                self.reserve = None;
                self.listener.socket.accept()
            }
            outcome => outcome,
        }
    }

    /// No descriptor or no memory: another connection gives its own back.
    fn make_room(&self, error: &io::Error) {
        let room = self.serving.roster.make_room();
        self.pool.complain("cannot accept connections", error, room);
        self.serving.roster.wait_for_one_to_leave(ACCEPT_REST);
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Arc<Connection>> {
        // A reply must not wait for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let config = self.serving.tls.map(|config| config());
        match Connection::new(socket, peer, config) {
            Ok(connection) => self.serving.roster.admit(connection, || self.serving.orders.current() == Order::GiveUp),
            Err(error) => {
                self.pool.complain("cannot begin a TLS session", &error, Room::None);
                None
            }
        }
    }
}

/// EMFILE and ENFILE (accept(2)), for which std has no stable name.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}
