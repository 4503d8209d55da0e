//! Who holds how much of the budget, who may have more, and who gives way. Without waiting.

use std::sync::Arc;
use std::time::Instant;

use super::Need;
use crate::net::connection::{Closed, Connection, Standing};

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
    /// Bytes of all large bodies that have become complete.
    pub(super) completed: usize,
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
    /// It has waited out its patience: none that came later gets memory before it, but for those that have as well.
    pub(super) presses: bool,
}

/// How bodies that were told to give way count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
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
        self.claims.push(Claim { ticket, connection, charged: 0, most: need.body, presses: false });
        ticket
    }

    pub(super) fn charged(&self) -> usize {
        self.claims.iter().map(|claim| claim.charged).sum()
    }

    /// Whether that of `ticket` may hold `charge` bytes now.
    pub(super) fn can_have(&self, ticket: u64, charge: usize, budget: usize) -> bool {
        let presses = self.claims.iter().any(|claim| claim.presses && claim.ticket == ticket);
        let older_presses = self.claims.iter().any(|claim| claim.presses && claim.ticket < ticket);
        (presses || !older_presses) && self.is_safe(ticket, charge, budget, Leaving::Hold)
    }

    pub(super) fn claim(&mut self, ticket: u64) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.ticket == ticket)
    }

    /// Whether each older body could still grow to its full size once those before it have ended, if that of `ticket`
    /// held `charge` bytes. One that needs more than the whole budget needs it alone.
    fn is_safe(&self, ticket: u64, charge: usize, budget: usize, leaving: Leaving) -> bool {
        let counts = |claim: &&Claim| leaving == Leaving::Hold || claim.connection.standing() != Standing::GivingWay;
        let mut younger = 0_usize;
        for claim in self.claims.iter().rev().filter(counts) {
            if claim.ticket < ticket && younger > 0 && younger.saturating_add(claim.most.min(budget)) > budget {
                return false;
            }
            younger = younger.saturating_add(if claim.ticket == ticket { charge } else { claim.charged });
        }
        younger <= budget || younger == charge
    }

    /// Makes bodies that are arriving give way, those first that received the fewest bytes lately, until that of `ticket`
    /// can have `charge` bytes as soon as they are gone. Says how many it made.
    pub(super) fn make_room(&self, ticket: u64, charge: usize, budget: usize) -> u64 {
        let (now, mut evicted) = (Instant::now(), 0);
        while !self.is_safe(ticket, charge, budget, Leaving::AreGone) {
            let others = self.claims.iter().filter(|claim| claim.charged > 0 && claim.ticket != ticket);
            let paces = others.filter_map(|claim| Some((claim.connection.pace(now)?, claim)));
            let Some((_, slowest)) = paces.min_by_key(|(pace, _)| *pace) else {
                break;
            };
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
