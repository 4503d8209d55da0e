//! The connections that exist: who is let in and until when, and who makes room.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::connection::{Closed, Connection, LINGER, Standing};
use crate::observe::diagnostics::{Diagnostics, RateLimit};
use crate::observe::labels::Evicted;
use crate::observe::metrics::Metrics;

/// How long a connection that we close is read on where descriptors or threads are scarce.
const SCARCE_LINGER: Duration = Duration::from_millis(100);

/// How often a full roster is looked through again for a connection that may make room by now.
const RETRY: Duration = Duration::from_millis(10);

/// All connections of the listeners that share a cap.
#[derive(Debug)]
pub struct Roster {
    cap: usize,
    /// In this time at most `cap` newcomers are evicted, evenly spaced. So each keeps its place for about this long when
    /// newcomers come in a flood.
    round: Duration,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    eviction_messages: RateLimit,
    state: Mutex<State>,
    /// A connection has ended, or a listener stopped.
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// No newcomer is evicted before this time.
    newcomers_from: Option<Instant>,
    order: Order,
    /// Listeners that still accept.
    accepting: usize,
}

/// What the listeners are to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Accept,
    /// Take what the kernel has queued, then close the port.
    Close,
    /// Drop connections that still wait for admission.
    GiveUp,
}

impl Roster {
    /// `cap`: connections served at once. `round`: the least time in which a flood of newcomers can go through all places.
    pub fn new(cap: usize, round: Duration, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Self {
        let eviction_messages = RateLimit::new();
        Self { cap, round, metrics, diagnostics, eviction_messages, state: Mutex::default(), left: Condvar::new() }
    }

    /// Most connections that exist at once, with those that were evicted and are still read on. If newcomers come faster
    /// than those leave, they wait in the kernel's queue.
    pub fn most(&self) -> usize {
        self.cap + self.most_leaving()
    }

    /// Most connections that may be on their way out at once. If there are more, those due to leave next are cut early.
    fn most_leaving(&self) -> usize {
        (self.cap / 4).max(16)
    }

    /// A listener is about to accept. Called before its thread starts, so that [`Roster::close_ports`] waits for it.
    pub fn expect_listener(&self) {
        self.lock().accepting += 1;
    }

    /// A listener accepts no more.
    pub(super) fn listener_stopped(&self) {
        self.lock().accepting -= 1;
        self.left.notify_all();
    }

    /// What the listeners are to do.
    pub(super) fn order(&self) -> Order {
        self.lock().order
    }

    /// Closes the ports once what the kernel has queued is taken, and waits for that at most for `patience`.
    pub fn close_ports(&self, patience: Duration) {
        let mut state = self.lock();
        state.order = Order::Close;
        let _ = self.left.wait_timeout_while(state, patience, |state| state.accepting > 0);
    }

    /// Lets a connection in. Where all places are taken another makes room, in the order of `Turn` in
    /// [`connection`](super::connection); where none may be evicted yet this waits. `None` once the listeners give up.
    pub(super) fn admit(&self, connection: Connection) -> Option<Arc<Connection>> {
        let mut state = self.lock();
        loop {
            // Also where there is a place: whoever comes after the end of all others would be closed by nobody.
            if state.order == Order::GiveUp {
                return None;
            }
            // Places are counted, a lock for each connection, only where there are many connections.
            if state.connections.len() < self.cap || state.places_taken() < self.cap {
                if state.connections.len() < self.most() {
                    break;
                }
                // A connection that is cut leaves as soon as its thread notices.
                state.cut_next_of_more_than(self.most_leaving());
            } else if self.evict_one(&mut state, LINGER) == Closed::Now {
                continue;
            }
            state.cut_expired();
            state = self.left.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        let connection = Arc::new(connection);
        state.connections.push(Arc::clone(&connection));
        Some(connection)
    }

    /// A connection has ended.
    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        if let Some(at) = state.connections.iter().position(|other| Arc::ptr_eq(other, connection)) {
            state.connections.swap_remove(at);
        }
        drop(state);
        self.left.notify_all();
    }

    /// Makes a connection give back its descriptor and its thread, unless another is about to.
    pub(super) fn make_room(&self) {
        let mut state = self.lock();
        // One that is cut already does not count: it may itself be waiting for a thread to end it.
        if !state.connections.iter().any(|connection| connection.leaves_by().is_some()) {
            self.evict_one(&mut state, SCARCE_LINGER);
        }
    }

    /// Evicts the connection whose turn it is, which then leaves within `linger`.
    fn evict_one(&self, state: &mut State, linger: Duration) -> Closed {
        let now = Instant::now();
        loop {
            let in_turn = state.connections.iter().filter_map(|connection| Some((connection.turn(now)?, connection)));
            let Some(((turn, _), victim)) = in_turn.min_by_key(|(turn, _)| *turn) else {
                return Closed::No;
            };
            if Evicted::from(turn) == Evicted::Newcomer {
                if state.newcomers_from.is_some_and(|from| now < from) {
                    return Closed::No;
                }
                state.newcomers_from = Some(now + self.round / u32::try_from(self.cap).unwrap_or(u32::MAX).max(1));
            }
            // A request may have begun or ended on it in this very moment; then the next one is looked for.
            if let Some(evicted) = victim.evict(now, linger) {
                self.say_evicted(victim, evicted);
                return Closed::Now;
            }
        }
    }

    fn say_evicted(&self, victim: &Connection, evicted: Evicted) {
        self.metrics.connections_evicted.increment(evicted);
        if let Some(left_out) = self.eviction_messages.admit(Instant::now()) {
            let peer = victim.peer.to_string();
            let fields = [
                ("kind", evicted.into()),
                ("peer", (&peer).into()),
                ("max_connections", self.cap.into()),
                ("left_out", left_out.into()),
            ];
            self.diagnostics.warn("connection evicted to make room", &fields);
        }
    }

    /// Waits until a connection has ended, at most for `patience`.
    pub(super) fn wait_for_one_to_leave(&self, patience: Duration) {
        let _ = self.left.wait_timeout(self.lock(), patience);
    }

    /// Cuts the connections on their way out that had their time. Called several times a second.
    pub(super) fn cut_expired(&self) {
        self.lock().cut_expired();
    }

    /// Connections that exist.
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Requests and handshakes in progress, which a drain waits for.
    pub fn due(&self) -> usize {
        let now = Instant::now();
        self.lock().connections.iter().filter(|connection| connection.is_due(now)).count()
    }

    /// Closes all connections that wait for a request or are amid their handshake, also those that come to do so within
    /// `patience`, and drops those that wait for admission. Their threads read on meanwhile; then whatever is left is cut.
    /// Returns how many were closed before that.
    pub fn close_all(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut closed = 0;
        let mut state = self.lock();
        state.order = Order::GiveUp;
        loop {
            closed += state.connections.iter().filter(|one| one.close_if_waiting() == Closed::Now).count();
            if state.connections.is_empty() || Instant::now() >= deadline {
                break;
            }
            state = self.left.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.connections.iter().for_each(|connection| connection.cut());
        closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Connections that are not on their way out.
    fn places_taken(&self) -> usize {
        self.connections.iter().filter(|connection| connection.standing() == Standing::Open).count()
    }

    fn cut_expired(&self) {
        let now = Instant::now();
        let expired = self.connections.iter().filter(|one| one.leaves_by().is_some_and(|until| until <= now));
        expired.for_each(|connection| connection.cut());
    }

    /// If more than `most` are on their way out and not cut yet, cuts the one that is due to leave next.
    fn cut_next_of_more_than(&self, most: usize) {
        let leaving = || self.connections.iter().filter_map(|connection| Some((connection.leaves_by()?, connection)));
        if leaving().count() > most
            && let Some((_, next)) = leaving().min_by_key(|(until, _)| *until)
        {
            next.cut();
        }
    }
}

#[cfg(test)]
mod tests;
