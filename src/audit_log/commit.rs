//! Group commit: threads that wait while one writes have their lines written by one of them in a single write.
//!
//! An append that finds nobody writing writes its own lines, without a copy. Otherwise it joins the group that waits: it
//! copies its lines to the group's buffer, and the first of the group, its leader, waits for its turn, writes the buffer
//! and tells the others. While one group is being written the next gathers behind it. A leader writes one group, of
//! bounded size, its own.
//!
//! Those who wait get their turns in the order of their asking. A thread that is running may overtake one that has been
//! woken and does not run yet, since handing each turn over costs a change of threads, which takes longer than most
//! writes; but nobody is overtaken for longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::AppendError;
use super::lock;
use super::writer::Writer;

/// Longer appends are written by their own thread: at that size the copy would cost more than the write call saves.
const LARGEST_COPIED: usize = 64 << 10;
/// Bytes in a group.
const LARGEST_GROUP: usize = 256 << 10;
/// The same where each write is followed by a sync, which costs so much more than any copy that it should be shared
/// by as many as can be.
const LARGEST_COPIED_SYNCED: usize = 1 << 20;
const LARGEST_GROUP_SYNCED: usize = 4 << 20;

/// Of a group's buffer; what a larger group needed is given back.
const LARGEST_KEPT: usize = 256 << 10;

/// How long a waiting append lets others overtake it: hundreds of small writes, and short beside what a request is
/// allowed. With 32 threads that do nothing but append on two cores a line costs 1.3 times as much CPU so as with one;
/// without overtaking it costs twice as much, and half as many get through.
const PATIENCE: Duration = Duration::from_millis(1);

/// How often one that was woken and then overtaken looks whether it can write: to be woken at the end of each turn again
/// would cost those who overtake it more than their writes.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Places where threads wait for their turns: as many as connections by default, so that the end of a turn wakes the
/// next and nobody else. With 8 of them 64 connections went to sleep 3.6 times for a line of 20 KB, instead of once.
const WAITING_PLACES: usize = 256;
/// Places where the members of a group wait: groups that are being written, told and gathered at the same time have
/// places of their own.
const OUTCOME_PLACES: usize = 8;

#[derive(Debug)]
pub(super) struct GroupCommit {
    /// Locked by the thread whose turn it is, and so never waited for.
    writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    /// Where threads wait for their turns, by the turn's number.
    turns: [Condvar; WAITING_PLACES],
    /// Where the members of a group wait for its outcome, by the group's number.
    outcomes: [Condvar; OUTCOME_PLACES],
    largest_copied: usize,
    largest_group: usize,
    /// None where each write is followed by a sync: to overtake would take a sync for a line or two.
    patience: Option<Duration>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Somebody has the turn to write.
    writing: bool,
    /// Since when they wait who want to write, in the order of their turns.
    waiting: VecDeque<Instant>,
    /// The turn of the first of them, or of the next who comes.
    turn: u64,
    /// The first was woken, or looks by itself.
    woken: bool,
    /// The waiting group's lines.
    lines: Vec<u8>,
    /// How many appends those are. The waiting group exists if there are any.
    members: u32,
    /// The waiting group's number, or the number that the next group will have.
    group: u64,
    /// Groups with lower numbers have been written, or have failed.
    decided: u64,
    /// Those of them that failed, until each member knows.
    failed: Vec<Failed>,
    /// The buffer for the next group.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Failed {
    group: u64,
    error: AppendError,
    /// Members that have not been told yet.
    untold: u32,
}

/// A group on its way to the file.
struct Group {
    number: u64,
    lines: Vec<u8>,
    members: u32,
}

impl Queue {
    /// Takes the waiting group; those who come later make the next.
    fn take_group(&mut self) -> Group {
        let spare = std::mem::take(&mut self.spare);
        let group = Group {
            number: self.group,
            lines: std::mem::replace(&mut self.lines, spare),
            members: std::mem::take(&mut self.members),
        };
        self.group += 1;
        group
    }

    /// Makes a group's outcome known. Groups are decided in the order of their numbers, since that is the order of
    /// their turns.
    fn decide(&mut self, group: Group, outcome: &Result<(), AppendError>) {
        self.decided = group.number + 1;
        if let Err(error) = outcome
            && group.members > 1
        {
            self.failed.push(Failed { group: group.number, error: error.clone(), untold: group.members - 1 });
        }
        self.spare = group.lines;
        self.spare.clear();
        self.spare.shrink_to(LARGEST_KEPT);
    }

    /// What became of a decided group, for one of its members.
    fn tell(&mut self, group: u64) -> Result<(), AppendError> {
        let Some(index) = self.failed.iter().position(|failed| failed.group == group) else {
            return Ok(());
        };
        let Some(failed) = self.failed.get_mut(index) else {
            return Ok(());
        };
        failed.untold -= 1;
        if failed.untold > 0 {
            return Err(failed.error.clone());
        }
        Err(self.failed.swap_remove(index).error)
    }
}

