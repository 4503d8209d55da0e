//! One connection as all threads see it: its socket, its TLS session and its state.
//!
//! A thread of its own serves the connection; it blocks in read(2) and says how far it is. Other threads may end it only
//! as this table says:
//!
//! | state | who may end it | how |
//! |---|---|---|
//! | `Handshaking` | the roster, for room; the end of the drain | both directions are closed |
//! | `Waiting` for a request, or refusing one | the roster, for room; the drain; its own thread after the idle time | close_notify, then our writing side is closed; `Closing` |
//! | `Arriving`: a request's body is being received | the roster or the memory, if it is slow and others wait | our reading side is closed, which wakes its thread; `GivingWay` |
//! | `Complete`: a request is being recorded and answered | nobody before the end of the drain | both directions are closed |
//! | `GivingWay`: its thread answers 503 and closes | the roster, one second later | both directions are closed |
//! | `Closing`: it is read on for what was already on its way | the roster, one second later | both directions are closed |
//!
//! What was on its way when our writing side was closed is still recorded: the API server does not send it again.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::observe::labels::Evicted;

/// A client that has carried no valid request for so long makes room first. The API server sends the request that it
/// dialled for within milliseconds.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A connection idle for so long makes room before any that has just been used or dialled.
const IDLE: Duration = Duration::from_secs(1);

/// A newcomer has this time for each step, handshake and first request, and any client between two requests, before it
/// makes room for a newcomer.
const NEWCOMER: Duration = Duration::from_millis(100);

/// Bytes received are counted over windows of this length.
pub const WINDOW: Duration = Duration::from_millis(250);

/// A body that brings fewer bytes than this in a window (64 KiB a second) is slow: a large one could not end in time.
pub const SLOW: u64 = 16 * 1024;

/// A connection, shared by its own thread, the roster and the memory for bodies.
pub struct Connection {
    /// Who is at the other end.
    pub peer: SocketAddr,
    pub(super) socket: TcpStream,
    /// `None`: plain TCP.
    pub(super) session: Option<Mutex<Session>>,
    accepted: Instant,
    life: Mutex<Life>,
}

/// A TLS session, locked by whoever calls into it.
pub(super) struct Session {
    pub(super) tls: UnbufferedServerConnection,
    /// No byte of an unfinished record or message is in the receive buffer. Only then may another thread, which does not
    /// have that buffer, call into `tls`: rustls has to see the same bytes again.
    pub(super) between_records: bool,
}

#[derive(Debug)]
struct Life {
    state: State,
    history: History,
}

/// What a connection has carried so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// No request.
    Unproven,
    /// Nothing but requests that were refused.
    Refused,
    /// A valid request.
    Proven,
}

#[derive(Debug)]
enum State {
    Handshaking {
        since: Instant,
    },
    Waiting {
        since: Instant,
    },
    Arriving {
        /// `None` while its thread waits for memory and so receives nothing.
        pace: Option<Pace>,
    },
    Complete,
    GivingWay,
    Closing,
}

/// In which order connections make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It had its first second and carried no valid request.
    Unproven,
    /// It was idle for over a second.
    Idle,
    /// Its request arrives slowly.
    Slow,
    /// It is new, and its first request was refused.
    Refused,
    /// It is new and amid its handshake, and others are newer.
    Handshaking,
    /// It is new, and others are newer.
    Newcomer,
    /// It was idle for less than a second.
    JustIdle,
}

impl Turn {
    /// Whether those who make room in this turn had less than a second.
    pub(super) fn is_of_a_newcomer(self) -> bool {
        matches!(self, Self::Refused | Self::Handshaking | Self::Newcomer)
    }
}

impl From<Turn> for Evicted {
    fn from(turn: Turn) -> Self {
        match turn {
            Turn::Unproven => Self::Unproven,
            Turn::Idle | Turn::JustIdle => Self::Idle,
            Turn::Slow => Self::Slow,
            Turn::Refused | Turn::Handshaking | Turn::Newcomer => Self::Newcomer,
        }
    }
}

/// Whether a request that begins or ends can still be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Open,
    /// Our writing side is closed: the request can be recorded, not answered.
    Closing,
    /// It has to give way: it is answered 503 and not recorded.
    GivingWay,
}

