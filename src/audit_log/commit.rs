//! Group commit: one thread at a time has the writer, and appends that come meanwhile are written together.
//!
//! An append that finds the writer free takes it and writes its own lines, without a copy. Otherwise it copies its
//! lines to the group that is gathering and waits for the outcome. The first of a group, its leader, waits for a turn
//! and then writes the group. Appends too long to copy wait for a turn of their own. Turns come in the order of arrival;
//! what is copied to a group is written in its leader's.

#[cfg(test)]
mod waiting;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};

use super::chain::Lines;
use super::chain::format::Digest;
use super::error::AppendError;
use super::writer::Writer;
use super::{SyncMode, emptied, lock};

/// How appends share writes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Longer appends are not copied to a group: at that size the copy would cost more than the write call saves.
    largest_copied: usize,
    /// A group takes no more bytes than this.
    largest_group: usize,
}

const NOT_SYNCED: Limits = Limits { largest_copied: 64 << 10, largest_group: 256 << 10 };
const SYNCED: Limits = Limits { largest_copied: 1 << 20, largest_group: 4 << 20 };

/// The writer, and who waits for it.
#[derive(Debug)]
pub(super) struct GroupCommit {
    limits: Limits,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// The writer, unless some thread has it.
    writer: Option<Box<Writer>>,
    /// Threads that wait for a turn, in the order of their arrival: those with lines of their own, and the leader of
    /// the gathering group.
    turns: VecDeque<Thread>,
    /// The group that is gathering. It has lines if an append has begun it.
    gathering: Gathering,
    /// The next group's buffer, empty.
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Gathering {
    lines: Vec<u8>,
    /// Of each line, with a chain.
    digests: Vec<Digest>,
    /// Threads whose lines these are, beside the leader, which writes them.
    followers: Vec<Thread>,
    /// The result of the write, once it is known.
    outcome: Arc<Outcome>,
}

type Outcome = OnceLock<Result<(), AppendError>>;

impl Queue {
    /// The writer, if it is free and nobody waits for it.
    fn take_if_free(&mut self) -> Option<Box<Writer>> {
        if self.turns.is_empty() { self.writer.take() } else { None }
    }

    /// The writer, if it is this thread's turn.
    fn take_in_turn(&mut self, thread: &Thread) -> Option<Box<Writer>> {
        if self.turns.front()?.id() != thread.id() {
            return None;
        }
        let writer = self.writer.take()?;
        self.turns.pop_front();
        Some(writer)
    }

    /// The group that was gathering. The next may be begun.
    fn take_group(&mut self) -> Gathering {
        let next = Gathering { lines: std::mem::take(&mut self.spare), ..Gathering::default() };
        std::mem::replace(&mut self.gathering, next)
    }
}

impl GroupCommit {
    /// A group takes half of `max_size` bytes at most (0: no limit), so that it fits into one file with its lines'
    /// `chain` members.
    pub(super) fn new(writer: Writer, sync: SyncMode, max_size: u64) -> Self {
        let mut limits = match sync {
            SyncMode::Never => NOT_SYNCED,
            SyncMode::Always => SYNCED,
        };
        if max_size > 0 {
            limits.largest_group = limits.largest_group.min(usize::try_from(max_size / 2).unwrap_or(usize::MAX));
        }
        let queue = Queue {
            writer: Some(Box::new(writer)),
            turns: VecDeque::new(),
            gathering: Gathering::default(),
            spare: Vec::new(),
        };
        Self { limits, queue: Mutex::new(queue) }
    }

    /// Returns when the fate of `lines` is known.
    pub(super) fn append(&self, lines: Lines<'_>) -> Result<(), AppendError> {
        let mut queue = lock(&self.queue);
        if let Some(writer) = queue.take_if_free() {
            drop(queue);
            return self.append_own(writer, lines);
        }
        let gathered = queue.gathering.lines.len();
        let room = self.limits.largest_group.saturating_sub(gathered);
        if lines.bytes().len() > self.limits.largest_copied.min(room) {
            return self.append_own(self.await_turn(queue), lines);
        }
        let group = &mut queue.gathering;
        group.lines.extend_from_slice(lines.bytes());
        group.digests.extend_from_slice(lines.digests());
        if gathered == 0 {
            return self.append_group(self.await_turn(queue));
        }
        group.followers.push(thread::current());
        let outcome = Arc::clone(&group.outcome);
        drop(queue);
        follow(&outcome)
    }

    /// Does something other than appending with the writer, after those who wait for it already.
    pub(super) fn with_writer<T>(&self, action: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = self.await_turn(lock(&self.queue));
        let result = action(&mut writer);
        self.end_turn(writer);
        result
    }

    fn append_own(&self, mut writer: Box<Writer>, lines: Lines<'_>) -> Result<(), AppendError> {
        let outcome = writer.append(lines, 1);
        self.end_turn(writer);
        outcome
    }

    /// Writes the group that its leader, this thread, has begun, and wakes the others with the result.
    fn append_group(&self, mut writer: Box<Writer>) -> Result<(), AppendError> {
        let group = lock(&self.queue).take_group();
        let outcome = writer.append(Lines::Many(&group.lines, &group.digests), 1 + group.followers.len());
        self.end_turn(writer);
        // It is not set yet: a group has one leader.
        let _ = group.outcome.set(outcome.clone());
        group.followers.iter().for_each(Thread::unpark);
        lock(&self.queue).spare = emptied(group.lines);
        outcome
    }

    /// Gives the writer back, and wakes who needs it next.
    fn end_turn(&self, writer: Box<Writer>) {
        let mut queue = lock(&self.queue);
        queue.writer = Some(writer);
        let next = queue.turns.front().cloned();
        drop(queue);
        if let Some(next) = next {
            next.unpark();
        }
    }

    fn await_turn<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> Box<Writer> {
        let own = thread::current();
        queue.turns.push_back(own.clone());
        loop {
            if let Some(writer) = queue.take_in_turn(&own) {
                return writer;
            }
            drop(queue);
            thread::park();
            queue = lock(&self.queue);
        }
    }
}

/// Waits for the result of a group's write.
fn follow(outcome: &Outcome) -> Result<(), AppendError> {
    loop {
        if let Some(outcome) = outcome.get() {
            return outcome.clone();
        }
        thread::park();
    }
}
