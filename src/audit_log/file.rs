//! The log as a regular file: appending whole lines or none.
//!
//! Invariants, whatever fails:
//! - What was acknowledged is in a file, whole and once, and that file had a name after the write: its link count was
//!   looked at.
//! - A group of lines knows the length that each file had before it. What fails is cut back to that length, once. A
//!   file whose end is in doubt is neither written nor cut again, and gets a successor.
//! - Nobody's file is overwritten: the log is renamed to a name that was just seen free.

mod group;
mod rotate;
mod start;

pub(super) use rotate::Look;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backups::Backups;
use super::chain::{Chain, Lines, Marking, Renew};
use super::content;
use super::error::AppendError;
use super::fs::Fs;
use super::guard::Guard;
use super::open::Identity;
use super::status::LogStatus;
use crate::observe::diagnostics::Latch;
use group::{Fate, Group};

/// How the file is to be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The file is rolled before it would grow past this many bytes; 0 never rolls it.
    pub(super) max_size: u64,
    /// Whether an append ends with fdatasync.
    pub(super) sync: bool,
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
    directory: PathBuf,
    backups: Backups,
    guard: Guard,
    open: OpenFile,
    state: State,
    /// Set while another process has, or may have, the lock: appends are refused with this error.
    unlocked: Option<AppendError>,
    /// Set while rotation fails: the next try comes when it is over.
    rotation_pause: Option<Pause>,
    /// Set while syncs fail: appends are refused with this error until the pause ends.
    sync_pause: Option<(Pause, AppendError)>,
    /// Whether it was said that the file could be given no successor.
    said_no_successor: Latch<()>,
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
    directory: Directory,
    /// Whether we have written a line to it.
    marking: Marking,
}

/// Whether the name of the open file is known to be on the disk: whether its directory was synced since it got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directory {
    Synced,
    Unsynced,
}

/// Whether the open file may be written.
#[derive(Debug)]
enum State {
    Writable,
    /// Its end is in doubt, or its last sync failed. It is given a successor; until then appends are refused with this
    /// error.
    Spent(AppendError),
}

/// A time during which something that failed is not tried again.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pause {
    /// A pause of length `first`; after the pause `last`, one of twice its length, a second at least and `longest` at
    /// most.
    fn after(last: Option<Self>, first: Duration, longest: Duration) -> Self {
        let doubled = |last: Self| last.length.saturating_mul(2).clamp(Duration::from_secs(1), longest);
        let length = last.map_or(first, doubled);
        Self { until: Instant::now() + length, length }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether it began at least `time` ago.
    fn has_lasted(&self, time: Duration) -> bool {
        Instant::now() + self.length >= self.until + time
    }
}

/// Between two tries to give a successor to a file that may not be written. It is short, since no append works
/// meanwhile.
const SPENT_PAUSE: Duration = Duration::from_secs(1);

/// How often a group is written again because the file was deleted or truncated meanwhile, before the append fails.
const MOST_ATTEMPTS: u32 = 10;

impl LogFile {
    /// Appends whole lines, all of them or none.
    ///
    /// With a chain each gets its `chain` member. Returns the number of bytes written.
    pub(super) fn append(&mut self, lines: Lines<'_>, chain: Option<&mut Chain>) -> Result<usize, AppendError> {
        self.make_ready()?;
        let mut group = Group::new(lines, self.open.length, self.marking(), chain);
        let outcome = self.write(&mut group);
        let written = group.lines.len();
        match outcome {
            Ok(()) => {
                self.sync_pause = None;
                self.said_spent.well();
                group.end(None);
                Ok(written)
            }
            Err(error) => {
                let residue = self.take_back(&group, &error);
                group.end(Some(residue));
                Err(error)
            }
        }
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
        if let Some((pause, error)) = &self.sync_pause
            && !pause.is_over()
        {
            return Err(error.clone());
        }
        if let Some(error) = &self.unlocked {
            return Err(error.clone());
        }
        match &self.state {
            State::Writable => Ok(()),
            State::Spent(error) => {
                let error = error.clone();
                if self.rotation_pause.is_some_and(|pause| !pause.has_lasted(SPENT_PAUSE)) {
                    return Err(error);
                }
                self.succeed().map(drop).map_err(|_| error)
            }
        }
    }

