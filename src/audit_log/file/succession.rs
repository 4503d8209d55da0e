//! What comes after the open file: it is rolled as it grows, opened anew when its path names another file or none, and
//! closed off when it must not be written any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::super::error::AppendError;
use super::super::place::{Identity, Opened, missing, open_or_make};
use super::super::status::Look;
use super::super::tail;
use super::{Batch, DeletedFile, Fitness, LogFile, cut_off};

/// Pause after a rotation that failed; doubled with each further one, up to the second.
const ROTATION_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_ROTATION_PAUSE: Duration = Duration::from_secs(60);

impl LogFile {
    /// Rolls the file before the write that would make it too large. If that fails, the open file stays in use, and the
    /// next try is put off. Fails only if the file cannot be synced.
    pub(super) fn rotate(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        // Somebody may have truncated it.
        if let Ok(metadata) = self.fs.metadata_of(&self.file)
            && metadata.len() < self.length
        {
            self.length = metadata.len();
            return Ok(());
        }
        if self.rules.sync
            && let Err(error) = self.fs.sync_all(&self.file)
        {
            return Err(self.sync_failed(&error));
        }
        self.rotate_now(batch);
        Ok(())
    }

    fn rotate_now(&mut self, batch: &mut Batch) {
        match self.replace() {
            Ok(old) => {
                self.rotation_pause = None;
                batch.earlier.push((old, std::mem::take(&mut batch.here)));
            }
            Err(_) => {
                let pause = self
                    .rotation_pause
                    .map_or(ROTATION_PAUSE, |(_, pause)| pause.saturating_mul(2).min(LONGEST_ROTATION_PAUSE));
                self.rotation_pause = Some((Instant::now() + pause, pause));
            }
        }
    }

    /// Whether the last rotation failed so short a time ago that the next is put off.
    pub(super) fn rotation_paused(&self) -> bool {
        self.rotation_pause.is_some_and(|(until, _)| Instant::now() < until)
    }

