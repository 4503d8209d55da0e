//! The log as a regular file: appending whole lines or nothing, rolling it, opening it anew when it was moved.
//!
//! Invariants, whatever fails:
//! - what was acknowledged is in a file, whole and once;
//! - nothing is written behind a torn line: a failed write is cut off before anything else is written, and a file where
//!   that does not work is rolled and not written any more;
//! - nobody's file is overwritten: a rolled file gets a name that was reserved for it.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::backups::{self, Names, Stamp};
use super::error::{AppendError, OpenError};
use super::fs::Fs;
use super::guard::Guard;
use super::status::{Look, Status};
use super::tail;
use crate::diagnostics::Value;

/// Pause after a rotation that failed; doubled with each further one, up to the second.
const ROTATION_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_ROTATION_PAUSE: Duration = Duration::from_secs(60);

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

/// Tells a file from any other that its path may come to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
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
    names: Names,
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
    rotation_pause: Option<(Instant, Duration)>,
    /// No later rolled file is named earlier, even if the clock is set back: the newest must not be taken for the
    /// oldest.
    last_rolled: Stamp,
    /// Said already, and not to be said again until it works.
    reopen_failed: bool,
    /// Likewise.
    replace_failed: bool,
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

/// A file just opened at the log's path.
struct Opened {
    file: File,
    metadata: Metadata,
    length: u64,
}

