//! One connection as all threads see it: its socket, its TLS session and its state.
//!
//! A thread of its own serves the connection; it blocks in read(2) and says how far it is. Until the end of a drain, which
//! closes both directions of whatever is left, other threads may end it only as this table says:
//!
//! | state | who may end it | how |
//! |---|---|---|
//! | `Handshaking` | the roster, for room; the drain | both directions are closed; `Closing` |
//! | `Waiting` for a request, refusing one, or answering a page of the metrics port | the roster, for room; the drain; its own thread after the idle time | close_notify, then our writing side is closed; `Closing` |
//! | `Arriving`: a request's body is being received | the roster or the memory, if it is slow and others wait | our reading side is closed, which wakes its thread; `GivingWay` |
//! | `Complete`: a request is being recorded and answered | nobody | |
//! | `GivingWay`: its thread answers 503 and closes | the roster, one second later | both directions are closed; `Cut` |
//! | `Closing`: it is read on for what was already on its way | the roster, one second later | both directions are closed; `Cut` |
//!
//! The roster waits for less than that second where many are on their way out, or descriptors or threads are scarce.
//!
//! What was on its way when our writing side was closed is still recorded: the API server does not send it again.

mod life;
mod pace;

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::observe::labels::Evicted;
pub(super) use life::Turn;
pub use life::{Closed, Standing};
use life::{History, Life, State};
use pace::Pace;

/// How long a connection that we close is read on, for a request that was already on its way.
pub const LINGER: Duration = Duration::from_secs(1);

/// A connection, shared by its own thread, the roster and the memory for bodies.
pub struct Connection {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    pub(super) socket: TcpStream,
    /// `None`: plain TCP.
    pub(super) session: Option<Mutex<Session>>,
    life: Mutex<Life>,
}

