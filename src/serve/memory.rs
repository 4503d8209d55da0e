//! Memory for request bodies: a bound on all large ones together, granted first come, first served, and buffers that are
//! used again so that a warm server neither allocates nor faults pages in.
//!
//! Beside them the windows through which connections read what is more than a few kilobytes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::observe::metrics::Metrics;

/// Bodies up to this many bytes never wait for memory. A review is typically 1 to 10 KB.
pub const SMALL: usize = 64 * 1024;

/// What is spliced into a body, generously.
const ROOM: usize = 4096;

/// A small buffer holds a small body and what is spliced into it.
const SMALL_CAPACITY: usize = SMALL + ROOM;

/// Small buffers kept for the next request; the hottest is used first, so this is more than two cores keep busy.
const SMALL_SPARES: usize = 16;

/// Bytes of a window: four of the largest TLS records (RFC 8446, section 5.2). Less costs more reads, more gains nothing.
const WINDOW: usize = 4 * (5 + 16_384 + 256);

/// Large buffers kept for the next request, whatever their sizes; together they stay under the budget.
const LARGE_SPARES: usize = 16;

/// Hands out body buffers. Shared by all connections of the audit ports.
#[derive(Debug)]
pub struct Bodies {
    budget: usize,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes granted to large bodies.
    granted: usize,
    /// Who waits, oldest first.
    queue: VecDeque<u64>,
    next_ticket: u64,
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    windows: Vec<Vec<u8>>,
    /// Whether a buffer was handed out since the last [`Bodies::trim`].
    used: bool,
}

/// Buffers on loan. They go back, and their share of the budget with them, when dropped.
#[derive(Debug)]
pub struct Body<'b> {
    bodies: &'b Bodies,
    charge: usize,
    /// The request's body.
    pub bytes: Vec<u8>,
    /// The lines made of it, where they are not made in place.
    pub lines: Vec<u8>,
}

impl Bodies {
    /// `budget`: bytes that all large bodies may take together.
    pub fn new(budget: usize, metrics: Arc<Metrics>) -> Self {
        Self { budget, metrics, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Room for a body of `size` bytes and for what is spliced into it, or `None` if its turn has not come by
    /// `deadline`. A small one is there at once. A large one waits until all who asked before it have been served and
    /// the budget has room for it and for the `lines` bytes that may be made of it; one that is larger than the whole
    /// budget is served alone.
    pub fn take(&self, size: usize, lines: usize, deadline: Instant) -> Option<Body<'_>> {
        let mut state = self.lock();
        state.used = true;
        if size <= SMALL {
            let bytes = state.small.pop();
            let lines = if lines > 0 { state.small.pop() } else { Some(Vec::new()) };
            drop(state);
            let new = || Vec::with_capacity(SMALL_CAPACITY);
            return Some(Body {
                bodies: self,
                charge: 0,
                bytes: bytes.unwrap_or_else(new),
                lines: lines.unwrap_or_else(new),
            });
        }
        let size = size.saturating_add(ROOM);
        let charge = size.saturating_add(lines);
        state = self.wait_for_turn(state, charge, deadline)?;
        state.granted = state.granted.saturating_add(charge);
        self.metrics.inflight_body_bytes.add(i64::try_from(charge).unwrap_or(i64::MAX));
        let bytes = state.spare(size);
        // Events grow by less than a quarter; the rest of `lines` is for what no API server sends.
        let lines_capacity = if lines > 0 { size.saturating_add(size / 4) } else { 0 };
        let lines = if lines > 0 { state.spare(lines_capacity) } else { None };
        // Spares and what is granted stay under the budget together.
        while state.granted.saturating_add(spare_bytes(&state.large)) > self.budget && !state.large.is_empty() {
            state.large.remove(0);
        }
        drop(state);
        Some(Body {
            bodies: self,
            charge,
            bytes: bytes.unwrap_or_else(|| Vec::with_capacity(size)),
            lines: lines.unwrap_or_else(|| Vec::with_capacity(lines_capacity)),
        })
    }

    /// A buffer to read through: its length is its size, its content whatever was read through it last.
    pub fn take_window(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.used = true;
        let spare = state.windows.pop();
        drop(state);
        spare.unwrap_or_else(|| vec![0; WINDOW])
    }

    /// Takes a window back.
    pub fn give_window_back(&self, window: Vec<u8>) {
        let mut state = self.lock();
        if state.windows.len() < SMALL_SPARES {
            state.windows.push(window);
        }
    }

    /// Gives the buffers that nobody needed since the last call back to the system. Called every few seconds.
    pub fn trim(&self) {
        let mut state = self.lock();
        if !std::mem::take(&mut state.used) {
            state.small = Vec::new();
            state.large = Vec::new();
            state.windows = Vec::new();
        }
    }

    fn wait_for_turn<'g>(
        &'g self,
        mut state: MutexGuard<'g, State>,
        size: usize,
        deadline: Instant,
    ) -> Option<MutexGuard<'g, State>> {
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push_back(ticket);
        loop {
            let fits = state.granted == 0 || state.granted.saturating_add(size) <= self.budget;
            if fits && state.queue.front() == Some(&ticket) {
                state.queue.pop_front();
                // The next in line may fit as well.
                self.wake(&state);
                return Some(state);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.queue.retain(|waiting| *waiting != ticket);
                self.wake(&state);
                return None;
            }
            state = self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self, charge: usize, buffers: [Vec<u8>; 2]) {
        let mut state = self.lock();
        state.granted = state.granted.saturating_sub(charge);
        for mut buffer in buffers {
            buffer.clear();
            let kept = state.granted.saturating_add(spare_bytes(&state.large)).saturating_add(buffer.capacity());
            if (SMALL_CAPACITY..2 * SMALL_CAPACITY).contains(&buffer.capacity()) {
                if state.small.len() < SMALL_SPARES {
                    state.small.push(buffer);
                }
            } else if buffer.capacity() > SMALL && kept <= self.budget && state.large.len() < LARGE_SPARES {
                state.large.push(buffer);
            }
        }
        if charge > 0 {
            self.metrics.inflight_body_bytes.add(-i64::try_from(charge).unwrap_or(i64::MAX));
            self.wake(&state);
        }
    }

