//! Binding and accepting. The accepting thread does nothing but accept, so that a burst of connections does not overflow
//! the kernel's queue.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::Duration;

use rustls::ServerConfig;

use crate::net::connection::Connection;
use crate::net::pool::Pool;
use crate::net::roster::{Order, Roster};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::labels::Port;

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
    /// Which port it is, for the names of threads and for messages.
    pub port: Port,
    socket: TcpListener,
    /// The address really bound.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds the port with this `number` (0: a free one) on `address`, or on all addresses, IPv6 and IPv4, which takes two
    /// sockets where the system is set to `bindv6only`.
    ///
    /// # Errors
    /// What bind(2) said.
    pub fn bind(port: Port, address: Option<IpAddr>, number: u16) -> io::Result<Vec<Self>> {
        let Some(address) = address else {
            return Self::bind_all(port, number);
        };
        Ok(vec![Self::bind_one(port, address, number)?])
    }

    fn bind_all(port: Port, number: u16) -> io::Result<Vec<Self>> {
        let all_ipv4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        match Self::bind_one(port, Ipv6Addr::UNSPECIFIED.into(), number) {
            // The kernel has no IPv6.
            Err(error) if error.kind() != ErrorKind::AddrInUse && error.kind() != ErrorKind::PermissionDenied => {
                Ok(vec![Self::bind_one(port, all_ipv4, number)?])
            }
            Err(error) => Err(error),
            Ok(both) if !fs::read_to_string(BIND_V6_ONLY).is_ok_and(|setting| setting.trim() == "1") => Ok(vec![both]),
            Ok(ipv6) => {
                let ipv4 = Self::bind_one(port, all_ipv4, ipv6.address.port())?;
                Ok(vec![ipv6, ipv4])
            }
        }
    }

    fn bind_one(port: Port, address: IpAddr, number: u16) -> io::Result<Self> {
        let socket = TcpListener::bind((address, number))?;
        // Linux lets SO_RCVTIMEO end accept(2) too; std offers it on streams.
        TcpStream::from(OwnedFd::from(socket.try_clone()?)).set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        Ok(Self { port, socket, address })
    }
}

/// What a listener's connections are handed to.
pub struct Serving<'a> {
    /// Who is let in, and until when.
    pub roster: &'a Roster,
    /// The program's messages.
    pub diagnostics: &'a Diagnostics,
    /// The TLS configuration for a new connection; `None`: plain TCP.
    pub tls: Option<&'a (dyn Fn() -> Arc<ServerConfig> + Sync)>,
    /// Serves a connection until it ends.
    pub serve: &'a (dyn Fn(&Arc<Connection>) + Sync),
}

/// Serves a port until it is ordered to stop and its last connection has ended.
pub fn serve(listener: Listener, serving: &Serving<'_>) {
    let pool = Pool::new(listener.port, serving);
    thread::scope(|scope| {
        Acceptor { listener, pool: &pool, serving, reserve: None }.run(scope);
        serving.roster.listener_stopped();
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
        let roster = self.serving.roster;
        let mut last_round = false;
        loop {
            self.pool.see_to_a_waiting_worker(scope);
            roster.cut_expired();
            if !last_round && roster.order() != Order::Accept {
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
        self.pool.complain("cannot accept connections", error);
        self.serving.roster.make_room();
        self.serving.roster.wait_for_one_to_leave(ACCEPT_REST);
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Arc<Connection>> {
        // A reply must not wait for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        let config = self.serving.tls.map(|config| config());
        match Connection::new(socket, peer, config) {
            Ok(connection) => self.serving.roster.admit(connection),
            Err(error) => {
                self.pool.complain("cannot begin a TLS session", &error);
                None
            }
        }
    }
}

/// EMFILE and ENFILE (accept(2)), for which std has no stable name.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}