    fn write(&mut self, group: &mut Group<'_>) -> Result<(), AppendError> {
        loop {
            let fitting = self.fitting(group.lines.get(group.done..).unwrap_or_default());
            if fitting == 0 {
                if self.settle(group)? == Fate::Gone {
                    continue;
                }
                if group.done == group.lines.len() {
                    return Ok(());
                }
                // If it fails, the pause has begun in which the file takes what does not fit.
                let _ = self.roll(group);
                continue;
            }
            if self.marking() == Marking::Due && group.lacks_mark() {
                group.rechain(Renew::SameId);
                continue;
            }
            let before = self.open.length;
            match self.write_all(group, fitting) {
                Ok(()) => {
                    group.done += fitting;
                    self.open.marking = Marking::Done;
                }
                // The limit on file sizes of the process or of the file system is reached. A new file has room.
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge && before > 0 => {
                    let error = AppendError::write(&self.name, &error);
                    let written = group.done..group.done + self.written_since(before);
                    self.cut_back(before, &group.endings(written))?;
                    if self.settle(group)? == Fate::Stands {
                        self.roll(group).map_err(|_| error)?;
                        // They stood in the file for a moment.
                        group.rechain(Renew::NewId);
                    }
                }
                Err(error) => return Err(AppendError::write(&self.name, &error)),
            }
        }
    }

    /// A file that nothing else uses, hidden from shippers.
    pub(super) fn scratch_path(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".probe");
        self.directory.join(name)
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.backups
    }

    /// The log's path, with links at its end followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of `lines` go to the open file now: the whole lines that fit into the maximum size, all of them
    /// while rotation pauses, or a single larger one if the file is empty. 0 if `lines` is empty, or the file must be
    /// rolled first.
    fn fitting(&self, lines: &[u8]) -> usize {
        let max = self.rules.max_size;
        let length = self.open.length;
        let paused = || self.rotation_pause.is_some_and(|pause| !pause.is_over());
        if max == 0 || length.saturating_add(lines.len() as u64) <= max || paused() {
            return lines.len();
        }
        let room = usize::try_from(max.saturating_sub(length)).unwrap_or(usize::MAX);
        let within = lines.get(..room).unwrap_or(lines);
        match within.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if length > 0 => 0,
            None => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1),
        }
    }

    /// Writes the next `length` bytes of the group.
    fn write_all(&mut self, group: &mut Group<'_>, length: usize) -> io::Result<()> {
        let end = group.done + length;
        let mut at = group.done;
        while at < end {
            if at > group.here {
                group.writes.push(at);
            }
            match self.fs.write(&self.open.file, group.lines.get(at..end).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.open.length += count as u64;
                    at += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes sure of what the group has written to the open file: syncs it, and looks whether the file still has a name
    /// and its length.
    fn settle(&mut self, group: &mut Group<'_>) -> Result<Fate, AppendError> {
        if self.rules.sync && group.done > group.here {
            self.sync()?;
        }
        let metadata = self.fs.metadata_of(&self.open.file).map_err(|error| AppendError::write(&self.name, &error))?;
        // Some file systems count no links: the path is asked as well.
        let deleted = metadata.nlink() == 0 && !self.is_at_path();
        if !deleted && metadata.len() >= self.open.length {
            self.open.length = metadata.len();
            return Ok(Fate::Stands);
        }
        if group.attempts == MOST_ATTEMPTS {
            let error = io::Error::other("is deleted or truncated again and again");
            return Err(AppendError::open(&self.name, &error));
        }
        if deleted {
            self.succeed().map_err(|error| AppendError::open(&self.name, &error))?;
            group.begin_again(self.open.length);
            return Ok(Fate::Gone);
        }
        self.settle_truncated(group, metadata.len())
    }

    /// Somebody has truncated the file to less than it should have. If that was before the group was written, the group
    /// stands whole at the end; otherwise what is left of it is cut off, and it is written again.
    fn settle_truncated(&mut self, group: &mut Group<'_>, length: u64) -> Result<Fate, AppendError> {
        let part = group.lines.get(group.here..group.done).unwrap_or_default();
        let failed = |error| AppendError::write(&self.name, &error);
        if let Some(begin) = length.checked_sub(part.len() as u64)
            && content::line_start(&self.fs, &self.open.file, begin).map_err(failed)? == begin
            && content::holds(&self.fs, &self.open.file, part, begin).map_err(failed)?
        {
            (group.begin, self.open.length) = (begin, length);
            return Ok(Fate::Stands);
        }
        self.cut_back(group.begin, &group.endings(group.here..group.done))?;
        group.begin_again(self.open.length);
        Ok(Fate::Gone)
    }

    /// How many bytes were written to the open file since it was `length` bytes long.
    fn written_since(&self, length: u64) -> usize {
        usize::try_from(self.open.length.saturating_sub(length)).unwrap_or(usize::MAX)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        let failed = |error| AppendError::sync(&self.name, &error);
        if self.open.directory == Directory::Unsynced {
            self.fs.sync_directory(&self.directory).map_err(failed)?;
            self.open.directory = Directory::Synced;
        }
        let began = Instant::now();
        let outcome = self.fs.sync_data(&self.open.file);
        self.status.metrics.sync_duration.observe(began.elapsed());
        outcome.map_err(failed)
    }
}
