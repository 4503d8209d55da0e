//! Rolled files: which there are, a name for the next, and which may go.

use std::fs::{DirEntry, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::fs::Fs;
use super::names::{Names, Stamp};

/// The rolled files of one log.
#[derive(Debug, Clone)]
pub(super) struct Backups {
    directory: PathBuf,
    names: Names,
    /// No later one is named earlier, even if the clock is set back: the newest must not be taken for the oldest.
    newest: Stamp,
}

impl Backups {
    /// Those that are there. A file without content is what a crash has left between the reservation of its name and
    /// the rename; it is removed, which is safe while nobody else may write to the log.
    pub(super) fn find(fs: &Fs, directory: &Path, names: Names) -> io::Result<Self> {
        let mut found = Self { directory: directory.to_owned(), names, newest: Stamp::default() };
        for backup in found.list()? {
            if !backup.empty || fs.remove(&backup.path).is_err() {
                found.newest = found.newest.max(backup.stamp);
            }
        }
        Ok(found)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<Backup>> {
        let mut backups = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            backups.extend(backup(&entry?, &self.names));
        }
        backups.sort_unstable_by_key(|backup| backup.stamp);
        Ok(backups)
    }

    /// Makes an empty file of a name that nobody has, for a rename to put the log in its place.
    pub(super) fn reserve(&mut self, fs: &Fs, mode: u32, now: SystemTime) -> io::Result<PathBuf> {
        let mut stamp = Stamp::of(now).max(self.newest.next());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        loop {
            let path = self.directory.join(self.names.name(stamp));
            match fs.open(&options, &path) {
                Ok(_) => {
                    self.newest = stamp;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => stamp = stamp.next(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A rolled file.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) stamp: Stamp,
    pub(super) path: PathBuf,
    /// Without content: a name reserved for a rotation that is under way, or that a crash cut short.
    pub(super) empty: bool,
}

fn backup(entry: &DirEntry, names: &Names) -> Option<Backup> {
    let stamp = names.parse(&entry.file_name())?;
    // What vanishes between the listing and this look is no backup any more.
    let metadata = entry.metadata().ok()?;
    metadata.is_file().then(|| Backup { stamp, path: entry.path(), empty: metadata.len() == 0 })
}

/// How many rolled files are kept, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// 0 keeps all.
    pub(super) max_backups: usize,
    /// 0 never.
    pub(super) max_age: Duration,
}

/// What a round of deletions came to.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Rolled files that are left.
    pub(super) left: usize,
    /// Those that could not be deleted, and why.
    pub(super) failed: Vec<(PathBuf, io::Error)>,
}

impl Retention {
    /// Deletes the rolled files that are too many or too old at `now`. A file without content is not counted, and not
    /// touched: it may be the name that a rotation has just reserved.
    pub(super) fn enforce(self, fs: &Fs, mut backups: Vec<Backup>, now: SystemTime) -> Pruned {
        backups.retain(|backup| !backup.empty);
        let too_many = match self.max_backups {
            0 => 0,
            max => backups.len().saturating_sub(max),
        };
        let mut pruned = Pruned::default();
        for (index, backup) in backups.into_iter().enumerate() {
            if index >= too_many && !self.too_old(backup.stamp, now) {
                pruned.left += 1;
                continue;
            }
            match fs.remove(&backup.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    pruned.left += 1;
                    pruned.failed.push((backup.path, error));
                }
                _ => {}
            }
        }
        pruned
    }

    fn too_old(self, stamp: Stamp, now: SystemTime) -> bool {
        !self.max_age.is_zero() && now.duration_since(stamp.time()).is_ok_and(|age| age > self.max_age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_reserved_in_one_millisecond_or_after_the_clock_was_set_back_are_new_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let names = Names::of_log("audit.log".as_ref());
        let mut backups = Backups::find(&fs, directory.path(), names).unwrap();
        let time = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        // Somebody has the second name already.
        let taken = directory.path().join("audit-1970-01-01T00-00-05.000-1.log");
        std::fs::write(taken, "taken").unwrap();
        let reserved = [5000, 5000, 5000, 1000, 6000].map(|now| {
            let path = backups.reserve(&fs, 0o600, time(now)).unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        });
        assert_eq!(
            reserved,
            [
                "audit-1970-01-01T00-00-05.000.log",
                "audit-1970-01-01T00-00-05.000-2.log",
                "audit-1970-01-01T00-00-05.000-3.log",
                "audit-1970-01-01T00-00-05.000-4.log",
                "audit-1970-01-01T00-00-06.000.log",
            ]
        );
        let listed = backups.list().unwrap();
        let listed: Vec<_> = listed.iter().map(|backup| backup.path.file_name().unwrap()).collect();
        assert_eq!(listed.len(), 6);
        assert_eq!(listed[1], "audit-1970-01-01T00-00-05.000-1.log");
        assert_eq!(listed[5], "audit-1970-01-01T00-00-06.000.log");
    }
}
