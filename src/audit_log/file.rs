//! The log as a regular file: appending whole lines or none.
//!
//! Invariants, whatever fails:
//! - What was acknowledged is in a file, whole and once, and that file had a name after the write: its link count was
//!   looked at.
//! - A group of lines goes to one file, with one write(2). If that takes only a part of it, the part is cut off and the
//!   whole group written again. So whenever the process dies, a file has no more of a group than its beginning.
//! - The length that the file had before is known. What fails is cut back to that length, once. A file whose end is in
//!   doubt is neither written nor cut again, and gets a successor.
//! - Nobody's file is overwritten: the log is renamed to a name that was just seen free.

#[cfg(test)]
mod pauses;
mod rotate;
mod start;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SyncMode;
use super::backups::Backups;
use super::chain::{self, Chain, Lines, Marking, Residue};
use super::content;
use super::error::AppendError;
use super::fs::Fs;
use super::guard::Guard;
use super::names::hidden_beside;
use super::open::{Identity, missing};
use super::status::LogStatus;
use crate::observe::diagnostics::Latch;

/// How the file is to be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The file is rolled before it would grow past this many bytes; 0 never rolls it.
    pub(super) max_size: u64,
    pub(super) sync: SyncMode,
    /// Permissions of newly created files.
    pub(super) mode: u32,
}

/// The file being appended to, and all that is needed to give it a successor.
#[derive(Debug)]
pub(super) struct LogFile {
    fs: Fs,
    rules: Rules,
    status: Arc<LogStatus>,
    path: PathBuf,
    /// The path in messages.
    name: String,
    backups: Backups,
    guard: Guard,
    open: OpenFile,
    /// Set while another process has, or may have, the lock: appends are refused with this error.
    unlocked: Option<AppendError>,
    /// Set while rotation fails: when the next try is due.
    roll_again: Option<Instant>,
    /// Set by a failed sync or an end in doubt, cleared by the next append that succeeds: before this time appends are
    /// refused with this error.
    try_again: Option<(Instant, AppendError)>,
    /// Whether it was said that the file could be given no successor.
    said_no_successor: Latch<&'static str>,
    /// Whether it was said that the file is not written any more.
    said_spent: Latch<()>,
}

/// The file that takes the lines.
#[derive(Debug)]
struct OpenFile {
    /// Locked, unless its file system is another machine's or has no locks.
    file: File,
    identity: Identity,
    /// In bytes: the length seen last, and what we have written since.
    length: u64,
    /// Whether we have written a line to it.
    marking: Marking,
    /// Set when it must not be written any more: its end is in doubt, or its last sync failed. It is given a successor;
    /// until then appends are refused with this error.
    spent: Option<AppendError>,
}

/// What keeps a group of lines from standing in the file.
enum Setback {
    /// Nothing that lasts: it is to be written again.
    Again,
    Failed(AppendError),
}

type Failure = (Residue, Setback);

/// How long what has failed (to roll the file, to sync it) is not tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a group is written, because it went in only in part, or the file was deleted or truncated meanwhile, before
/// the append fails.
const MOST_ATTEMPTS: u32 = 10;

impl LogFile {
    /// Appends whole lines, all of them or none.
    ///
    /// With a chain each gets its `chain` member. Returns the number of bytes written.
    pub(super) fn append(&mut self, mut lines: Lines<'_>, mut chain: Option<&mut Chain>) -> Result<usize, AppendError> {
        for _ in 0..MOST_ATTEMPTS {
            self.make_ready()?;
            let marking = self.marking();
            match chain::write(chain.as_deref_mut(), &mut lines, marking, |group| self.write(group)) {
                Ok(written) => {
                    self.try_again = None;
                    self.said_spent.well();
                    return Ok(written);
                }
                Err(Setback::Again) => {}
                Err(Setback::Failed(error)) => return Err(error),
            }
        }
        let error = io::Error::other("again and again lines go in only in part, or it is deleted or truncated");
        Err(AppendError::write(&self.name, &error))
    }

    /// Whether the next chained line is the first in its file, or the first of ours.
    fn marking(&self) -> Marking {
        if self.open.length == 0 { Marking::Due } else { self.open.marking }
    }

    /// The length of the open file.
    pub(super) fn length(&self) -> u64 {
        self.open.length
    }

    /// Gives a file that may not be written a successor. Fails if it is known that an append would fail.
    pub(super) fn make_ready(&mut self) -> Result<(), AppendError> {
        if let Some((again, error)) = &self.try_again
            && Instant::now() < *again
        {
            return Err(error.clone());
        }
        if self.unlocked.is_some() {
            // It may be ours again by now: the lock file was being made anew, or the other process has ended.
            self.look();
        }
        if let Some(error) = &self.unlocked {
            return Err(error.clone());
        }
        match self.open.spent.clone() {
            None => Ok(()),
            Some(error) if self.roll_pauses() => Err(error),
            Some(error) => self.succeed().map_err(|_| error),
        }
    }

    fn roll_pauses(&self) -> bool {
        self.roll_again.is_some_and(|again| Instant::now() < again)
    }

    /// Whether so many bytes may go to the open file. While it cannot be rolled all may, and an empty one takes what is
    /// larger than any file.
    fn has_room(&self, bytes: usize) -> bool {
        let (max, length) = (self.rules.max_size, self.open.length);
        max == 0 || length == 0 || length.saturating_add(bytes as u64) <= max || self.roll_pauses()
    }

    /// Writes a group of lines to the open file. Returns its length in bytes.
    fn write(&mut self, group: &[u8]) -> Result<usize, Failure> {
        if !self.has_room(group.len()) {
            // If that fails, a pause has begun in which the file takes what does not fit.
            let _ = self.succeed();
            return Err((Residue::None, Setback::Again));
        }
        let outcome = loop {
            match self.fs.write(&self.open.file, group) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(count) if count == group.len() => self.settle(group),
            Ok(count) => self.after_short_write(group.get(..count).unwrap_or(group)),
            Err(error) => self.after_failed_write(&[], &error),
        }
    }

