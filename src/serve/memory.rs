//! Memory for request bodies: one budget for all large ones together, and buffers that are used again so that a warm
//! server neither allocates nor faults pages in.
//!
//! A large body is charged for what has arrived, never for what was announced; as it grows it asks for more. What is
//! granted stays safe in the sense of the banker's algorithm: each body, once all older ones have ended, could grow to
//! its full size, whatever the younger ones hold. So no set of half-read bodies can wait for each other. What is given
//! back goes to those that wait and can have it, the oldest first.
//!
//! A body that has waited for a quarter of a second, all its waits together, presses: of those that came later only such
//! as press themselves get memory before it. If it is held up as well, others that are still arriving give way ([`Connection::give_way`]), those first that
//! received the fewest bytes lately. It is held up unless bodies become complete so fast that the whole budget would be
//! used anew every second: then its turn comes anyway. So honest bodies that come in a burst queue up, and nobody can make
//! a body wait longer but by sending as much as the budget each second.

mod claims;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::net::connection::{Connection, Standing};
use crate::observe::labels::Evicted;
use crate::observe::metrics::Metrics;
use claims::{Granted, State, Want, spare_bytes};

/// Bodies up to this many bytes never wait for memory. A review is typically 1 to 10 KB.
pub const SMALL: usize = 64 * 1024;

/// EventLists up to this many bytes are small: their lines may be several times as long.
pub const SMALL_LIST: usize = SMALL / 4;

/// Bytes that may be spliced into a body, generously.
const ROOM: usize = 4096;

/// A small buffer holds a small body and what is spliced into it.
const SMALL_CAPACITY: usize = SMALL + ROOM;

/// Small buffers kept for the next request, more than two cores keep busy. The one given back last is used first.
const SMALL_SPARES: usize = 16;

/// Large buffers kept for the next request, whatever their sizes; together they stay under the budget.
const LARGE_SPARES: usize = 16;

/// How often a body that waits for memory looks whether it has to give way itself.
const LOOK: Duration = Duration::from_millis(25);

/// A body that has waited for so long, all its waits together, presses. With twice as much, large ones waited for over a
/// second under attack.
const PATIENCE: Duration = Duration::from_millis(250);

/// Hands out body buffers. Shared by all connections of the audit ports.
#[derive(Debug)]
pub struct Memory {
    budget: usize,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

/// A request that needs memory.
#[derive(Debug)]
pub struct Need<'c> {
    /// Where its body comes from.
    pub connection: &'c Arc<Connection>,
    /// Bytes that the body will have, if its head said so.
    pub announced: Option<usize>,
    /// Bytes that the body may come to have.
    pub body: usize,
    /// When it gives up waiting.
    pub deadline: Instant,
}

/// Why there is no memory for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMemory {
    /// Its turn did not come in time.
    NotInTime,
    /// The system has none (RLIMIT_AS, vm.overcommit_memory=2).
    Refused,
    /// It has to give way to another.
    GivesWay,
}

/// Buffers on loan. They go back, and their share of the budget with them, when dropped.
#[derive(Debug)]
pub struct Body<'m> {
    memory: &'m Memory,
    /// Its claim on the budget; none for a small body.
    ticket: Option<u64>,
    /// Bytes of the budget that it has.
    charged: usize,
    waited: Waited,
    /// The request's body.
    pub bytes: Vec<u8>,
    /// The lines made of it, where they are not made in place.
    pub lines: Vec<u8>,
}

/// What a body's waits for memory were like so far.
#[derive(Debug, Clone, Copy, Default)]
struct Waited {
    time: Duration,
    /// Bytes of the large bodies that became complete meanwhile.
    completed: usize,
}

impl Waited {
    fn presses(&self) -> bool {
        self.time >= PATIENCE
    }

    /// Whether fewer bytes became complete than the whole budget each second.
    fn held_up(&self, budget: usize) -> bool {
        (self.completed as f64) < budget as f64 * self.time.as_secs_f64()
    }
}

impl Memory {
    /// `budget`: bytes that all large bodies may take together.
    pub fn new(budget: usize, metrics: Arc<Metrics>) -> Self {
        Self { budget, metrics, state: Mutex::default() }
    }

