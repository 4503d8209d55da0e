//! The log as a regular file: appending whole lines or none.
//!
//! Invariants, whatever fails:
//! - what was acknowledged is in a file, whole and once;
//! - nothing is written behind a torn line: a failed write is cut off before anything else is written, and a file where
//!   that does not work is rolled and not written any more;
//! - nobody's file is overwritten: a rolled file gets a name that was reserved for it.

mod succession;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backups::Backups;
use super::error::{AppendError, OpenError};
use super::fs::Fs;
use super::guard::Guard;
use super::names::Names;
use super::place::{Identity, open_or_make};
use super::status::Status;
use super::tail;
use crate::observe::diagnostics::Value;

/// How the file is to be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// In bytes; 0 never rolls the file.
    pub(super) max_size: u64,
    /// Whether an append ends with fdatasync.
    pub(super) sync: bool,
    /// Of new files.
    pub(super) mode: u32,
}

/// The file being appended to, and all it takes to give it a successor.
#[derive(Debug)]
pub(super) struct LogFile {
    fs: Fs,
    rules: Rules,
    status: Arc<Status>,
    path: PathBuf,
    /// The path in messages.
    name: String,
    directory: PathBuf,
    backups: Backups,
    guard: Guard,
    file: File,
    identity: Identity,
    /// Of the file. Too large after somebody has truncated it, until the next look; never used to cut the file.
    length: u64,
    /// Length at the last look that found the file at its path: what lies behind may have been written after somebody
    /// deleted the file, and is rescued then.
    length_at_path: u64,
    fitness: Fitness,
    deleted: Vec<DeletedFile>,
    /// New names in the directory are not known to be on the disk.
    directory_unsynced: bool,
    /// After a rotation that failed: no other before then, and how long that was put off.
    rotation_pause: Option<(Instant, Duration)>,
    said: Said,
}

/// Whether the open file may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Good,
    /// It was deleted, and a new one could not be made yet.
    Deleted,
    /// Its end could not be cut off or synced. Only a new file helps. So many bytes at its end are not ours to keep.
    Spoiled {
        uncut: u64,
    },
}

/// A deleted file that is still open, with lines that were acknowledged and are to be written again.
#[derive(Debug)]
struct DeletedFile {
    file: File,
    from: u64,
    to: u64,
}

/// What one append has written so far, to be taken back if the rest fails.
#[derive(Debug, Default)]
struct Batch {
    /// Bytes at the end of the open file.
    here: u64,
    /// Bytes at the end of files rolled since.
    earlier: Vec<(File, u64)>,
}

/// What has been said, and is not to be said again until it works.
#[derive(Debug, Default)]
struct Said {
    cannot_roll: bool,
    cannot_reopen: bool,
    cannot_lock: bool,
}

