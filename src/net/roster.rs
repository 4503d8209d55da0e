//! The connections that exist: who is let in and who makes room.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::connection::{Closed, Connection};
use crate::observe::diagnostics::{Diagnostics, RateLimit};
use crate::observe::labels::Evicted;
use crate::observe::metrics::Metrics;

/// How long a connection that we close is read on, for a request that was already on its way.
pub const LINGER: Duration = Duration::from_secs(1);

/// The same where descriptors or threads are scarce.
const SCARCE_LINGER: Duration = Duration::from_millis(100);

/// How often a full roster is looked through again for a connection that may make room by now.
const RETRY: Duration = Duration::from_millis(10);

/// All connections of the listeners that share a cap.
#[derive(Debug)]
pub struct Roster {
    cap: usize,
    /// At most `cap` newcomers are evicted in this time, so that in a flood each keeps its place for about as long.
    round: Duration,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    eviction_messages: RateLimit,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// Those that made room, in that order, and when each is cut for good.
    closing: Vec<(Instant, Arc<Connection>)>,
    /// No newcomer is evicted before this time.
    newcomers_from: Option<Instant>,
}

/// Whether somebody made room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A connection was evicted and will leave soon.
    Made,
    /// Nobody may be evicted now.
    None,
}

impl Roster {
    /// `cap`: connections served at once. `round`: how long a flood of newcomers takes at least to go through all places.
    pub fn new(cap: usize, round: Duration, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Self {
        let eviction_messages = RateLimit::new();
        Self { cap, round, metrics, diagnostics, eviction_messages, state: Mutex::default(), left: Condvar::new() }
    }

    /// Connections that are served at once, those that are read on after their eviction included.
    pub fn most(&self) -> usize {
        self.cap + self.most_closing()
    }

    /// Sockets that may be open at once. Those beyond [`Roster::most`] are cut and leave as soon as their threads look up;
    /// a flood that outruns them waits in the kernel's queue.
    pub fn most_sockets(&self) -> usize {
        self.most() + self.cap
    }

    /// Evicted connections that are read on at once. In a flood the oldest of them is cut early.
    fn most_closing(&self) -> usize {
        (self.cap / 4).max(16)
    }

    /// Lets a connection in. Where all places are taken another makes room, in the order of `Turn` in
    /// [`connection`](super::connection); where none may be evicted yet this waits. `None` when `give_up` says so meanwhile.
    pub fn admit(&self, connection: Connection, give_up: impl Fn() -> bool) -> Option<Arc<Connection>> {
        let mut state = self.lock();
        loop {
            let has_room = state.connections.len() < self.cap || state.places_taken() < self.cap;
            if has_room && state.connections.len() < self.most_sockets() {
                break;
            }
            if !has_room && let Some((victim, evicted)) = self.evict_one(&mut state, LINGER) {
                drop(state);
                self.say_evicted(&victim, evicted);
                state = self.lock();
                continue;
            }
            if give_up() {
                return None;
            }
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
        state.closing.retain(|(_, other)| !Arc::ptr_eq(other, connection));
        drop(state);
        self.left.notify_all();
    }

    /// Makes a connection give back its descriptor and its thread, unless another is about to.
    pub(super) fn make_room(&self) -> Room {
        let mut state = self.lock();
        let evicted = if state.closing.is_empty() { self.evict_one(&mut state, SCARCE_LINGER) } else { None };
        drop(state);
        match evicted {
            Some((victim, evicted)) => {
                self.say_evicted(&victim, evicted);
                Room::Made
            }
            None => Room::None,
        }
    }

    fn evict_one(&self, state: &mut State, linger: Duration) -> Option<(Arc<Connection>, Evicted)> {
        let now = Instant::now();
        loop {
            let in_turn = state.connections.iter().filter_map(|connection| Some((connection.turn(now)?, connection)));
            let ((turn, _), victim) = in_turn.min_by_key(|(turn, _)| *turn)?;
            let victim = Arc::clone(victim);
            if turn.is_of_a_newcomer() {
                if state.newcomers_from.is_some_and(|from| now < from) {
                    return None;
                }
                state.newcomers_from = Some(now + self.round / u32::try_from(self.cap).unwrap_or(u32::MAX).max(1));
            }
            // A request may have begun or ended on it in this very moment; then the next one is looked for.
            if let Some(evicted) = victim.evict(now) {
                if state.closing.len() >= self.most_closing() {
                    state.closing.remove(0).1.cut();
                }
                state.closing.push((now + linger, Arc::clone(&victim)));
                return Some((victim, evicted));
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

    /// Cuts the evicted connections that were read on for long enough. Called several times a second.
    pub(super) fn cut_expired(&self) {
        let now = Instant::now();
        self.lock().closing.retain(|(deadline, connection)| {
            if *deadline <= now {
                connection.cut();
            }
            *deadline > now
        });
    }

    /// Connections that exist.
    pub fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Whether no connection exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests and handshakes in progress, which a drain waits for.
    pub fn due(&self) -> usize {
        let now = Instant::now();
        self.lock().connections.iter().filter(|connection| connection.is_due(now)).count()
    }

    /// Closes our writing side of all connections that wait for a request, lets their threads read on for `patience`, then
    /// cuts whatever is left. Returns how many it closed.
    pub fn close_all(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut closed = 0;
        let mut state = self.lock();
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
    fn places_taken(&self) -> usize {
        self.connections.iter().filter(|connection| connection.takes_a_place()).count()
    }
}
