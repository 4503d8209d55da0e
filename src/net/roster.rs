//! The connections that exist: who is let in, who makes room, who may be closed and how.
//!
//! Each connection is served by a thread of its own that blocks in read(2). Its [`Slot`] says whether it waits for a
//! request; only then may another thread close it, and then only our writing side: what was already on its way is still
//! read and recorded (the API server does not send it again).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::transport::Wire;
use crate::observe::labels::Evicted;
use crate::observe::metrics::Metrics;

/// How long a connection that we close is read on, for a request that was already on its way.
pub const LINGER: Duration = Duration::from_secs(1);

/// A connection whose handshake was done so recently may be about to carry the request that it was dialled for.
const JUST_DIALLED: Duration = Duration::from_secs(1);

/// How often a full roster of busy connections is looked through again.
const BUSY_RETRY: Duration = Duration::from_millis(10);

/// `Slot::waiting` while a request is in progress.
const BUSY: u64 = 0;

/// `Slot::waiting` once our writing side is closed.
const CLOSING: u64 = u64::MAX;

/// One connection.
#[derive(Debug)]
pub struct Slot {
    /// The socket, to close it from outside.
    pub wire: Wire,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Since when (milliseconds after `epoch`, at least 1) it has waited for a request; or [`BUSY`], or [`CLOSING`].
    waiting: AtomicU64,
    /// The handshake is done. Before that nothing can be on its way that we could read.
    open: AtomicBool,
    /// It has carried a valid request.
    proven: AtomicBool,
    epoch: Instant,
}

impl Slot {
    /// The handshake is done.
    pub fn mark_open(&self) {
        self.open.store(true, Ordering::Release);
        // An eviction during the handshake has cut the connection already; it stays marked.
        let now = self.now();
        let _ = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| (waiting != CLOSING).then_some(now));
    }

    /// It has carried a valid request: it is the last to make room.
    pub fn mark_proven(&self) {
        if !self.proven.load(Ordering::Relaxed) {
            self.proven.store(true, Ordering::Relaxed);
        }
    }

    /// A request's head is complete. False if our writing side was closed meanwhile: it can be recorded, not answered.
    pub fn begin_request(&self) -> bool {
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| (waiting != CLOSING).then_some(BUSY))
            .is_ok()
    }

    /// The reply is sent; the connection waits from now on.
    pub fn end_request(&self) {
        self.waiting.store(self.now(), Ordering::Release);
    }

    /// Closes our writing side if no request is in progress, and says whether it did.
    pub fn close_if_waiting(&self) -> bool {
        let waits = |waiting: u64| (waiting != BUSY && waiting != CLOSING).then_some(CLOSING);
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, waits).is_err() {
            return false;
        }
        if self.open.load(Ordering::Acquire) {
            self.wire.say_goodbye();
        } else {
            self.wire.cut();
        }
        true
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(CLOSING - 2).saturating_add(1)
    }

    /// Whether the drain has to wait for it: a request or a handshake is in progress, or about to be.
    fn is_due(&self) -> bool {
        let open = self.open.load(Ordering::Acquire);
        match self.waiting.load(Ordering::Acquire) {
            BUSY => true,
            CLOSING => false,
            since if open && !self.proven.load(Ordering::Relaxed) => {
                let waited = Duration::from_millis(self.now().saturating_sub(since));
                waited < JUST_DIALLED
            }
            _ => !open,
        }
    }
}

/// All connections of the listeners that share a cap.
#[derive(Debug)]
pub struct Roster {
    cap: usize,
    metrics: Arc<Metrics>,
    epoch: Instant,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    slots: BTreeMap<u64, Arc<Slot>>,
    /// Closed for writing by [`Roster`]; cut for good when their time has come.
    closing: Vec<(Instant, Arc<Slot>)>,
}

/// A connection's place in the roster; leaves it when dropped.
#[derive(Debug)]
pub struct Place {
    roster: Arc<Roster>,
    number: u64,
    /// The connection.
    pub slot: Arc<Slot>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.roster.lock();
        state.slots.remove(&self.number);
        state.closing.retain(|(_, slot)| !Arc::ptr_eq(slot, &self.slot));
        drop(state);
        self.roster.left.notify_all();
    }
}