/// Whether [`Connection::close_if_waiting`] closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It did.
    Now,
    /// A request is in progress, or it was closed before.
    No,
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

    /// When it was accepted.
    pub fn accepted(&self) -> Instant {
        self.accepted
    }

    /// Its own thread: begins to serve it. The newcomer's time for a step runs from here.
    pub(super) fn begin(&self) {
        if let State::Handshaking { since } = &mut self.lock().state {
            *since = Instant::now();
        }
    }

    /// Its own thread: the handshake is done, it waits for its first request.
    pub fn end_handshake(&self) {
        let mut life = self.lock();
        // It may have been evicted meanwhile.
        if let State::Handshaking { .. } = life.state {
            life.state = State::Waiting { since: Instant::now() };
        }
    }

    /// Its own thread: a head is complete, the body is being received from now on.
    pub fn begin_body(&self) -> Standing {
        self.advance(State::Arriving { pace: Some(Pace::new(Instant::now())) })
    }

    /// Its own thread: a request is complete.
    pub fn complete(&self) -> Standing {
        self.advance(State::Complete)
    }

    /// Its own thread: nothing of a body is received until [`Connection::resume`], because memory is short.
    pub fn pause(&self) -> Standing {
        let mut life = self.lock();
        if let State::Arriving { pace } = &mut life.state {
            *pace = None;
        }
        life.standing()
    }

    /// Its own thread: the body is received again.
    pub fn resume(&self) {
        if let State::Arriving { pace } = &mut self.lock().state {
            *pace = Some(Pace::new(Instant::now()));
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

    /// Its own thread: the reply is sent, it waits for the next request.
    pub fn end_request(&self) {
        self.advance(State::Waiting { since: Instant::now() });
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
        if let State::Arriving { pace: Some(pace) } = &mut self.lock().state {
            pace.add(u64::try_from(count).unwrap_or(u64::MAX), Instant::now());
        }
    }

    /// How it stands: whether a request on it can still be answered.
    pub fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// Bytes of a body received in the last window or two; `None` if no body is arriving, or not for long enough to tell.
    pub fn pace(&self, now: Instant) -> Option<u64> {
        match &self.lock().state {
            State::Arriving { pace: Some(pace) } => pace.recent(now),
            _ => None,
        }
    }

    /// Makes a request whose body is arriving give way: its thread wakes up, answers 503 and closes.
    pub fn give_way(&self) -> Closed {
        let mut life = self.lock();
        let State::Arriving { pace: Some(_) } = life.state else {
            return Closed::No;
        };
        life.state = State::GivingWay;
        drop(life);
        let _ = self.socket.shutdown(Shutdown::Read);
        Closed::Now
    }

    /// When it is its turn to make room, and how early among its like (the least first); `None` if it may not be ended.
    pub(super) fn turn(&self, now: Instant) -> Option<(Turn, u64)> {
        self.turn_of(&self.lock(), now)
    }

    fn turn_of(&self, life: &Life, now: Instant) -> Option<(Turn, u64)> {
        let age = |since: Instant| now.saturating_duration_since(since);
        // The oldest comes first.
        let order = |age: Duration| u64::MAX - u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        match (&life.state, life.history) {
            (State::Handshaking { .. } | State::Waiting { .. }, History::Unproven | History::Refused)
                if age(self.accepted) >= FIRST_REQUEST =>
            {
                Some((Turn::Unproven, order(age(self.accepted))))
            }
            (State::Waiting { since }, History::Refused) => {
                (age(*since) >= NEWCOMER).then(|| (Turn::Refused, order(age(*since))))
            }
            (State::Handshaking { since }, _) => {
                (age(*since) >= NEWCOMER).then(|| (Turn::Handshaking, order(age(*since))))
            }
            (State::Waiting { since }, History::Unproven) => {
                (age(*since) >= NEWCOMER).then(|| (Turn::Newcomer, order(age(*since))))
            }
            (State::Waiting { since }, History::Proven) => {
                let turn = if age(*since) >= IDLE { Turn::Idle } else { Turn::JustIdle };
                (age(*since) >= NEWCOMER).then(|| (turn, order(age(*since))))
            }
            (State::Arriving { pace: Some(pace) }, _) => {
                pace.recent(now).filter(|bytes| *bytes < SLOW).map(|bytes| (Turn::Slow, bytes))
            }
            (State::Arriving { pace: None } | State::Complete | State::GivingWay | State::Closing, _) => None,
        }
    }

    /// Ends it as the table says, if it still may be; says as what.
    pub(super) fn evict(&self, now: Instant) -> Option<Evicted> {
        let mut life = self.lock();
        let (turn, _) = self.turn_of(&life, now)?;
        match life.state {
            State::Handshaking { .. } => {
                drop(life);
                self.cut();
            }
            State::Arriving { .. } => {
                life.state = State::GivingWay;
                drop(life);
                let _ = self.socket.shutdown(Shutdown::Read);
            }
            _ => {
                life.state = State::Closing;
                drop(life);
                self.say_goodbye();
            }
        }
        Some(turn.into())
    }

    /// Closes our writing side if it waits for a request, or cuts it amid its handshake.
    pub fn close_if_waiting(&self) -> Closed {
        let mut life = self.lock();
        match life.state {
            State::Handshaking { .. } => {
                life.state = State::Closing;
                drop(life);
                self.cut();
                Closed::Now
            }
            State::Waiting { .. } => {
                life.state = State::Closing;
                drop(life);
                self.say_goodbye();
                Closed::Now
            }
            _ => Closed::No,
        }
    }

    /// Whether it takes one of the places: it is not on its way out.
    pub(super) fn takes_a_place(&self) -> bool {
        !matches!(self.lock().state, State::GivingWay | State::Closing)
    }

    /// Whether the drain has to wait for it: a request or a handshake is in progress, or the request that it was dialled
    /// for is about to come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let life = self.lock();
        match (&life.state, life.history) {
            (State::Handshaking { .. } | State::Arriving { .. } | State::Complete, _) => true,
            (State::Waiting { since }, History::Unproven) => now.saturating_duration_since(*since) < FIRST_REQUEST,
            (State::Waiting { .. }, History::Refused | History::Proven) | (State::GivingWay | State::Closing, _) => {
                false
            }
        }
    }

    /// Closes both directions at once; the connection's own thread sees the end of the stream.
    pub(super) fn cut(&self) {
        self.lock().state = State::Closing;
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Closes our writing side, after close_notify where TLS is spoken. Called by other threads; never blocks for long.
    fn say_goodbye(&self) {
        // Where its own thread is amid a write, or amid a record, there is no room for a close_notify.
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

impl Life {
    fn standing(&self) -> Standing {
        match self.state {
            State::Closing => Standing::Closing,
            State::GivingWay => Standing::GivingWay,
            State::Handshaking { .. } | State::Waiting { .. } | State::Arriving { .. } | State::Complete => {
                Standing::Open
            }
        }
    }
}

/// How many bytes came lately.
#[derive(Debug)]
struct Pace {
    /// When the window that is being counted began.
    began: Instant,
    bytes: u64,
    /// Bytes of the window before; `None` in the first.
    before: Option<u64>,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0, before: None }
    }

    fn add(&mut self, count: u64, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Self { began: now, bytes: 0, before: Some(self.recent(now).unwrap_or(0)) };
        }
        self.bytes = self.bytes.saturating_add(count);
    }

    /// Bytes of the last window or two; `None` before the first is over.
    fn recent(&self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= 2 * WINDOW {
            // All that was counted came in the first half of this time.
            Some(0)
        } else if elapsed >= WINDOW {
            Some(self.bytes)
        } else {
            self.before.map(|before| before.saturating_add(self.bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_after_a_window_and_is_zero_when_nothing_came_for_a_window() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        assert_eq!(pace.recent(after(249)), None);
        pace.add(1000, after(100));
        assert_eq!(pace.recent(after(300)), Some(1000));
        pace.add(10, after(300));
        assert_eq!(pace.recent(after(310)), Some(1010));
        pace.add(1, after(600));
        assert_eq!(pace.recent(after(610)), Some(11));
        assert_eq!(pace.recent(after(1100)), Some(0));
        pace.add(1, after(2000));
        assert_eq!(pace.recent(after(2001)), Some(1));
    }

    /// A connection whose other end is kept.
    fn connection() -> (Connection, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        (Connection::new(socket, peer, None).unwrap(), other)
    }

    #[test]
    fn a_connection_is_ranked_by_what_it_did_and_for_how_long() {
        let (connection, _other) = connection();
        let start = connection.accepted();
        let as_what = |after| connection.turn(start + Duration::from_millis(after)).map(|(turn, _)| turn);
        assert_eq!(as_what(50), None);
        assert_eq!(as_what(500), Some(Turn::Handshaking));
        assert_eq!(as_what(1001), Some(Turn::Unproven));
        connection.end_handshake();
        assert_eq!(as_what(50), None);
        assert_eq!(as_what(500), Some(Turn::Newcomer));
        connection.begin_body();
        assert_eq!(as_what(200), None);
        assert_eq!(as_what(1500), Some(Turn::Slow));
        connection.pause();
        assert_eq!(as_what(1500), None);
        connection.complete();
        assert_eq!(as_what(60_000), None);
        connection.prove();
        connection.end_request();
        assert_eq!(as_what(900), Some(Turn::JustIdle));
        assert_eq!(as_what(2500), Some(Turn::Idle));
    }

    #[test]
    fn a_complete_request_is_not_ended_and_one_that_gives_way_is_told_so() {
        let (connection, _other) = connection();
        connection.end_handshake();
        assert_eq!(connection.complete(), Standing::Open);
        assert_eq!((connection.close_if_waiting(), connection.give_way()), (Closed::No, Closed::No));
        assert_eq!(connection.evict(connection.accepted() + Duration::from_secs(60)), None);
        connection.end_request();
        connection.begin_body();
        assert_eq!(connection.give_way(), Closed::Now);
        assert_eq!(connection.complete(), Standing::GivingWay);
    }

    #[test]
    fn a_request_that_meets_the_closing_of_its_connection_is_told_so() {
        let (connection, _other) = connection();
        connection.end_handshake();
        assert_eq!(connection.close_if_waiting(), Closed::Now);
        assert_eq!(connection.begin_body(), Standing::Closing);
        connection.end_request();
        assert_eq!(connection.complete(), Standing::Closing);
    }
}