    /// Gives the open file a successor and returns it: rolls it, or, if its path names another file by now or none,
    /// opens what is there. Fails with the open file in use as before; that is counted, and said once.
    fn replace(&mut self) -> io::Result<File> {
        let outcome = match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => self.roll(),
            // Nobody knows whose file is there.
            Err(error) if !missing(&error) => Err(error),
            _ => self.reopen(),
        };
        match &outcome {
            Ok(_) => self.said.cannot_roll = false,
            Err(error) => {
                self.status.metrics.log_rotation_errors.increment();
                if !std::mem::replace(&mut self.said.cannot_roll, true) {
                    self.warn("cannot roll the audit log", error);
                }
            }
        }
        outcome
    }

    fn roll(&mut self) -> io::Result<File> {
        let rolled = self.backups.reserve(&self.fs, self.rules.mode, SystemTime::now())?;
        if let Err(error) = self.fs.rename(&self.path, &rolled) {
            // The reservation: an empty file of ours.
            let _ = self.fs.remove(&rolled);
            return Err(error);
        }
        let opened = match open_or_make(&self.fs, &self.path, self.rules.mode) {
            Ok(opened) => opened,
            Err(error) => {
                self.undo_rename(&rolled);
                return Err(error);
            }
        };
        let old = self.adopt(opened)?;
        self.status.metrics.log_rotations.increment();
        self.status.ask_prune();
        self.info("audit log rolled", &[("to", (&rolled.display().to_string()).into())]);
        Ok(old)
    }

    /// Gives the log its path back, unless somebody else has taken it.
    fn undo_rename(&self, rolled: &Path) {
        let free = std::fs::symlink_metadata(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if !free {
            return;
        }
        // If this fails the open file has the rolled file's name, and is treated as moved at the next look.
        if let Err(error) = self.fs.rename(rolled, &self.path) {
            self.warn("cannot give the audit log its name back", &error);
        }
    }

    /// Makes `opened` the file being written, without a torn tail that it may have, and returns the one before.
    fn adopt(&mut self, opened: Opened) -> io::Result<File> {
        let torn = tail::cut(&self.fs, &opened.file, opened.length)?;
        self.say_torn(torn);
        self.identity = opened.identity;
        self.length = opened.length - torn;
        self.length_at_path = self.length;
        self.directory_unsynced |= opened.created;
        self.fitness = Fitness::Good;
        Ok(std::mem::replace(&mut self.file, opened.file))
    }

    /// Looks whether the path still names the open file, which somebody may also have truncated.
    pub(in super::super) fn look(&mut self, look: Look) {
        if matches!(self.fitness, Fitness::Spoiled { .. }) {
            // Not to be opened again if it is what the path names.
            self.close_off();
            return;
        }
        let moved = match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => {
                self.length = metadata.len();
                self.length_at_path = metadata.len();
                false
            }
            Ok(_) => true,
            Err(error) => missing(&error),
        };
        if moved || look == Look::Reopen {
            // If that fails it has been said, and is tried again at the next look.
            let _ = self.reopen();
        }
        match self.guard.renew(&self.fs) {
            Ok(()) => self.said.cannot_lock = false,
            Err(error) => {
                if !std::mem::replace(&mut self.said.cannot_lock, true) {
                    self.warn("cannot lock the audit log again", &error);
                }
            }
        }
        if !self.deleted.is_empty() {
            // Likewise: appends fail until it works.
            let _ = self.repair();
        }
    }

    /// Opens what the path names now, or makes it, and returns the file before. If that fails, the open file stays in
    /// use as long as it has a name at all.
    fn reopen(&mut self) -> io::Result<File> {
        let deleted = match self.fs.metadata_of(&self.file) {
            Ok(metadata) if metadata.nlink() == 0 => Some(DeletedFile {
                file: self.file.try_clone()?,
                from: self.length_at_path,
                to: metadata.len().saturating_sub(self.uncut()),
            }),
            _ => None,
        };
        match self.open_again() {
            Ok(old) => {
                self.said.cannot_reopen = false;
                self.status.metrics.log_reopens.increment();
                self.info("audit log opened anew", &[]);
                if let Some(deleted) = deleted {
                    self.keep(deleted);
                }
                Ok(old)
            }
            Err(error) => {
                if deleted.is_some() && self.fitness == Fitness::Good {
                    self.fitness = Fitness::Deleted;
                }
                if !std::mem::replace(&mut self.said.cannot_reopen, true) {
                    self.warn("cannot open the audit log anew", &error);
                }
                Err(error)
            }
        }
    }

    fn open_again(&mut self) -> io::Result<File> {
        if !self.directory.is_dir() {
            self.fs.make_directory(&self.directory)?;
        }
        self.guard.renew(&self.fs)?;
        let opened = open_or_make(&self.fs, &self.path, self.rules.mode)?;
        if opened.identity == self.identity && matches!(self.fitness, Fitness::Spoiled { .. }) {
            return Err(io::Error::other("is the same spoiled file as before"));
        }
        self.adopt(opened)
    }

    /// Bytes at the end of the open file that are not to be kept.
    fn uncut(&self) -> u64 {
        match self.fitness {
            Fitness::Spoiled { uncut } => uncut,
            Fitness::Good | Fitness::Deleted => 0,
        }
    }

    /// Rolls a spoiled file. What does not belong to it is cut off if that has come to work.
    pub(super) fn close_off(&mut self) {
        let Fitness::Spoiled { uncut } = self.fitness else {
            return;
        };
        let Ok(old) = self.replace() else {
            return;
        };
        if uncut > 0
            && let Err(error) = cut_off(&self.fs, &old, uncut)
        {
            self.warn("a rolled file ends in a torn line", &error);
        }
    }

    /// Makes the open file fit for writing again, if it is not, and finishes the rescue of deleted files.
    pub(in super::super) fn repair(&mut self) -> Result<(), AppendError> {
        if self.fitness == Fitness::Deleted {
            self.reopen().map_err(|error| AppendError::open(&self.name, &error))?;
        }
        self.close_off();
        if self.fitness != Fitness::Good {
            return Err(AppendError::spoiled(&self.name));
        }
        while let Some(mut deleted) = self.deleted.pop() {
            let outcome = self.rescue(&mut deleted);
            if outcome.is_err() {
                self.deleted.push(deleted);
                return outcome;
            }
        }
        Ok(())
    }

    /// Keeps what must be written again of a deleted file, whole lines.
    fn keep(&mut self, mut deleted: DeletedFile) {
        match tail::line_start(&self.fs, &deleted.file, deleted.from.min(deleted.to)) {
            Ok(from) if from < deleted.to => {
                deleted.from = from;
                self.deleted.push(deleted);
            }
            Ok(_) => {}
            Err(error) => self.warn(LINES_LOST, &error),
        }
    }

    /// Writes the lines of a deleted file again that were acknowledged after it had been deleted.
    fn rescue(&mut self, deleted: &mut DeletedFile) -> Result<(), AppendError> {
        let began = deleted.from;
        while deleted.from < deleted.to {
            let lines = match tail::lines(&self.fs, &deleted.file, deleted.from, deleted.to) {
                Ok(lines) => lines,
                Err(error) => {
                    self.warn(LINES_LOST, &error);
                    return Ok(());
                }
            };
            self.append_here(&lines)?;
            deleted.from += lines.len() as u64;
        }
        let bytes = deleted.to - began;
        self.info("the last lines of the deleted audit log were written again", &[("bytes", bytes.into())]);
        Ok(())
    }
}

const LINES_LOST: &str = "cannot read the deleted audit log: its last lines are lost";
