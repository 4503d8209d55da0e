//! Failures of system calls, for tests.
#![cfg(test)]

use std::io;
use std::sync::Mutex;

use super::fs::Call;

/// What is to go wrong, and what has been called so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    /// Calls that the plan is about, so far.
    seen: u32,
    /// The next write is to be cut short.
    shorten: bool,
    fired: bool,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The calls counted; `None` counts all.
    pub(super) call: Option<Call>,
    /// The first one to fail, from 1.
    pub(super) nth: u32,
    /// How many fail in a row.
    pub(super) times: u32,
    /// With this error.
    pub(super) errno: i32,
    /// A write fails only after half of it was written.
    pub(super) short: bool,
}

impl Faults {
    pub(super) fn set(&self, plan: Option<Plan>) {
        let mut state = self.0.lock().unwrap();
        *state = State { plan, ..State::default() };
    }

    /// Whether anything has failed for the plan's sake.
    pub(super) fn fired(&self) -> bool {
        self.0.lock().unwrap().fired
    }

    pub(super) fn may(&self, call: Call) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let Some(plan) = state.plan else {
            return Ok(());
        };
        if plan.call.is_some_and(|planned| planned != call) {
            return Ok(());
        }
        state.seen += 1;
        if state.seen < plan.nth || state.seen - plan.nth >= plan.times {
            return Ok(());
        }
        state.fired = true;
        if plan.short && call == Call::Write && state.seen == plan.nth {
            state.shorten = true;
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(plan.errno))
    }

    pub(super) fn shortened<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if std::mem::take(&mut self.0.lock().unwrap().shorten) { &bytes[..bytes.len() / 2] } else { bytes }
    }
}