    /// Lets those who wait look again. A condition variable makes a system call whether anybody waits or not.
    fn wake(&self, state: &State) {
        if !state.queue.is_empty() {
            self.returned.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements above; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spare_bytes(spares: &[Vec<u8>]) -> usize {
    spares.iter().map(Vec::capacity).sum()
}

impl State {
    /// A kept buffer that fits, the hottest first; one four times too large stays for those who need it.
    fn spare(&mut self, size: usize) -> Option<Vec<u8>> {
        let fits = |spare: &Vec<u8>| spare.capacity() >= size && spare.capacity() / 4 <= size;
        self.large.iter().rposition(fits).map(|at| self.large.remove(at))
    }
}

impl Body<'_> {
    /// Whether it has its share of the budget for large bodies.
    pub fn is_large(&self) -> bool {
        self.charge > 0
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        let buffers = [std::mem::take(&mut self.bytes), std::mem::take(&mut self.lines)];
        self.bodies.give_back(self.charge, buffers);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LARGE: usize = 1024 * 1024;

    fn bodies(budget: usize) -> Bodies {
        Bodies::new(budget, Arc::new(Metrics::new()))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_small_body_never_waits() {
        let bodies = bodies(LARGE + ROOM);
        let _all = bodies.take(LARGE, 0, soon()).unwrap();
        assert!(bodies.take(SMALL, 0, Instant::now()).is_some());
    }

    #[test]
    fn a_large_body_that_does_not_fit_is_refused_at_its_deadline_and_leaves_no_trace() {
        let bodies = bodies(2 * LARGE + ROOM);
        let first = bodies.take(2 * LARGE, 0, soon()).unwrap();
        assert!(bodies.take(LARGE, 0, Instant::now()).is_none());
        drop(first);
        assert!(bodies.take(2 * LARGE, 0, Instant::now()).is_some());
    }

    #[test]
    fn a_body_larger_than_the_budget_is_served_alone() {
        let bodies = bodies(LARGE + ROOM);
        let giant = bodies.take(5 * LARGE, 0, Instant::now()).unwrap();
        assert!(bodies.take(LARGE, 0, Instant::now()).is_none());
        drop(giant);
        assert!(bodies.take(LARGE, 0, Instant::now()).is_some());
    }

    #[test]
    fn large_bodies_are_served_in_the_order_they_asked() {
        let bodies = bodies(4 * LARGE + 2 * ROOM);
        let (served, order) = mpsc::channel();
        std::thread::scope(|scope| {
            let all = bodies.take(4 * LARGE, 0, soon()).unwrap();
            // No two of them fit together, so each has said its number before the next has its turn.
            for (number, size) in [3 * LARGE, 2 * LARGE, 4 * LARGE, 3 * LARGE].into_iter().enumerate() {
                let (bodies, served) = (&bodies, served.clone());
                scope.spawn(move || {
                    let body = bodies.take(size, 0, soon()).unwrap();
                    served.send(number).unwrap();
                    drop(body);
                });
                while bodies.lock().queue.len() <= number {
                    std::thread::yield_now();
                }
            }
            drop(all);
            assert_eq!(order.iter().take(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        });
        assert_eq!(bodies.lock().granted, 0);
    }

    #[test]
    fn a_body_that_would_fit_does_not_overtake_a_larger_one_that_waits() {
        let bodies = bodies(4 * LARGE + 2 * ROOM);
        std::thread::scope(|scope| {
            let first = bodies.take(2 * LARGE, 0, soon()).unwrap();
            let larger = scope.spawn(|| bodies.take(3 * LARGE, 0, soon()).is_some());
            while bodies.lock().queue.is_empty() {
                std::thread::yield_now();
            }
            assert!(bodies.take(LARGE, 0, Instant::now()).is_none());
            drop(first);
            assert!(larger.join().unwrap());
        });
        assert!(bodies.take(LARGE, 0, Instant::now()).is_some());
    }

    #[test]
    fn buffers_are_used_again_and_given_back_when_nobody_needs_them() {
        let bodies = bodies(4 * LARGE + 2 * ROOM);
        let address = bodies.take(LARGE, 0, soon()).unwrap().bytes.as_ptr();
        assert_eq!(bodies.take(LARGE - 1000, 0, soon()).unwrap().bytes.as_ptr(), address);
        bodies.trim();
        assert_eq!(bodies.lock().large.len(), 1, "used since the last trim");
        bodies.trim();
        assert!(bodies.lock().large.is_empty());
    }

    #[test]
    fn granted_and_spare_bytes_stay_under_the_budget_together() {
        let bodies = bodies(4 * LARGE + 2 * ROOM);
        drop((bodies.take(LARGE, 0, soon()), bodies.take(LARGE, 0, soon()), bodies.take(LARGE, 0, soon())));
        let big = bodies.take(3 * LARGE, 0, soon()).unwrap();
        let state = bodies.lock();
        assert!(state.granted + spare_bytes(&state.large) <= 4 * LARGE + 2 * ROOM);
        drop(state);
        drop(big);
    }
}
