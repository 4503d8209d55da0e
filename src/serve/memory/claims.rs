//! Who holds how much of the budget, who may have more, and who gives way. Without waiting.

#[cfg(test)]
mod waiting;

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Instant;

use super::{Need, ROOM};
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
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ticket: u64,
    connection: Arc<Connection>,
    /// Bytes granted.
    pub(super) charged: usize,
    /// Bytes that it may come to need.
    most: usize,
    /// Bytes of address space that its first buffer took; it may not have memory for all of them yet.
    addresses: usize,
    /// What it waits for.
    waits_for: Option<Want>,
    /// It has waited out its patience: of those that came later only such as press themselves get memory before it.
    pub(super) presses: bool,
    /// Who waits.
    thread: Thread,
}

/// What a claim asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// To hold so many bytes.
    Bytes(usize),
    /// Likewise, for lines, which may also be made beside the budget.
    BytesForLines(usize),
}

impl Want {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::BytesForLines(bytes) => bytes,
        }
    }
}

/// Whether a claim has what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Yes,
    NotYet,
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

/// Whether all may hold `total` bytes together if one of them holds `charge`. One alone may hold more than the budget.
fn fits(total: usize, charge: usize, budget: usize) -> bool {
    total <= budget || total == charge
}

impl State {
    pub(super) fn enter(&mut self, need: &Need<'_>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let connection = Arc::clone(need.connection);
        let thread = thread::current();
        self.claims.push(Claim {
            ticket,
            connection,
            charged: 0,
            most: need.body,
            addresses: 0,
            waits_for: None,
            presses: false,
            thread,
        });
        ticket
    }

    pub(super) fn charged(&self) -> usize {
        self.claims.iter().map(|claim| claim.charged).sum()
    }

    /// Whether that of `ticket` may hold `charge` bytes now.
    fn can_have(&self, ticket: u64, charge: usize, budget: usize) -> bool {
        let presses = self.claims.iter().any(|claim| claim.presses && claim.ticket == ticket);
        let older_presses = self.claims.iter().any(|claim| claim.presses && claim.ticket < ticket);
        (presses || !older_presses) && self.is_safe(ticket, charge, budget, Leaving::Hold)
    }

    pub(super) fn claim(&mut self, ticket: u64) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.ticket == ticket)
    }

    /// Grants that of `ticket` what it wants, now or once it can have it.
    pub(super) fn ask(&mut self, ticket: u64, want: Want, budget: usize) -> Granted {
        let granted = self.grant(ticket, want, budget);
        if granted == Granted::NotYet
            && let Some(claim) = self.claim(ticket)
        {
            claim.waits_for = Some(want);
        }
        granted
    }

    /// That of `ticket` presses from now on. What only an older one that presses kept from it, it is granted.
    pub(super) fn press(&mut self, ticket: u64, want: Want, budget: usize) -> Granted {
        match self.claim(ticket) {
            Some(claim) if !claim.presses => {
                claim.presses = true;
                self.grant(ticket, want, budget)
            }
            _ => Granted::NotYet,
        }
    }

    /// How large a buffer that of `ticket` gets for its first `charge` bytes: one for all that was announced, unless the
    /// buffers of all bodies would then take more than twice the budget of addresses, of which some systems have few
    /// (RLIMIT_AS, vm.overcommit_memory=2).
    pub(super) fn first_buffer(
        &mut self,
        ticket: u64,
        charge: usize,
        announced: Option<usize>,
        budget: usize,
    ) -> usize {
        let taken: usize = self.claims.iter().map(|claim| claim.addresses).sum();
        let left = budget.saturating_mul(2).saturating_sub(taken);
        let size = announced.filter(|announced| *announced <= left).unwrap_or_default().max(charge);
        if let Some(claim) = self.claim(ticket) {
            claim.addresses = size;
        }
        size
    }

    /// That of `ticket` waits no longer.
    pub(super) fn withdraw(&mut self, ticket: u64) {
        if let Some(claim) = self.claim(ticket) {
            claim.waits_for = None;
        }
    }

    /// Whether that of `ticket` has been granted what it asked for.
    pub(super) fn granted(&self, ticket: u64) -> Granted {
        let waits = |claim: &Claim| claim.ticket == ticket && claim.waits_for.is_some();
        if self.claims.iter().any(waits) { Granted::NotYet } else { Granted::Yes }
    }

    /// Grants those that wait what they can have now, oldest first, and wakes them.
    pub(super) fn grant_waiting(&mut self, budget: usize) {
        let mut charged = self.charged();
        let waiting = |claim: &Claim| Some((claim.ticket, claim.charged, claim.waits_for?));
        for (ticket, has, want) in self.claims.iter().filter_map(waiting).collect::<Vec<_>>() {
            // Most want more than is left: that is seen at once, where a grant looks at all claims.
            let total = charged.saturating_sub(has).saturating_add(want.bytes());
            if !fits(total, want.bytes(), budget) && !self.may_go_beside(want) {
                continue;
            }
            if self.grant(ticket, want, budget) == Granted::Yes
                && let Some(claim) = self.claim(ticket)
            {
                claim.thread.unpark();
                charged = self.charged();
            }
        }
    }

    /// Whether what is wanted may be had beside the budget.
    fn may_go_beside(&self, want: Want) -> bool {
        matches!(want, Want::BytesForLines(_)) && self.beside.is_none()
    }

    fn grant(&mut self, ticket: u64, want: Want, budget: usize) -> Granted {
        let charge = if self.can_have(ticket, want.bytes(), budget) {
            Some(want.bytes())
        } else if self.may_go_beside(want) {
            self.beside = Some(ticket);
            None
        } else {
            return Granted::NotYet;
        };
        if let Some(claim) = self.claim(ticket) {
            (claim.waits_for, claim.presses) = (None, false);
            claim.charged = charge.unwrap_or(claim.charged);
            claim.most = claim.most.max(claim.charged);
        }
        Granted::Yes
    }

    /// Wakes those that have to give way, lest they wait on.
    pub(super) fn wake_leaving(&self) {
        let leaves = |claim: &&Claim| claim.connection.standing() == Standing::GivingWay;
        self.claims.iter().filter(leaves).for_each(|claim| claim.thread.unpark());
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
        fits(younger, charge, budget)
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

    /// A spare in which `size` bytes fit, if that of `ticket` can have all of it.
    pub(super) fn take_spare(&mut self, ticket: u64, size: usize, budget: usize) -> Option<Vec<u8>> {
        let at = self.spare(size)?;
        let whole = self.large.get(at)?.capacity().saturating_sub(ROOM);
        match self.grant(ticket, Want::Bytes(whole), budget) {
            Granted::Yes => Some(self.large.remove(at)),
            Granted::NotYet => None,
        }
    }

    /// Drops spares, oldest first, until they and what is granted stay under the budget together.
    pub(super) fn trim_spares(&mut self, budget: usize) {
        while !self.large.is_empty() && self.charged().saturating_add(spare_bytes(&self.large)) > budget {
            self.large.remove(0);
        }
    }
}
