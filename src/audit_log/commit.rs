//! Group commit: one thread at a time has the writer, and appends that come meanwhile are written together.
//!
//! An append that finds the writer free takes it and writes its own lines, without a copy. Otherwise it copies its
//! lines to the group that is gathering and waits for the outcome. The first of a group, its leader, waits for a turn
//! and then writes the group. So do, with their own lines, appends too long to copy. Turns come in the order of
//! arrival. A group that has waited a while does not wait for its turn: whoever has the writer writes it after his own
//! lines, so a small append is not held up by a row of long ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::chain::Lines;
use super::chain::format::Digest;
use super::error::AppendError;
use super::writer::Writer;
use super::{SyncMode, lock};

/// How appends share writes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Longer appends are not copied to a group: at that size the copy would cost more than the write call saves.
    largest_copied: usize,
    /// A group takes no more bytes than this.
    largest_group: usize,
    /// A group that is older is written by whoever has the writer, after his own lines; a younger one is left to its
    /// leader. Where each write is followed by a sync it always is, so that nobody waits for a second sync.
    left_to_leader: Duration,
}

const NOT_SYNCED: Limits =
    Limits { largest_copied: 64 << 10, largest_group: 256 << 10, left_to_leader: LEFT_TO_LEADER };
const SYNCED: Limits = Limits { largest_copied: 1 << 20, largest_group: 4 << 20, left_to_leader: Duration::MAX };

/// Capacity that a group's buffer keeps for the next group; what a larger group needed is given back.
const LARGEST_KEPT: usize = 256 << 10;

/// How long a group gathers lines before others than its leader may write it: written at once it would be small, and
/// its threads would be woken only to sleep again with their next lines.
const LEFT_TO_LEADER: Duration = Duration::from_micros(200);

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
    /// The group that is gathering, if an append has begun one.
    gathering: Option<Gathering>,
    /// The next group's buffer, empty.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Gathering {
    lines: Vec<u8>,
    /// Of each line, with a chain.
    digests: Vec<Digest>,
    /// The threads whose lines these are. The first is the leader, who writes the group unless somebody else did.
    members: Vec<Thread>,
    /// When its first append came.
    since: Instant,
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

    /// Puts this thread's lines into the gathering group, or begins one, for whose turn this thread then waits.
    fn join(&mut self, lines: Lines<'_>) -> Arc<Outcome> {
        let own = thread::current();
        let group = self.gathering.get_or_insert_with(|| {
            self.turns.push_back(own.clone());
            let lines = std::mem::take(&mut self.spare);
            let since = Instant::now();
            Gathering { lines, digests: Vec::new(), members: Vec::new(), since, outcome: Arc::default() }
        });
        group.lines.extend_from_slice(lines.bytes());
        group.digests.extend_from_slice(lines.digests());
        group.members.push(own);
        Arc::clone(&group.outcome)
    }

    /// Takes the gathering group out of the queue, with its leader's turn.
    fn take_group(&mut self) -> Option<Gathering> {
        let group = self.gathering.take()?;
        if let Some(leader) = group.members.first() {
            self.turns.retain(|thread| thread.id() != leader.id());
        }
        Some(group)
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
        let queue =
            Queue { writer: Some(Box::new(writer)), turns: VecDeque::new(), gathering: None, spare: Vec::new() };
        Self { limits, queue: Mutex::new(queue) }
    }

    /// Returns when the fate of `lines` is known.
    pub(super) fn append(&self, lines: Lines<'_>) -> Result<(), AppendError> {
        let mut queue = lock(&self.queue);
        if let Some(writer) = queue.take_if_free() {
            drop(queue);
            return self.append_own(writer, lines);
        }
        let gathered = queue.gathering.as_ref().map_or(0, |gathering| gathering.lines.len());
        let room = self.limits.largest_group.saturating_sub(gathered);
        if lines.bytes().len() > self.limits.largest_copied.min(room) {
            return self.append_own(self.await_turn(queue), lines);
        }
        let outcome = queue.join(lines);
        self.await_outcome(queue, &outcome)
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

    /// Gives the writer back, and wakes who needs it next.
    fn end_turn(&self, mut writer: Box<Writer>) {
        let mut queue = lock(&self.queue);
        let overdue = |group: &Gathering| group.since.elapsed() >= self.limits.left_to_leader;
        if queue.gathering.as_ref().is_some_and(overdue) {
            queue = self.write_group(queue, &mut writer);
        }
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

    /// Waits for the result of the write of this thread's group. Its leader writes it when its turn comes, if nobody else
    /// has; the others have no turn.
    fn await_outcome<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, outcome: &Outcome) -> Result<(), AppendError> {
        let own = thread::current();
        loop {
            if let Some(mut writer) = queue.take_in_turn(&own) {
                drop(self.write_group(queue, &mut writer));
                self.end_turn(writer);
            } else {
                drop(queue);
                thread::park();
            }
            if let Some(outcome) = outcome.get() {
                return outcome.clone();
            }
            queue = lock(&self.queue);
        }
    }

    /// Writes the gathering group, if there is one, and wakes its members with the result.
    fn write_group<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, writer: &mut Writer) -> MutexGuard<'a, Queue> {
        let Some(mut group) = queue.take_group() else {
            return queue;
        };
        drop(queue);
        let outcome = writer.append(Lines::Many(&group.lines, &group.digests), group.members.len());
        // It is not set yet: a group is taken out of the queue once.
        let _ = group.outcome.set(outcome);
        group.members.iter().for_each(Thread::unpark);
        group.lines.clear();
        group.lines.shrink_to(LARGEST_KEPT);
        let mut queue = lock(&self.queue);
        queue.spare = group.lines;
        queue
    }

    /// Whether somebody writes, and how many appends the gathering group has.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (bool, usize) {
        let queue = lock(&self.queue);
        (queue.writer.is_none(), queue.gathering.as_ref().map_or(0, |group| group.members.len()))
    }
}