    /// A buffer for a small body, or for one whose size is not known yet.
    pub fn small(&self) -> Body<'_> {
        let mut body = self.large();
        body.bytes = self.small_buffer();
        body
    }

    /// A large body that has no memory yet.
    pub fn large(&self) -> Body<'_> {
        Body { memory: self, ticket: None, charged: 0, waited: Waited::default(), bytes: Vec::new(), lines: Vec::new() }
    }

    fn small_buffer(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.taken += 1;
        let spare = state.small.pop();
        drop(state);
        spare.unwrap_or_else(|| Vec::with_capacity(SMALL_CAPACITY))
    }

    /// Gives the buffers to the system if none was handed out since the last call. Called every few seconds.
    pub fn trim(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.taken) == 0 {
            (state.small, state.large) = (Vec::new(), Vec::new());
        }
    }

    /// Waits until `body` has what it wants.
    fn obtain<'m>(
        &'m self,
        mut state: MutexGuard<'m, State>,
        body: &mut Body<'_>,
        want: Want,
        need: &Need<'_>,
    ) -> Result<MutexGuard<'m, State>, NoMemory> {
        let ticket = *body.ticket.get_or_insert_with(|| state.enter(need));
        if state.ask(ticket, want, self.budget) == Granted::NotYet {
            let (began, waited_before, completed_before) = (Instant::now(), body.waited, state.completed);
            need.connection.pause();
            while state.granted(ticket) == Granted::NotYet {
                let left = need.deadline.saturating_duration_since(Instant::now());
                if need.connection.standing() == Standing::GivingWay {
                    state.withdraw(ticket);
                    return Err(NoMemory::GivesWay);
                } else if left.is_zero() {
                    state.withdraw(ticket);
                    return Err(NoMemory::NotInTime);
                }
                if body.waited.presses() && self.press(&mut state, ticket, want, body.waited) == Granted::Yes {
                    break;
                }
                drop(state);
                thread::park_timeout(left.min(LOOK));
                state = self.lock();
                let completed = state.completed.wrapping_sub(completed_before);
                body.waited = Waited {
                    time: waited_before.time + began.elapsed(),
                    completed: waited_before.completed.saturating_add(completed),
                };
            }
            need.connection.resume();
        }
        body.charged = state.claim(ticket).map_or(0, |claim| claim.charged);
        state.trim_spares(self.budget);
        self.show(&state);
        Ok(state)
    }

    /// Puts the body of `ticket` before younger ones, and grants it what only that it did not press kept from it. Otherwise,
    /// if it is held up, has others give way to it.
    fn press(&self, state: &mut State, ticket: u64, want: Want, waited: Waited) -> Granted {
        if state.press(ticket, want, self.budget) == Granted::Yes {
            return Granted::Yes;
        }
        if waited.held_up(self.budget) {
            let evicted = state.make_room(ticket, want.bytes(), self.budget);
            if evicted > 0 {
                self.metrics.connections_evicted.add(Evicted::Slow, evicted);
                state.wake_leaving();
            }
        }
        Granted::NotYet
    }

    fn give_back(&self, ticket: Option<u64>, buffers: [Vec<u8>; 2]) {
        let mut state = self.lock();
        if let Some(ticket) = ticket {
            state.claims.retain(|claim| claim.ticket != ticket);
            state.beside = state.beside.filter(|beside| *beside != ticket);
        }
        for mut buffer in buffers {
            buffer.clear();
            let kept = state.charged().saturating_add(spare_bytes(&state.large)).saturating_add(buffer.capacity());
            if (SMALL_CAPACITY..2 * SMALL_CAPACITY).contains(&buffer.capacity()) {
                if state.small.len() < SMALL_SPARES {
                    state.small.push(buffer);
                }
            } else if buffer.capacity() > SMALL && kept <= self.budget && state.large.len() < LARGE_SPARES {
                state.large.push(buffer);
            }
        }
        if ticket.is_some() {
            // Even a claim without a charge may have held up younger ones.
            state.grant_waiting(self.budget);
            self.show(&state);
        }
    }

    fn show(&self, state: &State) {
        self.metrics.inflight_body_bytes.set(state.charged());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements above; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body<'_> {
    /// Makes room for a body of `bytes` bytes in all so far, and for what may be spliced into it. A small body has its
    /// room from the start; a large one may have to wait.
    ///
    /// # Errors
    /// [`NoMemory`]; what the body has it keeps.
    pub fn reserve(&mut self, bytes: usize, need: &Need<'_>) -> Result<(), NoMemory> {
        if bytes <= self.charged || (self.ticket.is_none() && bytes.saturating_add(ROOM) <= self.bytes.capacity()) {
            return Ok(());
        }
        let memory = self.memory;
        let mut state = memory.lock();
        state.taken += 1;
        let ticket = *self.ticket.get_or_insert_with(|| state.enter(need));
        if self.charged == 0
            && let Some(announced) = need.announced
            && let Some(spare) = state.take_spare(ticket, announced.saturating_add(ROOM), memory.budget)
        {
            // All its pages may be in memory already, so all of it is charged.
            self.charged = spare.capacity().saturating_sub(ROOM);
            memory.show(&state);
            self.bytes = spare;
            return Ok(());
        }
        // Twice what it has, so that it asks a few times only.
        let charge = bytes.max(self.charged.saturating_mul(2).min(need.body));
        let mut state = memory.obtain(state, self, Want::Bytes(charge), need)?;
        if self.bytes.is_empty() {
            // Addresses for all that was announced, for growing the buffer later costs a fifth more CPU. They become memory
            // only as bytes arrive.
            let size = state.first_buffer(ticket, charge, need.announced, memory.budget).saturating_add(ROOM);
            drop(state);
            return self.bytes.try_reserve_exact(size).map_err(|_| NoMemory::Refused);
        }
        drop(state);
        let more = charge.saturating_add(ROOM).saturating_sub(self.bytes.len());
        if self.bytes.capacity() > SMALL_CAPACITY {
            return self.bytes.try_reserve_exact(more).map_err(|_| NoMemory::Refused);
        }
        // A small buffer turned out too small; it goes back to be used again.
        let mut large = Vec::new();
        large.try_reserve_exact(charge.saturating_add(ROOM)).map_err(|_| NoMemory::Refused)?;
        large.extend_from_slice(&self.bytes);
        memory.give_back(None, [std::mem::replace(&mut self.bytes, large), Vec::new()]);
        Ok(())
    }

    /// All of it has arrived.
    pub fn complete(&self) {
        if self.ticket.is_some() {
            let mut state = self.memory.lock();
            state.completed = state.completed.wrapping_add(self.bytes.len());
        }
    }

    /// Makes room for lines of at most `most` bytes beside the body, which has arrived. The lines of one large body at a
    /// time may be made beside the budget, so bodies that fill it can always end.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn reserve_lines(&mut self, most: usize, need: &Need<'_>) -> Result<(), NoMemory> {
        let memory = self.memory;
        if self.ticket.is_none() && self.bytes.len() <= SMALL_LIST {
            self.lines = memory.small_buffer();
            return Ok(());
        }
        let charge = self.charged.saturating_add(most);
        // A list that came in chunks may have turned out too large for a small one, in a small buffer.
        let need = Need { body: need.body.max(most), ..*need };
        let state = memory.lock();
        let mut state = memory.obtain(state, self, Want::BytesForLines(charge), &need)?;
        // Events grow by less than a quarter; the rest is for what no API server sends.
        let usual = self.bytes.len().saturating_add(self.bytes.len() / 4).min(most);
        let spare = state.spare(usual).filter(|at| state.large.get(*at).is_some_and(|spare| spare.capacity() <= most));
        if let Some(at) = spare {
            self.lines = state.large.remove(at);
        }
        state.trim_spares(memory.budget);
        drop(state);
        self.lines.try_reserve_exact(usual).map_err(|_| NoMemory::Refused)
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        let buffers = [std::mem::take(&mut self.bytes), std::mem::take(&mut self.lines)];
        self.memory.give_back(self.ticket, buffers);
    }
}

#[cfg(test)]
mod tests;