impl LogFile {
    /// Opens the log at `path`, whose directory is made where missing: locks it, cuts off a torn tail, rolls the file if
    /// it is full.
    pub(super) fn open(
        fs: Fs,
        path: PathBuf,
        rules: Rules,
        status: Arc<Status>,
    ) -> Result<Self, OpenError> {
        let failed = |path: &Path, error| OpenError::io(path, error);
        let Some(file_name) = path.file_name() else {
            return Err(failed(&path, io::ErrorKind::IsADirectory.into()));
        };
        let names = Names::of_log(file_name);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !directory.is_dir() {
            fs.make_directory(&directory)
                .map_err(|error| failed(&directory, error))?;
        }
        let guard =
            Guard::take(&fs, &directory, file_name).map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => OpenError::InUse {
                    log: path.clone(),
                    lock: Guard::path(&directory, file_name),
                },
                _ => failed(&Guard::path(&directory, file_name), error),
            })?;
        if guard.unsupported() {
            status.diagnostics.warn(
                "the audit log's file system has no locks: nothing keeps a second process from writing to it",
                &[("path", (&path.display().to_string()).into())],
            );
        }
        let last_rolled = clear_reservations(&fs, &directory, &names)
            .map_err(|error| failed(&directory, error))?;
        let (opened, created) =
            open_path(&fs, &path, rules.mode).map_err(|error| failed(&path, error))?;
        let torn =
            tail::cut(&fs, &opened.file, opened.length).map_err(|error| failed(&path, error))?;
        let mut log = Self {
            identity: Identity::of(&opened.metadata),
            length: opened.length - torn,
            length_at_path: opened.length - torn,
            file: opened.file,
            name: path.display().to_string(),
            fitness: Fitness::Good,
            deleted: Vec::new(),
            directory_unsynced: created,
            rotation_pause: None,
            reopen_failed: false,
            replace_failed: false,
            fs,
            rules,
            status,
            path,
            directory,
            names,
            guard,
            last_rolled,
        };
        log.say_torn(torn);
        if log.rules.max_size > 0 && log.length >= log.rules.max_size {
            log.try_rotate(&mut Batch::default());
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

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
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
            let (mut now, later) = lines
                .split_at_checked(self.fitting(lines))
                .unwrap_or((lines, &[]));
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
        if max == 0
            || self.length.saturating_add(lines.len() as u64) <= max
            || self.rotation_paused()
        {
            return lines.len();
        }
        let room = usize::try_from(max.saturating_sub(self.length)).unwrap_or(usize::MAX);
        let within = lines.get(..room).unwrap_or(lines);
        match within.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.length > 0 => 0,
            None => lines
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(lines.len(), |end| end + 1),
        }
    }

    fn rotation_paused(&self) -> bool {
        self.rotation_pause
            .is_some_and(|(until, _)| Instant::now() < until)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        if !self.rules.sync {
            return Ok(());
        }
        if self.directory_unsynced {
            self.fs
                .sync_directory(&self.directory)
                .map_err(|error| AppendError::sync(&self.name, &error))?;
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
                self.warn(
                    "a failed append has left whole lines in a rolled file",
                    &error,
                );
            }
        }
    }

    /// Rolls a spoiled file. What does not belong to it is cut off if that has come to work.
    fn close_off(&mut self) {
        let Fitness::Spoiled { uncut } = self.fitness else {
            return;
        };
        let Ok(old) = self.replace(uncut) else {
            return;
        };
        if uncut > 0
            && let Err(error) = cut_off(&self.fs, &old, uncut)
        {
            self.warn("a rolled file ends in a torn line", &error);
        }
    }

    /// Makes the open file fit for writing again, if it is not, and finishes the rescue of deleted files.
    pub(super) fn repair(&mut self) -> Result<(), AppendError> {
        if self.fitness == Fitness::Deleted {
            self.reopen()
                .map_err(|error| AppendError::open(&self.name, &error))?;
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

    /// Writes the lines of a deleted file again that were acknowledged after it had been deleted.
    fn rescue(&mut self, deleted: &mut DeletedFile) -> Result<(), AppendError> {
        let began = deleted.from;
        while deleted.from < deleted.to {
            let lines = match tail::lines(&self.fs, &deleted.file, deleted.from, deleted.to) {
                Ok(lines) => lines,
                Err(error) => {
                    self.warn(
                        "cannot read the deleted audit log: its last lines are lost",
                        &error,
                    );
                    return Ok(());
                }
            };
            self.append_here(&lines)?;
            deleted.from += lines.len() as u64;
        }
        let bytes = deleted.to - began;
        self.info(
            "the last lines of the deleted audit log were written again",
            &[("bytes", bytes.into())],
        );
        Ok(())
    }

    /// Rolls the file before the write that would make it too large. If that fails, the open file stays in use, and the
    /// next try is put off. Fails only if the file cannot be synced.
    fn rotate(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
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
        self.try_rotate(batch);
        Ok(())
    }

    fn try_rotate(&mut self, batch: &mut Batch) {
        match self.replace(0) {
            Ok(old) => {
                self.rotation_pause = None;
                batch.earlier.push((old, std::mem::take(&mut batch.here)));
            }
            Err(_) => {
                let pause = self.rotation_pause.map_or(ROTATION_PAUSE, |(_, pause)| {
                    pause.saturating_mul(2).min(LONGEST_ROTATION_PAUSE)
                });
                self.rotation_pause = Some((Instant::now() + pause, pause));
            }
        }
    }

    /// Gives the open file a successor and returns it: rolls it, or, if its path names another file by now or none,
    /// opens what is there. Fails with the open file in use as before; that is counted, and said once.
    fn replace(&mut self, uncut: u64) -> io::Result<File> {
        let outcome = self.try_replace(uncut);
        match &outcome {
            Ok(_) => self.replace_failed = false,
            Err(error) => {
                self.status.metrics.log_rotation_errors.increment();
                if !std::mem::replace(&mut self.replace_failed, true) {
                    self.warn("cannot roll the audit log; it stays in use", error);
                }
            }
        }
        outcome
    }

    fn try_replace(&mut self, uncut: u64) -> io::Result<File> {
        match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => {}
            Err(error) if !missing(&error) => return Err(error),
            _ => return self.reopen_leaving(uncut),
        }
        self.roll()
    }

    fn roll(&mut self) -> io::Result<File> {
        let rolled = self.reserve_name(SystemTime::now())?;
        if let Err(error) = self.fs.rename(&self.path, &rolled) {
            // The reservation: an empty file of ours.
            let _ = self.fs.remove(&rolled);
            return Err(error);
        }
        let (opened, _) = match open_path(&self.fs, &self.path, self.rules.mode) {
            Ok(opened) => opened,
            Err(error) => {
                self.undo_rename(&rolled);
                return Err(error);
            }
        };
        let length = opened.length;
        let old = self.adopt(opened)?;
        self.directory_unsynced = true;
        self.status.metrics.log_rotations.increment();
        self.status.ask_prune();
        let rolled = rolled.display().to_string();
        self.info("audit log rolled", &[("to", (&rolled).into())]);
        self.say_torn(length - self.length);
        Ok(old)
    }

    /// Makes an empty file of a name that nobody has, for the rename to put the log in its place.
    fn reserve_name(&mut self, now: SystemTime) -> io::Result<PathBuf> {
        let mut stamp = Stamp::of(now).max(self.last_rolled.next());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(self.rules.mode);
        loop {
            let path = self.directory.join(self.names.name(stamp));
            match self.fs.open(&options, &path) {
                Ok(_) => {
                    self.last_rolled = stamp;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => stamp = stamp.next(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the log its path back, unless somebody else has taken it.
    fn undo_rename(&self, rolled: &Path) {
        let free = std::fs::symlink_metadata(&self.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if !free {
            return;
        }
        // If this fails the open file has the rolled file's name, and is treated as moved at the next look.
        if let Err(error) = self.fs.rename(rolled, &self.path) {
            self.warn("cannot give the audit log its name back", &error);
        }
    }

    /// Makes `opened` the file being written, and returns the one before.
    fn adopt(&mut self, opened: Opened) -> io::Result<File> {
        let torn = tail::cut(&self.fs, &opened.file, opened.length)?;
        self.identity = Identity::of(&opened.metadata);
        self.length = opened.length - torn;
        self.length_at_path = self.length;
        self.fitness = Fitness::Good;
        Ok(std::mem::replace(&mut self.file, opened.file))
    }

    /// Looks whether the path still names the open file, which somebody may also have truncated.
    pub(super) fn look(&mut self, look: Look) {
        if matches!(self.fitness, Fitness::Spoiled { .. }) {
            // Not to be opened again if it is what the path names.
            self.close_off();
            return;
        }
        match self.fs.metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => {
                self.length = metadata.len();
                self.length_at_path = metadata.len();
                if look == Look::Reopen {
                    let _ = self.reopen();
                }
            }
            Err(error) if !missing(&error) => {}
            _ => {
                let _ = self.reopen();
            }
        }
        if let Err(error) = self.guard.renew(&self.fs) {
            self.warn("cannot lock the audit log again", &error);
        }
        if !self.deleted.is_empty() {
            let _ = self.repair();
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let uncut = match self.fitness {
            Fitness::Spoiled { uncut } => uncut,
            Fitness::Good | Fitness::Deleted => 0,
        };
        self.reopen_leaving(uncut).map(|_| ())
    }

    /// Opens what the path names now, or makes it, and returns the file before. If that fails, the open file stays in
    /// use as long as it has a name at all.
    fn reopen_leaving(&mut self, uncut: u64) -> io::Result<File> {
        let before = self.fs.metadata_of(&self.file);
        let deleted = before.as_ref().is_ok_and(|metadata| metadata.nlink() == 0);
        let end = before.map_or(self.length, |metadata| metadata.len());
        let from = self.length_at_path;
        match self.open_again() {
            Ok((old, torn)) => {
                if deleted {
                    self.keep_deleted(&old, from, end.saturating_sub(uncut));
                }
                self.reopen_failed = false;
                self.status.metrics.log_reopens.increment();
                self.info("audit log opened anew", &[]);
                self.say_torn(torn);
                Ok(old)
            }
            Err(error) => {
                if deleted && self.fitness == Fitness::Good {
                    self.fitness = Fitness::Deleted;
                }
                if !std::mem::replace(&mut self.reopen_failed, true) {
                    self.warn("cannot open the audit log anew", &error);
                }
                Err(error)
            }
        }
    }

    fn open_again(&mut self) -> io::Result<(File, u64)> {
        if !self.directory.is_dir() {
            self.fs.make_directory(&self.directory)?;
        }
        self.guard.renew(&self.fs)?;
        let (opened, created) = open_path(&self.fs, &self.path, self.rules.mode)?;
        let same = Identity::of(&opened.metadata) == self.identity;
        if same && matches!(self.fitness, Fitness::Spoiled { .. }) {
            return Err(io::Error::other("is the same spoiled file as before"));
        }
        let length = opened.length;
        let old = self.adopt(opened)?;
        self.directory_unsynced |= created;
        Ok((old, length - self.length))
    }

    fn keep_deleted(&mut self, file: &File, from: u64, to: u64) {
        let kept = tail::line_start(&self.fs, file, from.min(to)).and_then(|from| {
            Ok(DeletedFile {
                file: file.try_clone()?,
                from,
                to,
            })
        });
        match kept {
            Ok(deleted) if deleted.from < deleted.to => self.deleted.push(deleted),
            Ok(_) => {}
            Err(error) => self.warn(
                "cannot read the deleted audit log: its last lines are lost",
                &error,
            ),
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
        self.status.diagnostics.warn(
            msg,
            &[
                ("path", (&self.name).into()),
                ("error", (&error.to_string()).into()),
            ],
        );
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

/// Removes what a crash between the reservation of a rolled file's name and the rename has left: an empty file. Returns
/// the newest of the others.
fn clear_reservations(fs: &Fs, directory: &Path, names: &Names) -> io::Result<Stamp> {
    let mut newest = Stamp {
        milliseconds: 0,
        number: 0,
    };
    for backup in backups::list(directory, names)? {
        if backup.empty && fs.remove(&backup.path).is_ok() {
            continue;
        }
        newest = newest.max(backup.stamp);
    }
    Ok(newest)
}

/// Opens `path` for appending, or makes it, and tells which. Only a regular file will do.
fn open_path(fs: &Fs, path: &Path, mode: u32) -> io::Result<(Opened, bool)> {
    let mut options = OpenOptions::new();
    // Reading is for finding the end of the last whole line.
    options.read(true).append(true).mode(mode);
    let mut new = options.clone();
    new.create_new(true);
    let (file, created) = match fs.open(&new, path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (fs.open(&options, path)?, false)
        }
        Err(error) => return Err(error),
    };
    let metadata = fs.metadata_of(&file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file any more"));
    }
    if created && metadata.permissions().mode() & 0o7777 != mode {
        // The umask took some away. Where the file system has no modes, the file is as good as can be.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
    }
    let length = metadata.len();
    Ok((
        Opened {
            file,
            metadata,
            length,
        },
        created,
    ))
}

fn missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
