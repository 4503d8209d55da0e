//! The open file's successor: the file is rolled as it grows, and the log is opened anew when its path names another
//! file or none.
//!
//! Both are one step, [`LogFile::succeed`], which begins by looking at what the path names now. So it needs no memory
//! of how far an earlier try got: whatever failed, the next one goes on from what it finds.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::super::content;
use super::super::error::AppendError;
use super::super::open::{Identity, missing};
use super::group::{Group, Part};
use super::start::make_directory;
use super::{Directory, LogFile, OpenFile, Pause, State};

/// The pause after a rotation that failed. It doubles with each further failure, up to [`LONGEST_ROTATION_PAUSE`].
const FIRST_ROTATION_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_ROTATION_PAUSE: Duration = Duration::from_secs(60);

/// Why the watcher looks at the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Look {
    /// It does so all the time.
    Regular,
    /// SIGHUP came.
    Reopen,
}

/// The file that was written before.
pub(super) struct Predecessor {
    pub(super) open: OpenFile,
    pub(super) place: Place,
}

/// Where a file is that was written before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// We have rolled it, to this name.
    Rolled(PathBuf),
    /// Somebody has moved it.
    Moved,
    Deleted,
}

impl LogFile {
    /// Rolls the file while a group is being written. The group's part in the open file must be settled.
    pub(super) fn roll(&mut self, group: &mut Group<'_>) -> io::Result<()> {
        let Predecessor { open, place } = self.succeed()?;
        if place == Place::Deleted {
            group.begin_again(self.open.length);
            return Ok(());
        }
        if group.done > group.here {
            group.earlier.push(Part { file: open.file, place, lines: group.here..group.done, begin: group.begin });
        }
        (group.here, group.begin) = (group.done, self.open.length);
        Ok(())
    }

    /// Gives the open file a successor: rolls it, or, if its path names another file by now or none, opens what is
    /// there or makes it. If that fails, the open file stays in use, by whatever name it has then, and that is said
    /// once.
    pub(super) fn succeed(&mut self) -> io::Result<Predecessor> {
        let outcome = self.try_to_succeed();
        match &outcome {
            Ok(_) => {
                self.rotation_pause = None;
                self.said_no_successor.well();
            }
            Err(error) => {
                self.status.metrics.log_rotation_errors.increment();
                let pause = Pause::after(self.rotation_pause, FIRST_ROTATION_PAUSE, LONGEST_ROTATION_PAUSE);
                self.rotation_pause = Some(pause);
                if self.said_no_successor.fault(()) {
                    self.status.warn("cannot roll the audit log", &self.name, &error.to_string());
                }
            }
        }
        outcome
    }

    fn try_to_succeed(&mut self) -> io::Result<Predecessor> {
        make_directory(&self.fs, &self.directory, self.rules.sync)?;
        self.hold_lock()?;
        let place = match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.open.identity => Place::Rolled(self.archive()?),
            // It cannot be told whether our file is there.
            Err(error) if !missing(&error) => return Err(error),
            _ if self.fs.metadata_of(&self.open.file)?.nlink() == 0 => Place::Deleted,
            _ => Place::Moved,
        };
        let open = OpenFile::open(&self.fs, &self.path, self.rules.mode, content::Scan::Tail, &self.status)?;
        if !matches!(place, Place::Rolled(_)) {
            self.say_opened_anew();
        }
        self.state = State::Writable;
        Ok(Predecessor { open: std::mem::replace(&mut self.open, open), place })
    }

    /// Renames the open file, which has the log's name, to that of a rolled file.
    fn archive(&mut self) -> io::Result<PathBuf> {
        let rolled = self.backups.free_name(&self.fs, SystemTime::now())?;
        self.fs.rename(&self.path, &rolled)?;
        self.open.directory = Directory::Unsynced;
        self.status.metrics.log_rotations.increment();
        self.status.ask_prune();
        let to = rolled.display().to_string();
        self.status.info("audit log rolled", &self.name, &[("to", (&to).into())]);
        Ok(rolled)
    }

    fn say_opened_anew(&self) {
        self.status.metrics.log_reopens.increment();
        self.status.info("audit log opened anew", &self.name, &[]);
    }

    /// Whether the path names the open file.
    pub(super) fn is_at_path(&self) -> bool {
        self.fs.metadata(&self.path).is_ok_and(|metadata| Identity::of(&metadata) == self.open.identity)
    }

    /// Looks whether the path still names the open file, whether somebody has truncated it, and whether the lock is
    /// still ours.
    pub(in super::super) fn look(&mut self, look: Look) {
        let moved = match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.open.identity => {
                self.note_length(metadata.len());
                false
            }
            Ok(_) => true,
            Err(error) => missing(&error),
        };
        if moved {
            // If that fails, it has been said, and is tried again at the next look.
            let _ = self.succeed();
        } else if look == Look::Reopen {
            // The open file is the one that the path names.
            self.say_opened_anew();
        }
        // If that fails, appends are refused until it works.
        let _ = self.hold_lock();
    }

    /// Somebody may have added lines to the file, or truncated it, perhaps within a line.
    fn note_length(&mut self, length: u64) {
        if length >= self.open.length {
            self.open.length = length;
        } else if let State::Writable = self.state {
            // If that fails, the file is not written any more, and that has been said.
            let _ = self.cut_back(self.open.length, &[]);
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
