//! Opening the log when the program starts, with what an earlier process or a power cut has left in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::SyncMode;
use super::super::backups::Backups;
use super::super::chain::Marking;
use super::super::chain::format::Point;
use super::super::chain::origin::last_point;
use super::super::content::{self, Mended};
use super::super::error::OpenError;
use super::super::fs::Fs;
use super::super::guard::Guard;
use super::super::names::{Names, directory_of, hidden_beside};
use super::super::open::{Identity, Opened, open_found, open_or_make};
use super::super::proc::Mounts;
use super::super::status::LogStatus;
use super::{LogFile, OpenFile, Rules};
use crate::observe::diagnostics::Latch;

impl LogFile {
    /// Opens the log at `path`, whose directory is made where missing: locks it, leaves whole lines only in it and in
    /// its rolled files, rolls it if it is full.
    pub(in super::super) fn open(
        fs: Fs,
        path: PathBuf,
        rules: Rules,
        status: Arc<LogStatus>,
    ) -> Result<Self, OpenError> {
        let Some(file_name) = path.file_name() else {
            return Err(OpenError::io(&path, io::ErrorKind::IsADirectory.into()));
        };
        let directory = directory_of(&path);
        let in_directory = |error| OpenError::io(directory, error);
        make_directory(&fs, directory, rules.sync).map_err(in_directory)?;
        let lock = hidden_beside(&path, ".lock");
        let in_use = |what: &Path, error: io::Error| match error.kind() {
            io::ErrorKind::ResourceBusy => OpenError::InUse { log: path.clone(), lock: what.to_owned() },
            _ => OpenError::io(what, error),
        };
        let guard = Guard::take(&fs, &lock, rules.mode).map_err(|error| in_use(&lock, error))?;
        let backups = Backups::find(directory, Names::of_log(file_name)).map_err(in_directory)?;
        let open =
            OpenFile::open(&fs, &path, rules, content::SCANNED, &status).map_err(|error| in_use(&path, error))?;
        let log = Self {
            name: path.display().to_string(),
            fs,
            rules,
            status,
            path,
            backups,
            guard,
            open,
            unlocked: None,
            roll_again: None,
            try_again: None,
            said_no_successor: Latch::default(),
            said_spent: Latch::default(),
        };
        log.mend_backups();
        Ok(log.ready())
    }

    /// The last chained line of the log, or else of the newest rolled file that has one.
    pub(in super::super) fn last_point(&self) -> Option<Point> {
        let say = |name: &str, error: io::Error| {
            self.status.warn("the chain cannot be followed back into a file", name, &error.to_string());
            None
        };
        let live =
            last_point(&self.fs, &self.open.file, self.open.length).unwrap_or_else(|error| say(&self.name, error));
        let rolled = || {
            let backups = self.backups.list().unwrap_or_default();
            backups.into_iter().rev().find_map(|backup| {
                let found = File::open(&backup.path).and_then(|file| last_point(&self.fs, &file, backup.length));
                found.unwrap_or_else(|error| say(&backup.path.display().to_string(), error))
            })
        };
        live.or_else(rolled)
    }

    /// Warns of what an operator should know, and rolls the file if it is full.
    fn ready(mut self) -> Self {
        if self.guard.is_unsupported() {
            self.status.diagnostics.warn(
                "the audit log's file system has no locks: nothing keeps a second process from writing to it",
                &[("path", (&self.name).into())],
            );
        }
        let mounts = Mounts::read();
        if self.open.file.metadata().is_ok_and(|file| mounts.is_of_network(&file)) {
            self.status.diagnostics.warn(
                "the audit log is on another machine's file system: only its lock file keeps a second process from it",
                &[("path", (&self.name).into())],
            );
        }
        if self.rules.max_size > 0 {
            if let Some(why) = self.cannot_roll(&mounts) {
                self.status.warn("the audit log cannot be rolled and will grow past its limit", &self.name, &why);
            }
            if self.open.length >= self.rules.max_size {
                // If that fails, it has been said; the file stays in use, and an append tries again after a pause.
                let _ = self.succeed();
            }
        }
        self
    }

    /// Why the log cannot be renamed, if that can be told without doing it.
    fn cannot_roll(&mut self, mounts: &Mounts) -> Option<String> {
        if let Err(error) = self.backups.free_name(&self.fs, SystemTime::now()) {
            return Some(format!("its rolled files' names: {error}"));
        }
        let path = self.path.canonicalize().ok()?;
        mounts
            .is_mount_point(&path)
            .then(|| "something is mounted on this very file: mount its directory instead".to_owned())
    }

    /// A power cut tears rolled files too, if their last lines had not reached the disk.
    fn mend_backups(&self) {
        let mut scanned = content::SCANNED.saturating_sub(self.open.length);
        for backup in self.backups.list().unwrap_or_default().into_iter().rev() {
            let mended = open_found(&self.fs, &backup.path, self.rules.mode)
                .and_then(|opened| content::mend(&self.fs, &backup.path, &opened.file, opened.metadata.len(), scanned));
            scanned = scanned.saturating_sub(backup.length);
            let name = backup.path.display().to_string();
            match mended {
                Ok(mended) => say_mended(&self.status, &name, &mended),
                Err(error) => self.status.warn("a rolled file is left as it is", &name, &error.to_string()),
            }
        }
    }
}

impl OpenFile {
    /// Opens what the log's path names, or makes it, and locks it, so that no other process writes to it by another name
    /// either. Leaves only whole lines in it (see [`content::mend`]). Where lines are synced, its content and its name
    /// are too.
    pub(super) fn open(fs: &Fs, path: &Path, rules: Rules, scanned: u64, status: &LogStatus) -> io::Result<Self> {
        let Opened { file, metadata, warning } = open_or_make(fs, path, rules.mode)?;
        let name = path.display().to_string();
        if !Mounts::read().is_of_network(&metadata) {
            // If the file system has no locks, locking the lock file has shown it.
            fs.lock(&file).or_else(|error| match error.kind() {
                io::ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            })?;
        }
        if let Some(warning) = &warning {
            status.warn("the audit log is another user's", &name, warning);
        }
        let mended = content::mend(fs, path, &file, metadata.len(), scanned)?;
        say_mended(status, &name, &mended);
        if let SyncMode::Always = rules.sync {
            fs.sync_all(&file)?;
            fs.sync_directory(directory_of(path))?;
        }
        let (identity, length) = (Identity::of(&metadata), metadata.len() - mended.cut);
        Ok(Self { file, identity, length, marking: Marking::Due, spent: None })
    }
}

fn say_mended(status: &LogStatus, name: &str, mended: &Mended) {
    for (msg, bytes) in [
        ("a torn line was cut off the audit log's end", mended.cut),
        ("lines of the audit log that a power cut had damaged were blanked", mended.blanked),
    ] {
        if bytes > 0 {
            status.diagnostics.warn(msg, &[("path", name.into()), ("bytes", bytes.into())]);
        }
    }
}

/// Makes `directory` and what is missing above it, and where lines are synced makes the new names durable.
pub(super) fn make_directory(fs: &Fs, directory: &Path, sync: SyncMode) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs.make_directory(directory)?;
    if let SyncMode::Always = sync {
        missing.into_iter().try_for_each(|made| fs.sync_directory(directory_of(made)))?;
    }
    Ok(())
}