    /// Only `written` has gone in. When one byte more is written, the kernel says what is wrong. It is a NUL, which ends
    /// no line; if the process dies before it is cut off, the next start cuts it off.
    fn after_short_write(&mut self, written: &[u8]) -> Result<usize, Failure> {
        match self.fs.write(&self.open.file, b"\0") {
            Ok(nuls) => match self.cut_back(&[written, &vec![0; nuls]].concat()) {
                Ok(()) => Err((Residue::None, Setback::Again)),
                Err(error) => Err((Residue::Possible, Setback::Failed(error))),
            },
            Err(error) => self.after_failed_write(written, &error),
        }
    }

    fn after_failed_write(&mut self, written: &[u8], error: &io::Error) -> Result<usize, Failure> {
        let had_lines = self.open.length > 0;
        let refusal = AppendError::write(&self.name, error);
        if self.cut_back(written).is_err() {
            return Err((Residue::Possible, Setback::Failed(refusal)));
        }
        // The limit on file sizes of the process or of the file system is reached. A new file has room.
        let too_large = error.kind() == io::ErrorKind::FileTooLarge && had_lines;
        if too_large && !self.roll_pauses() && self.succeed().is_ok() {
            return Err((Residue::None, Setback::Again));
        }
        Err((Residue::None, Setback::Failed(refusal)))
    }

    /// A file that nothing else uses.
    pub(super) fn scratch_path(&self) -> PathBuf {
        hidden_beside(&self.path, ".probe")
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.backups
    }

    /// The log's path, with links at its end followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure of a group that was written to the open file: syncs it, and looks whether the file still has a name and
    /// the group.
    fn settle(&mut self, group: &[u8]) -> Result<usize, Failure> {
        if let SyncMode::Always = self.rules.sync
            && let Err(error) = self.sync()
        {
            // If the cut fails, the file is spent already.
            if self.cut_back(group).is_ok() {
                self.after_failed_sync(&error);
            }
            return Err((Residue::Possible, Setback::Failed(error)));
        }
        match self.stands(group) {
            Ok(true) => {
                self.open.marking = Marking::Done;
                Ok(group.len())
            }
            // Somebody may have read the lines before they went.
            Ok(false) => Err((Residue::Possible, Setback::Again)),
            Err(error) => {
                let gone = self.cut_back(group).is_ok();
                let residue = if gone { Residue::None } else { Residue::Possible };
                Err((residue, Setback::Failed(error)))
            }
        }
    }

    /// Whether the group stands in a file with a name. A file without a name gets a successor; of a file that was
    /// truncated, what is left of the group is cut off.
    fn stands(&mut self, group: &[u8]) -> Result<bool, AppendError> {
        let failed = |error| AppendError::write(&self.name, &error);
        let metadata = self.fs.metadata_of(&self.open.file).map_err(failed)?;
        // Some file systems count no links: the path is asked as well.
        if metadata.nlink() == 0 && !matches!(self.at_path(), Ok(Some(_))) {
            return match self.succeed() {
                // The directory, made anew, has gone as well.
                Err(error) if !missing(&error) => Err(AppendError::open(&self.name, &error)),
                _ => Ok(false),
            };
        }
        let length = metadata.len();
        // A file that is shorter than it should be was truncated: before the group was written, if it ends with it.
        if length >= self.open.length.saturating_add(group.len() as u64)
            || content::ends_with(&self.fs, &self.open.file, length, group).map_err(failed)?
        {
            self.open.length = length;
            return Ok(true);
        }
        self.cut_back(group)?;
        Ok(false)
    }

    /// Cuts off what a group has left behind the length that the file had before, see [`content::cut_back`]. If it is in
    /// doubt whether that worked, the file is neither written nor cut any more.
    fn cut_back(&mut self, written: &[u8]) -> Result<(), AppendError> {
        if let Some(error) = &self.open.spent {
            return Err(error.clone());
        }
        match content::cut_back(&self.fs, &self.open.file, self.open.length, written) {
            Ok(length) => {
                self.open.length = length;
                Ok(())
            }
            Err(error) => {
                let error = AppendError::doubtful(&self.name, &error);
                self.spend(&error);
                Err(error)
            }
        }
    }

    /// Ends the use of the open file.
    fn spend(&mut self, error: &AppendError) {
        self.open.spent = Some(error.clone());
        self.pause(error);
        if self.said_spent.fault(()) {
            self.status.diagnostics.error(
                "the audit log will not be written any more and is rolled",
                &[("path", (&self.name).into()), ("error", (&error.to_string()).into())],
            );
        }
    }

    /// The kernel may have dropped what it could not write, and a second sync would succeed all the same: the file must
    /// not be used any more. An empty one has nothing to lose, and stays in use.
    fn after_failed_sync(&mut self, error: &AppendError) {
        if self.open.length > 0 {
            self.spend(error);
        } else {
            self.pause(error);
        }
    }

    /// Puts off the next try, so that a disk that fails all the time does not get a file for each. The first try comes at
    /// once.
    fn pause(&mut self, error: &AppendError) {
        let pause = if self.try_again.is_some() { PAUSE } else { Duration::ZERO };
        self.try_again = Some((Instant::now() + pause, error.clone()));
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        let began = Instant::now();
        let outcome = self.fs.sync_data(&self.open.file);
        self.status.metrics.sync_duration.observe(began.elapsed());
        outcome.map_err(|error| AppendError::sync(&self.name, &error))
    }
}
