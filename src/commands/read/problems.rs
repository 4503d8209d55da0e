//! What goes wrong while reading, said on standard error; nothing of it ends the reading.

use std::fmt::Display;
use std::path::Path;

use super::COMMAND;
use crate::commands::console;
use crate::observe::visible::printable;

/// So many lines that are no audit lines are named. After that only their count is said, at 100, 1,000 and so on.
const NAMED: u64 = 10;

#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Lines that were no audit lines.
    aliens: u64,
    /// Events that were too large.
    oversized: u64,
    reading: Reading,
}

/// Whether all that was asked for could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reading {
    #[default]
    Complete,
    Failed,
}

impl Problems {
    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    pub(super) fn fail(&mut self, path: &Path, error: &dyn Display) {
        self.reading = Reading::Failed;
        self.say(path, &error.to_string());
    }

    pub(super) fn say(&self, path: &Path, what: &str) {
        say(&format!("{}: {what}", printable(path.as_os_str())));
    }

    /// Names or counts a line that is no audit line; lines are numbered from 1.
    pub(super) fn alien(&mut self, path: &Path, line: u64, reason: &dyn Display) {
        self.aliens += 1;
        if self.aliens <= NAMED {
            say(&format!("{}:{line}: no audit line: {reason}", printable(path.as_os_str())));
        } else if self.aliens.ilog10() > (self.aliens - 1).ilog10() {
            say(&format!("{} lines were no audit lines so far", self.aliens));
        }
    }

    /// Counts an Event that was left out because of its size.
    pub(super) fn oversized(&mut self) {
        self.oversized += 1;
        if self.oversized == 1 || self.oversized.ilog10() > (self.oversized - 1).ilog10() {
            say(&format!("{} Events larger than --max-event-size were left out so far", self.oversized));
        }
    }

    /// At the end: how many there were.
    pub(super) fn sum_up(&self) {
        match self.aliens {
            0 => {}
            1 => say("1 line was no audit line"),
            number => say(&format!("{number} lines were no audit lines")),
        }
    }
}

/// Says it on standard error.
pub(super) fn say(text: &str) {
    console::say(COMMAND, text);
}
