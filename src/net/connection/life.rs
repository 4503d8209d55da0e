//! The states of a connection, and who makes room when. Without sockets.

use std::time::{Duration, Instant};

use super::pace::{Pace, SLOW};
use crate::observe::labels::Evicted;

/// A connection that is this old and has carried no valid request makes room first. The API server sends the request
/// that it dialled for within milliseconds.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A connection idle for so long makes room before any that has just been used or dialled.
const IDLE: Duration = Duration::from_secs(1);

/// Otherwise a connection makes room only once it has been in its handshake, or has waited for its next request, for so
/// long.
const NEWCOMER: Duration = Duration::from_millis(100);

/// How long a drain waits for a handshake. The API server's takes milliseconds; its ClientHello, should it be lost twice
/// on the way, comes within a second or so.
const DRAIN_HANDSHAKE: Duration = Duration::from_secs(2);

/// A connection's state, and what it has carried.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) state: State,
    pub(super) history: History,
}

/// What a connection has carried so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// No request.
    Unproven,
    /// Nothing but requests that were refused.
    Refused,
    /// A valid request.
    Proven,
}

/// Where a connection is, see the table at the top of [`connection`](super).
#[derive(Debug)]
pub(super) enum State {
    Handshaking { since: Instant },
    Waiting { since: Instant },
    Arriving { pace: Pace },
    Complete,
    GivingWay { until: Instant },
    Closing { until: Instant },
    Cut,
}

/// Why a connection makes room; those of the first variant go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::net) enum Turn {
    /// It had its first second and carried no valid request.
    Unproven,
    /// It was idle for over a second.
    Idle,
    /// Its request's body arrives slowly.
    Slow,
    /// It is in its first second, and nothing but requests that were refused came on it.
    Refused,
    /// It is in its first second, and amid its handshake.
    Handshaking,
    /// It is in its first second, and no request has come on it.
    Newcomer,
    /// It was idle for less than a second.
    JustIdle,
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

/// Whether a call ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It did.
    Now,
    /// It did not: the connection may not be ended now, or was ended before.
    No,
}

impl Life {
    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Closing { .. } | State::Cut => Standing::Closing,
            State::GivingWay { .. } => Standing::GivingWay,
            State::Handshaking { .. } | State::Waiting { .. } | State::Arriving { .. } | State::Complete => {
                Standing::Open
            }
        }
    }

    /// Its turn to make room, and its rank among those of the same turn (the least goes first); `None` if it may not be
    /// ended now.
    pub(super) fn turn(&self, accepted: Instant, now: Instant) -> Option<(Turn, u64)> {
        let age = |since: Instant| now.saturating_duration_since(since);
        // The oldest has the least rank.
        let rank = |since| u64::MAX - u64::try_from(age(since).as_micros()).unwrap_or(u64::MAX);
        let (turn, since) = match (&self.state, self.history) {
            (State::Handshaking { .. } | State::Waiting { .. }, History::Unproven | History::Refused)
                if age(accepted) >= FIRST_REQUEST =>
            {
                return Some((Turn::Unproven, rank(accepted)));
            }
            (State::Handshaking { since }, _) => (Turn::Handshaking, *since),
            (State::Waiting { since }, History::Refused) => (Turn::Refused, *since),
            (State::Waiting { since }, History::Unproven) => (Turn::Newcomer, *since),
            (State::Waiting { since }, History::Proven) if age(*since) >= IDLE => (Turn::Idle, *since),
            (State::Waiting { since }, History::Proven) => (Turn::JustIdle, *since),
            (State::Arriving { pace }, _) => {
                return Some((Turn::Slow, pace.recent(now))).filter(|(_, bytes)| *bytes < SLOW);
            }
            (State::Complete | State::GivingWay { .. } | State::Closing { .. } | State::Cut, _) => return None,
        };
        (age(since) >= NEWCOMER).then(|| (turn, rank(since)))
    }

    /// Whether the drain has to wait for it: a request or a handshake is in progress, or the request that it was dialled
    /// for is about to come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let had_less = |since: Instant, time| now.saturating_duration_since(since) < time;
        match (&self.state, self.history) {
            (State::Arriving { .. } | State::Complete, _) => true,
            (State::Handshaking { since }, _) => had_less(*since, DRAIN_HANDSHAKE),
            (State::Waiting { since }, History::Unproven) => had_less(*since, FIRST_REQUEST),
            (State::Waiting { .. } | State::GivingWay { .. } | State::Closing { .. } | State::Cut, _) => false,
        }
    }
}
