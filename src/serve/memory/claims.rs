//! Who holds how much of the budget, who may have more, and who gives way. Without waiting.

use std::sync::Arc;
use std::time::Instant;

use super::Need;
use crate::net::connection::{Closed, Connection};

/// What is on loan, and what is kept for the next request.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What large bodies hold, oldest first.
    pub(super) claims: Vec<Claim>,
    /// The body whose lines are made beside the budget.
    pub(super) beside: Option<u64>,
    next_ticket: u64,
    /// Small buffers that nobody uses.
    pub(super) small: Vec<Vec<u8>>,
    /// Large buffers that nobody uses, the one used last at the end.
    pub(super) large: Vec<Vec<u8>>,
    /// Buffers handed out since the last `Memory::trim`.
    pub(super) taken: usize,
    /// Threads that wait for something to be given back.
    pub(super) waiting: usize,
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ticket: u64,
    connection: Arc<Connection>,
    /// Bytes granted.
    pub(super) charged: usize,
    /// Bytes that it may come to need.
    most: usize,
    /// It was told to give way.
    leaving: bool,
}

/// How bodies that were told to give way count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// They hold what they hold until they give it back.
    Hold,
    /// As if they had given it back.
    AreGone,
}

pub(super) fn spare_bytes(spares: &[Vec<u8>]) -> usize {
    spares.iter().map(Vec::capacity).sum()
}

impl State {
    pub(super) fn enter(&mut self, need: &Need<'_>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let connection = Arc::clone(need.connection);
        self.claims.push(Claim { ticket, connection, charged: 0, most: need.body, leaving: false });
        ticket
    }

    pub(super) fn charged(&self) -> usize {
        self.claims.iter().map(|claim| claim.charged).sum()
    }

    /// Whether each older body could still grow to its full size once those before it have ended, if that of `ticket`
    /// held `charge` bytes. One that needs more than the whole budget needs it alone.
    pub(super) fn is_safe(&self, ticket: u64, charge: usize, budget: usize, leaving: Leaving) -> bool {
        let mut younger = 0_usize;
        for claim in self.claims.iter().rev().filter(|claim| leaving == Leaving::Hold || !claim.leaving) {
            if claim.ticket < ticket && younger > 0 && younger.saturating_add(claim.most.min(budget)) > budget {
                return false;
            }
            younger = younger.saturating_add(if claim.ticket == ticket { charge } else { claim.charged });
        }
        younger <= budget || younger == charge
    }

    /// Makes bodies slower than `too_slow` give way, the slowest first, until that of `ticket` can have `charge` bytes
    /// as soon as they are gone. Says how many it made.
    pub(super) fn make_room(&mut self, ticket: u64, charge: usize, budget: usize, too_slow: u64) -> u64 {
        let (now, mut evicted) = (Instant::now(), 0);
        while !self.is_safe(ticket, charge, budget, Leaving::AreGone) {
            let holding = self.claims.iter_mut().filter(|claim| claim.charged > 0 && !claim.leaving);
            let paces = holding.filter_map(|claim| Some((claim.connection.pace(now)?, claim)));
            let Some((_, slowest)) = paces.filter(|(pace, _)| *pace < too_slow).min_by_key(|(pace, _)| *pace) else {
                break;
            };
            slowest.leaving = true;
            if slowest.connection.give_way() == Closed::Now {
                evicted += 1;
            }
        }
        evicted
    }

    /// Where in `large` a buffer fits, the one used last first. One more than four times too large is left for bodies
    /// that need it.
    pub(super) fn spare(&self, size: usize) -> Option<usize> {
        let fits = |spare: &Vec<u8>| spare.capacity() >= size && spare.capacity() / 4 <= size;
        self.large.iter().rposition(fits)
    }

    /// Drops spares, oldest first, until they and what is granted stay under the budget together.
    pub(super) fn trim_spares(&mut self, budget: usize) {
        while !self.large.is_empty() && self.charged().saturating_add(spare_bytes(&self.large)) > budget {
            self.large.remove(0);
        }
    }
}