impl GroupCommit {
    pub(super) fn new(writer: Writer, synced: bool) -> Self {
        let (largest_copied, largest_group, patience) = if synced {
            (LARGEST_COPIED_SYNCED, LARGEST_GROUP_SYNCED, None)
        } else {
            (LARGEST_COPIED, LARGEST_GROUP, Some(PATIENCE))
        };
        Self {
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            turns: [const { Condvar::new() }; WAITING_PLACES],
            outcomes: [const { Condvar::new() }; OUTCOME_PLACES],
            largest_copied,
            largest_group,
            patience,
        }
    }

    /// Returns when the fate of `lines` is known.
    pub(super) fn append(&self, lines: &[u8]) -> Result<(), AppendError> {
        let mut queue = lock(&self.queue);
        let room = self.largest_group.saturating_sub(queue.lines.len());
        if self.is_free(&queue) || lines.len() > self.largest_copied.min(room) {
            return self.take_turn(queue).append(lines, 1);
        }
        queue.lines.extend_from_slice(lines);
        queue.members += 1;
        if queue.members == 1 { self.lead(queue) } else { self.follow(queue) }
    }

    /// Whether a thread that comes now may write at once.
    fn is_free(&self, queue: &Queue) -> bool {
        let may_overtake = |since: &Instant| self.patience.is_some_and(|patience| since.elapsed() < patience);
        !queue.writing && queue.waiting.front().is_none_or(may_overtake)
    }

    /// Waits for a turn to write, if there is somebody to wait for.
    fn take_turn<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> Turn<'a> {
        if !self.is_free(&queue) {
            queue = self.await_turn(queue);
        }
        queue.writing = true;
        drop(queue);
        Turn { writer: lock(&self.writer), _end: EndTurn(self) }
    }

    fn await_turn<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let turn = queue.turn + queue.waiting.len() as u64;
        let began = Instant::now();
        queue.waiting.push_back(began);
        let mut overtaken = false;
        loop {
            let place = place(&self.turns, turn);
            queue = if overtaken { wait_for(place, queue, LOOK_AGAIN) } else { wait(place, queue) };
            if queue.turn != turn {
                continue;
            }
            if !queue.writing {
                queue.waiting.pop_front();
                queue.turn += 1;
                queue.woken = false;
                return queue;
            }
            overtaken = self.patience.is_some_and(|patience| began.elapsed() < patience);
            queue.woken = overtaken;
        }
    }

    fn end_turn(&self) {
        let mut queue = lock(&self.queue);
        queue.writing = false;
        let wake = !queue.waiting.is_empty() && !queue.woken;
        queue.woken |= wake;
        let turn = queue.turn;
        drop(queue);
        if wake {
            place(&self.turns, turn).notify_all();
        }
    }

    /// Writes the waiting group, whose first member the caller is.
    fn lead(&self, queue: MutexGuard<'_, Queue>) -> Result<(), AppendError> {
        let mut turn = self.take_turn(queue);
        let group = lock(&self.queue).take_group();
        let outcome = turn.append(&group.lines, group.members);
        let (number, members) = (group.number, group.members);
        lock(&self.queue).decide(group, &outcome);
        drop(turn);
        if members > 1 {
            place(&self.outcomes, number).notify_all();
        }
        outcome
    }

    /// Waits for what becomes of the group that the caller has just joined.
    fn follow(&self, mut queue: MutexGuard<'_, Queue>) -> Result<(), AppendError> {
        let group = queue.group;
        while queue.decided <= group {
            queue = wait(place(&self.outcomes, group), queue);
        }
        queue.tell(group)
    }

    /// Whether somebody writes, and how many appends the waiting group has.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (bool, u32) {
        let queue = lock(&self.queue);
        (queue.writing, queue.members)
    }

    /// The right to write, if it is to be had at once.
    pub(super) fn try_turn(&self) -> Option<Turn<'_>> {
        let queue = lock(&self.queue);
        self.is_free(&queue).then(|| self.take_turn(queue))
    }
}

/// The right to write, until it is dropped.
pub(super) struct Turn<'a> {
    // Dropped first, so that the next turn finds the writer free.
    writer: MutexGuard<'a, Writer>,
    _end: EndTurn<'a>,
}

impl Deref for Turn<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

struct EndTurn<'a>(&'a GroupCommit);

impl Drop for EndTurn<'_> {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

/// Where those wait whose turn or group has this number.
#[expect(clippy::indexing_slicing, reason = "a remainder is in range")]
fn place<const N: usize>(places: &[Condvar; N], number: u64) -> &Condvar {
    &places[(number % N as u64) as usize]
}

fn wait<'a>(place: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    place.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<'a>(place: &Condvar, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
    let (queue, _) = place.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner);
    queue
}