impl LogFile {
    /// Opens the log at `path`, whose directory is made where missing: locks it, cuts off a torn tail, rolls the file if
    /// it is full.
    pub(super) fn open(fs: Fs, path: PathBuf, rules: Rules, status: Arc<Status>) -> Result<Self, OpenError> {
        let Some(file_name) = path.file_name() else {
            return Err(OpenError::io(&path, io::ErrorKind::IsADirectory.into()));
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let in_directory = |error| OpenError::io(&directory, error);
        if !directory.is_dir() {
            fs.make_directory(&directory).map_err(in_directory)?;
        }
        let guard = Guard::take(&fs, &directory, file_name).map_err(|error| {
            let lock = Guard::path(&directory, file_name);
            match error.kind() {
                io::ErrorKind::ResourceBusy => OpenError::InUse { log: path.clone(), lock },
                _ => OpenError::io(&lock, error),
            }
        })?;
        if guard.unsupported() {
            status.diagnostics.warn(
                "the audit log's file system has no locks: nothing keeps a second process from writing to it",
                &[("path", (&path.display().to_string()).into())],
            );
        }
        let names = Names::of_log(file_name);
        let backups = Backups::find(&fs, &directory, names).map_err(in_directory)?;
        let at_path = |error| OpenError::io(&path, error);
        let opened = open_or_make(&fs, &path, rules.mode).map_err(at_path)?;
        let torn = tail::cut(&fs, &opened.file, opened.length).map_err(at_path)?;
        let length = opened.length - torn;
        let mut log = Self {
            name: path.display().to_string(),
            identity: opened.identity,
            length,
            length_at_path: length,
            file: opened.file,
            fitness: Fitness::Good,
            deleted: Vec::new(),
            directory_unsynced: opened.created,
            rotation_pause: None,
            said: Said::default(),
            fs,
            rules,
            status,
            path,
            directory,
            backups,
            guard,
        };
        log.say_torn(torn);
        if log.rules.max_size > 0 && log.length >= log.rules.max_size {
            // If that fails it has been said, and the first append goes on with it.
            let _ = log.rotate(&mut Batch::default());
        }
        log.status.ask_prune();
        Ok(log)
    }

    /// Appends whole lines, all of them or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        if self.fitness != Fitness::Good || !self.deleted.is_empty() {
            self.repair()?;
        }
        self.append_here(lines)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.backups
    }

    /// Of a file that nothing else uses, hidden from shippers.
    pub(super) fn scratch_path(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".probe");
        self.directory.join(name)
    }

    fn append_here(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let mut batch = Batch::default();
        let outcome = self.write(lines, &mut batch).and_then(|()| self.sync());
        if outcome.is_err() {
            self.roll_back(batch);
        }
        outcome
    }

    fn write(&mut self, mut lines: &[u8], batch: &mut Batch) -> Result<(), AppendError> {
        while !lines.is_empty() {
            let (mut now, later) = lines.split_at_checked(self.fitting(lines)).unwrap_or((lines, &[]));
            if now.is_empty() {
                self.rotate(batch)?;
                continue;
            }
            while !now.is_empty() {
                match self.fs.write(&self.file, now) {
                    Ok(count) if count > 0 => {
                        batch.here += count as u64;
                        self.length += count as u64;
                        now = now.get(count..).unwrap_or_default();
                    }
                    Ok(_) => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Err(AppendError::write(&self.name, &error));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(AppendError::write(&self.name, &error)),
                }
            }
            lines = later;
        }
        Ok(())
    }

    /// How many bytes of `lines` go to the open file: whole lines up to the maximum size, or a single larger one if the
    /// file is empty. 0 means that the file must be rolled first.
    fn fitting(&self, lines: &[u8]) -> usize {
        let max = self.rules.max_size;
        if max == 0 || self.length.saturating_add(lines.len() as u64) <= max || self.rotation_paused() {
            return lines.len();
        }
        let room = usize::try_from(max.saturating_sub(self.length)).unwrap_or(usize::MAX);
        let within = lines.get(..room).unwrap_or(lines);
        match within.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.length > 0 => 0,
            None => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1),
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        if !self.rules.sync {
            return Ok(());
        }
        if self.directory_unsynced {
            self.fs.sync_directory(&self.directory).map_err(|error| AppendError::sync(&self.name, &error))?;
            self.directory_unsynced = false;
        }
        let began = Instant::now();
        let outcome = self.fs.sync_data(&self.file);
        self.status.metrics.sync_duration.observe(began.elapsed());
        outcome.map_err(|error| self.sync_failed(&error))
    }

    /// After a failed sync the kernel may have dropped what it could not write, and a second sync would succeed all the
    /// same: the file must not be used any more.
    fn sync_failed(&mut self, error: &io::Error) -> AppendError {
        self.fitness = Fitness::Spoiled { uncut: 0 };
        let error = AppendError::sync(&self.name, error);
        self.say_spoiled(&error.to_string());
        error
    }

    /// Takes back what a failed append has written.
    fn roll_back(&mut self, batch: Batch) {
        match cut_off(&self.fs, &self.file, batch.here) {
            Ok(length) => self.length = length,
            Err(error) => {
                self.fitness = Fitness::Spoiled { uncut: batch.here };
                self.say_spoiled(&format!("cannot cut off a failed write: {error}"));
            }
        }
        if let Fitness::Spoiled { .. } = self.fitness {
            self.close_off();
        }
        for (file, written) in batch.earlier {
            if let Err(error) = cut_off(&self.fs, &file, written) {
                self.warn("a failed append has left whole lines in a rolled file", &error);
            }
        }
    }

    fn say_torn(&self, bytes: u64) {
        if bytes > 0 {
            self.status.diagnostics.warn(
                "a torn line was cut off the audit log's end",
                &[("path", (&self.name).into()), ("bytes", bytes.into())],
            );
        }
    }

    fn say_spoiled(&self, error: &str) {
        self.status.diagnostics.error(
            "the audit log will not be written any more and is rolled",
            &[("path", (&self.name).into()), ("error", error.into())],
        );
    }

    fn warn(&self, msg: &str, error: &io::Error) {
        self.status.diagnostics.warn(msg, &[("path", (&self.name).into()), ("error", (&error.to_string()).into())]);
    }

    fn info(&self, msg: &str, fields: &[(&str, Value<'_>)]) {
        let mut all = vec![("path", Value::from(&self.name))];
        all.extend_from_slice(fields);
        self.status.diagnostics.info(msg, &all);
    }
}

/// Cuts the `written` bytes of a failed append off the file's end, and returns the length that is left. Goes by the
/// length that the file has now: a length remembered could be larger if somebody has truncated the file meanwhile, and
/// "cutting" to it would make a hole of NULs.
fn cut_off(fs: &Fs, file: &File, written: u64) -> io::Result<u64> {
    let length = fs.metadata_of(file)?.len();
    let whole = length.saturating_sub(written);
    if whole < length {
        fs.set_len(file, whole)?;
    }
    Ok(whole - tail::cut(fs, file, whole)?)
}
