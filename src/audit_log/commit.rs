//! Group commit: threads that wait while one writes have their lines written by one of them in a single write.
//!
//! An append that finds nobody writing and nobody waiting writes its own lines, without a copy. Otherwise it joins the
//! group that waits: it copies its lines to the group's buffer, and the first of the group, its leader, waits for the
//! writer, writes the buffer and tells the others. While one group is being written the next gathers behind it, and no
//! later append overtakes it. A leader writes one group, of bounded size, its own.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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

#[derive(Debug)]
pub(super) struct GroupCommit {
    /// Whoever holds this writes. Taken before `queue` by those who wait for it; those who hold `queue` only try it.
    writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    /// Where the members of a group wait for its outcome: those of even groups at the first, of odd ones at the second,
    /// so that the end of one group does not wake the next.
    decided: [Condvar; 2],
    largest_copied: usize,
    largest_group: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// The waiting group's lines.
    lines: Vec<u8>,
    /// How many appends those are. The waiting group exists if there are any.
    members: u32,
    /// The waiting group's number, or the number that the next group will have.
    number: u64,
    /// Groups with lower numbers have been written, or have failed.
    decided: u64,
    /// Those of them that failed, until each member knows.
    failed: Vec<Failed>,
    /// The buffer for the next group.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Failed {
    number: u64,
    error: AppendError,
    /// Members that have not been told yet.
    untold: u32,
}

impl GroupCommit {
    pub(super) fn new(writer: Writer, synced: bool) -> Self {
        let (largest_copied, largest_group) = if synced {
            (LARGEST_COPIED_SYNCED, LARGEST_GROUP_SYNCED)
        } else {
            (LARGEST_COPIED, LARGEST_GROUP)
        };
        Self {
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            decided: [Condvar::new(), Condvar::new()],
            largest_copied,
            largest_group,
        }
    }

    /// Returns when the fate of `lines` is known.
    pub(super) fn append(&self, lines: &[u8]) -> Result<(), AppendError> {
        let mut queue = lock(&self.queue);
        if queue.members == 0
            && let Ok(mut writer) = self.writer.try_lock()
        {
            drop(queue);
            return writer.append(lines, 1);
        }
        let room = self.largest_group.saturating_sub(queue.lines.len());
        if lines.len() > self.largest_copied.min(room) {
            drop(queue);
            return lock(&self.writer).append(lines, 1);
        }
        queue.lines.extend_from_slice(lines);
        queue.members += 1;
        if queue.members == 1 {
            drop(queue);
            self.lead()
        } else {
            self.follow(queue)
        }
    }

    /// Writes the waiting group, whose first member the caller is.
    fn lead(&self) -> Result<(), AppendError> {
        let mut writer = lock(&self.writer);
        let mut queue = lock(&self.queue);
        let spare = std::mem::take(&mut queue.spare);
        let mut lines = std::mem::replace(&mut queue.lines, spare);
        let members = std::mem::take(&mut queue.members);
        let number = queue.number;
        queue.number += 1;
        drop(queue);

        let outcome = writer.append(&lines, members);

        let mut queue = lock(&self.queue);
        queue.decided = number + 1;
        if let Err(error) = &outcome
            && members > 1
        {
            queue.failed.push(Failed {
                number,
                error: error.clone(),
                untold: members - 1,
            });
        }
        lines.clear();
        queue.spare = lines;
        drop(queue);
        // Only now: groups are decided in the order of their numbers.
        drop(writer);
        if members > 1 {
            self.waiting_place(number).notify_all();
        }
        outcome
    }

    /// Waits for what becomes of the group that the caller has just joined.
    fn follow(&self, mut queue: MutexGuard<'_, Queue>) -> Result<(), AppendError> {
        let number = queue.number;
        while queue.decided <= number {
            queue = self
                .waiting_place(number)
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let Some(index) = queue.failed.iter().position(|group| group.number == number) else {
            return Ok(());
        };
        let Some(group) = queue.failed.get_mut(index) else {
            return Ok(());
        };
        group.untold -= 1;
        if group.untold > 0 {
            return Err(group.error.clone());
        }
        Err(queue.failed.swap_remove(index).error)
    }

    fn waiting_place(&self, number: u64) -> &Condvar {
        let [even, odd] = &self.decided;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// Before any thread appends.
    pub(super) fn with_writer<T>(&self, read: impl FnOnce(&Writer) -> T) -> T {
        read(&lock(&self.writer))
    }

    /// The writer, unless somebody is writing.
    pub(super) fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock().ok()
    }
}