impl Roster {
    /// `cap`: connections served at once.
    pub fn new(cap: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { cap, metrics, epoch: Instant::now(), state: Mutex::default(), left: Condvar::new() })
    }

    /// Connections that may exist at once, those that are read on after their eviction included.
    pub fn most(&self) -> usize {
        self.cap + self.most_closing()
    }

    /// Sockets that may be open at once. Those beyond [`Roster::most`] are cut and leave as soon as their threads look up;
    /// a flood that outruns them waits in the kernel's queue.
    fn most_sockets(&self) -> usize {
        self.most() + self.cap
    }

    /// So many evicted connections are read on at once. Past that, which takes a flood, the oldest is cut.
    fn most_closing(&self) -> usize {
        (self.cap / 4).max(16)
    }

    /// Lets a connection in. Where all places are taken the one longest idle makes room, first those that never
    /// carried a valid request; where all have a request in progress this waits for one to end. `None` when `give_up`
    /// says so meanwhile.
    pub fn admit(self: &Arc<Self>, wire: Wire, peer: SocketAddr, give_up: impl Fn() -> bool) -> Option<Place> {
        let slot = Arc::new(Slot {
            wire,
            peer,
            waiting: AtomicU64::new(BUSY),
            open: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            epoch: self.epoch,
        });
        slot.end_request();
        let mut state = self.lock();
        loop {
            let has_room = state.slots.len() < self.cap || state.live() < self.cap;
            if has_room && state.slots.len() < self.most_sockets() {
                break;
            }
            if !has_room && self.make_room(&mut state) {
                continue;
            }
            if give_up() {
                return None;
            }
            state = self.left.wait_timeout(state, BUSY_RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = state.next;
        state.next += 1;
        state.slots.insert(number, Arc::clone(&slot));
        Some(Place { roster: Arc::clone(self), number, slot })
    }

    /// Closes the connection that is longest idle, and says whether there was one. For want of a place, or of file
    /// descriptors.
    pub fn evict(&self) -> bool {
        self.make_room(&mut self.lock())
    }

    /// Waits until a connection has ended, at most so long.
    pub fn wait_for_one_to_leave(&self, patience: Duration) {
        let _ = self.left.wait_timeout(self.lock(), patience);
    }

    fn make_room(&self, state: &mut State) -> bool {
        loop {
            let order = |slot: &&Arc<Slot>| (slot.proven.load(Ordering::Relaxed), slot.waiting.load(Ordering::Acquire));
            let waits = |slot: &&Arc<Slot>| !matches!(slot.waiting.load(Ordering::Acquire), BUSY | CLOSING);
            let Some(victim) = state.slots.values().filter(waits).min_by_key(order).map(Arc::clone) else {
                return false;
            };
            // It may have begun a request in this very moment; then the next one is looked for.
            if victim.close_if_waiting() {
                let proven = victim.proven.load(Ordering::Relaxed);
                self.metrics.connections_evicted.increment(if proven { Evicted::Idle } else { Evicted::Unproven });
                self.read_on(state, victim);
                return true;
            }
        }
    }

    fn read_on(&self, state: &mut State, slot: Arc<Slot>) {
        if state.closing.len() >= self.most_closing() {
            state.closing.remove(0).1.wire.cut();
        }
        state.closing.push((Instant::now() + LINGER, slot));
    }

    /// Cuts the connections that were read on for long enough. Called several times a second.
    pub fn cut_expired(&self) {
        let now = Instant::now();
        self.lock().closing.retain(|(deadline, slot)| {
            if *deadline <= now {
                slot.wire.cut();
            }
            *deadline > now
        });
    }

    /// Connections that exist.
    pub fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Whether no connection exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no request and no handshake is in progress, at most until `deadline`. Says how many are left.
    pub fn wait_for_requests(&self, deadline: Instant) -> usize {
        let mut state = self.lock();
        loop {
            let due = state.slots.values().filter(|slot| slot.is_due()).count();
            let left = deadline.saturating_duration_since(Instant::now());
            if due == 0 || left.is_zero() {
                return due;
            }
            state = self.left.wait_timeout(state, left.min(BUSY_RETRY)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Closes our writing side of all that wait for a request, reads on for `patience`, then cuts whatever is left.
    /// Says how many it closed.
    pub fn close_all(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut closed = 0;
        let mut state = self.lock();
        loop {
            closed += state.slots.values().filter(|slot| slot.close_if_waiting()).count();
            if state.slots.is_empty() || Instant::now() >= deadline {
                break;
            }
            state = self.left.wait_timeout(state, BUSY_RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.slots.values().for_each(|slot| slot.wire.cut());
        closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn live(&self) -> usize {
        self.slots.values().filter(|slot| slot.waiting.load(Ordering::Acquire) != CLOSING).count()
    }
}