/// A TLS session, locked by whoever calls into it.
pub(super) struct Session {
    pub(super) tls: UnbufferedServerConnection,
    /// No byte of an unfinished record or message is in the receive buffer. Only then may another thread, which does not
    /// have that buffer, call into `tls`: rustls has to see the same bytes again.
    pub(super) between_records: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("life", &self.life).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection just accepted; TLS where a configuration is given.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn new(
        socket: TcpStream,
        peer: SocketAddr,
        config: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Self, rustls::Error> {
        let tls = config.map(UnbufferedServerConnection::new).transpose()?;
        let session = tls.map(|tls| Mutex::new(Session { tls, between_records: false }));
        let accepted = Instant::now();
        let life = Life { state: State::Handshaking { since: accepted }, history: History::Unproven };
        Ok(Self { peer, socket, session, accepted, life: Mutex::new(life) })
    }

    /// Its own thread: begins to serve it. The newcomer's time for its handshake runs from here.
    pub(super) fn begin(&self) {
        if let State::Handshaking { since } = &mut self.lock().state {
            *since = Instant::now();
        }
    }

    /// Its own thread: the handshake is done or a reply is sent, it waits for the next request.
    pub fn await_request(&self) {
        self.advance(State::Waiting { since: Instant::now() });
    }

    /// Its own thread: a head is complete, the body is being received from now on.
    pub fn begin_body(&self) -> Standing {
        self.advance(State::Arriving { pace: Pace::new(Instant::now()) })
    }

    /// Its own thread: a request is complete.
    pub fn complete(&self) -> Standing {
        self.advance(State::Complete)
    }

    /// Its own thread: a body is not received for a while because memory is short.
    pub fn pause(&self) {
        if let State::Arriving { pace } = &mut self.lock().state {
            pace.pause(Instant::now());
        }
    }

    /// Its own thread: it waited for memory and reads the body on from here; its pace is counted anew.
    pub fn resume(&self) {
        if let State::Arriving { pace } = &mut self.lock().state {
            *pace = Pace::new(Instant::now());
        }
    }

    fn advance(&self, next: State) -> Standing {
        let mut life = self.lock();
        let standing = life.standing();
        if standing == Standing::Open {
            life.state = next;
        }
        standing
    }

    /// Its own thread: it has carried a valid request.
    pub fn prove(&self) {
        self.lock().history = History::Proven;
    }

    /// Its own thread: a request on it is refused.
    pub fn refuse(&self) {
        let mut life = self.lock();
        if life.history == History::Unproven {
            life.history = History::Refused;
        }
    }

    /// Its own thread: `count` bytes were received.
    pub(super) fn received(&self, count: usize) {
        if let State::Arriving { pace } = &mut self.lock().state {
            pace.add(u64::try_from(count).unwrap_or(u64::MAX), Instant::now());
        }
    }

    /// How it stands: whether a request on it can still be answered.
    pub fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// Bytes of the arriving body that came in the last full window of a quarter of a second, and since; [`u64::MAX`]
    /// before its first window is over, `None` if no body is arriving.
    pub fn pace(&self, now: Instant) -> Option<u64> {
        match &self.lock().state {
            State::Arriving { pace } => Some(pace.recent(now)),
            _ => None,
        }
    }

    /// Makes a request whose body is arriving give way: its thread wakes up, answers 503 and closes.
    pub fn give_way(&self) -> Closed {
        let life = self.lock();
        match life.state {
            State::Arriving { .. } => self.end(life, LINGER),
            _ => Closed::No,
        }
    }

    /// Its place in the order in which connections make room, see [`Life::turn`].
    pub(super) fn turn(&self, now: Instant) -> Option<(Turn, u64)> {
        self.lock().turn(self.accepted, now)
    }

    /// Ends it, to leave within `linger`, if it still may be ended to make room. Returns what that is counted as.
    pub(super) fn evict(&self, now: Instant, linger: Duration) -> Option<Evicted> {
        let life = self.lock();
        let (turn, _) = life.turn(self.accepted, now)?;
        (self.end(life, linger) == Closed::Now).then(|| turn.into())
    }

    /// Closes our writing side if it waits for a request, or both directions if it is amid its handshake.
    pub fn close_if_waiting(&self) -> Closed {
        let life = self.lock();
        match life.state {
            State::Handshaking { .. } | State::Waiting { .. } => self.end(life, LINGER),
            _ => Closed::No,
        }
    }

    /// Ends it as the table says for its state. The state changes first, so that only one thread ends it.
    fn end(&self, mut life: MutexGuard<'_, Life>, linger: Duration) -> Closed {
        let until = Instant::now() + linger;
        let next = match life.state {
            State::Handshaking { .. } | State::Waiting { .. } => State::Closing { until },
            State::Arriving { .. } => State::GivingWay { until },
            State::Complete | State::GivingWay { .. } | State::Closing { .. } | State::Cut => return Closed::No,
        };
        let before = std::mem::replace(&mut life.state, next);
        drop(life);
        match before {
            State::Handshaking { .. } => drop(self.socket.shutdown(Shutdown::Both)),
            State::Arriving { .. } => drop(self.socket.shutdown(Shutdown::Read)),
            _ => self.say_goodbye(),
        }
        Closed::Now
    }

    /// When it is to be cut; `None` if it is not on its way out, or cut already.
    pub fn leaves_by(&self) -> Option<Instant> {
        match self.lock().state {
            State::GivingWay { until } | State::Closing { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the drain has to wait for it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.lock().is_due(now)
    }

    /// Closes both directions at once; the connection's own thread sees the end of the stream.
    pub(super) fn cut(&self) {
        self.lock().state = State::Cut;
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Closes our writing side, after close_notify where TLS is spoken. Called by any thread; takes a millisecond at most.
    fn say_goodbye(&self) {
        // No close_notify if its own thread is amid a write, or part of a record has come.
        if let Some(session) = &self.session
            && let Ok(mut session) = session.try_lock()
            && session.between_records
        {
            let mut alert = [0; 128];
            if let UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(mut traffic)), .. } =
                session.tls.process_tls_records(&mut [])
                && let Ok(length) = traffic.queue_close_notify(&mut alert)
            {
                let _ = self.socket.set_write_timeout(Some(Duration::from_millis(1)));
                let _ = (&self.socket).write_all(alert.get(..length).unwrap_or_default());
            }
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
