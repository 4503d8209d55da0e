//! The open file's successor: the file is rolled as it grows, and the log is opened anew when its path names another
//! file or none.
//!
//! Both are one step, [`LogFile::succeed`], which begins by looking at what the path names now. So it needs no memory
//! of how far an earlier try got: whatever failed, the next one goes on from what it finds.

use std::fs::Metadata;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use super::super::content;
use super::super::error::AppendError;
use super::super::names::directory_of;
use super::super::open::{Identity, missing};
use super::start::make_directory;
use super::{LogFile, OpenFile, PAUSE};

/// What could not be done, for messages.
type Step = &'static str;
const ROLL: Step = "cannot roll the audit log";
const OPEN_ANEW: Step = "cannot open the audit log anew";

impl LogFile {
    /// Gives the open file a successor: rolls it, or, if its path names another file by now or none, opens what is
    /// there or makes it. If that fails, the open file stays in use, by whatever name it has then, and that is said
    /// once.
    pub(super) fn succeed(&mut self) -> io::Result<()> {
        match self.try_to_succeed() {
            Ok(()) => {
                self.roll_again = None;
                self.said_no_successor.well();
                Ok(())
            }
            Err((step, error)) => {
                self.status.metrics.log_rotation_errors.increment();
                self.roll_again = Some(Instant::now() + PAUSE);
                if self.said_no_successor.fault(step) {
                    self.status.warn(step, &self.name, &error.to_string());
                }
                Err(error)
            }
        }
    }

    fn try_to_succeed(&mut self) -> Result<(), (Step, io::Error)> {
        let anew = |error| (OPEN_ANEW, error);
        make_directory(&self.fs, directory_of(&self.path), self.rules.sync).map_err(anew)?;
        self.hold_lock().map_err(anew)?;
        let has_name = self.at_path().map_err(|error| (ROLL, error))?.is_some();
        if has_name {
            self.archive().map_err(|error| (ROLL, error))?;
        }
        self.open = OpenFile::open(&self.fs, &self.path, self.rules, content::TORN_TAIL, &self.status).map_err(anew)?;
        if !has_name {
            self.status.opened_anew(&self.name);
        }
        Ok(())
    }

    /// Renames the open file, which has the log's name, to that of a rolled file.
    fn archive(&mut self) -> io::Result<()> {
        let rolled = self.backups.free_name(&self.fs, SystemTime::now())?;
        self.fs.rename(&self.path, &rolled)?;
        self.status.metrics.log_rotations.increment();
        self.status.ask_prune();
        let to = rolled.display().to_string();
        self.status.diagnostics.info("audit log rolled", &[("path", (&self.name).into()), ("to", (&to).into())]);
        Ok(())
    }

    /// The open file's metadata if the path names it, and none if it names another file or nothing. Fails if that cannot
    /// be told.
    pub(super) fn at_path(&self) -> io::Result<Option<Metadata>> {
        match self.fs.metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata).filter(|metadata| Identity::of(metadata) == self.open.identity)),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks whether the path still names the open file, whether somebody has truncated it, and whether the lock is
    /// still ours. If SIGHUP came, it is answered by a message even if all is as it was.
    pub(in super::super) fn look(&mut self) {
        let asked = self.status.reopen.swap(false, Relaxed);
        let at_path = self.at_path();
        if let Ok(Some(metadata)) = &at_path {
            self.note_length(metadata.len());
        }
        if let Ok(None) = at_path {
            // If that fails, it has been said, and is tried again at the next look.
            let _ = self.succeed();
        } else if asked {
            // The open file is the one that the path names.
            self.status.opened_anew(&self.name);
        }
        // If that fails, appends are refused until it works.
        let _ = self.hold_lock();
    }

    /// Somebody may have added lines to the file, or truncated it, perhaps within a line.
    fn note_length(&mut self, length: u64) {
        if length >= self.open.length {
            self.open.length = length;
        } else {
            // If that fails, the file is not written any more, and that has been said.
            let _ = self.cut_back(&[]);
        }
    }

    /// Makes sure that the lock is ours. While it is not, appends are refused.
    fn hold_lock(&mut self) -> io::Result<()> {
        if let Err(error) = self.guard.hold(&self.fs) {
            let refusal = AppendError::lock(&self.name, &error);
            self.status.set_obstacle(Some(refusal.to_string()));
            self.unlocked = Some(refusal);
            return Err(error);
        }
        if self.unlocked.is_some() {
            // Another process may have written to the file. If that cannot be seen, appends are refused until it can.
            self.note_length(self.fs.metadata_of(&self.open.file)?.len());
            self.unlocked = None;
            self.status.set_obstacle(None);
        }
        Ok(())
    }
}
