//! Rolled files: which there are, a name for the next, and which may go.

use std::fs::{DirEntry, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::fs::Fs;
use super::names::{Names, STAMP_LENGTH, Stamp};
use super::open::O_NONBLOCK;
use crate::record::timestamp;

/// The rolled files of one log.
#[derive(Debug, Clone)]
pub(super) struct Backups {
    directory: PathBuf,
    names: Names,
    /// The latest name so far. The next is later still, even if the clock was set back: the newest file must not be
    /// taken for the oldest.
    newest: Stamp,
}

impl Backups {
    /// Finds those that are there.
    pub(super) fn find(directory: &Path, names: Names) -> io::Result<Self> {
        let mut found = Self { directory: directory.to_owned(), names, newest: Stamp::default() };
        found.newest = found.list()?.last().map(|backup| backup.stamp).unwrap_or_default();
        Ok(found)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Those that are there now, oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<Backup>> {
        let mut backups = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            backups.extend(backup(&entry?, &self.names));
        }
        backups.sort_unstable_by_key(|backup| backup.stamp);
        Ok(backups)
    }

    /// A name that no file has, later than all others. Nobody else makes names of this pattern for a log that is
    /// locked, so it stays free until the log is renamed to it.
    pub(super) fn free_name(&mut self, fs: &Fs, now: SystemTime) -> io::Result<PathBuf> {
        let mut stamp = Stamp::of(now).max(self.newest.next());
        loop {
            let path = self.directory.join(self.names.name(stamp));
            match fs.metadata(&path) {
                Ok(_) => stamp = stamp.next(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.newest = stamp;
                    return Ok(path);
                }
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
    /// In bytes.
    pub(super) length: u64,
    modified: SystemTime,
}

fn backup(entry: &DirEntry, names: &Names) -> Option<Backup> {
    let stamp = names.parse(&entry.file_name())?;
    // It may have been deleted since it was listed.
    let metadata = entry.metadata().ok()?;
    let modified = metadata.modified().unwrap_or_else(|_| stamp.time());
    metadata.is_file().then(|| Backup { stamp, path: entry.path(), length: metadata.len(), modified })
}

/// How many rolled files are kept, how long, and how many bytes of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// 0 keeps all.
    pub(super) max_backups: usize,
    /// 0 never deletes one for its age.
    pub(super) max_age: Duration,
    /// Bytes of all together; 0 for no limit.
    pub(super) max_total_size: u64,
}

impl Retention {
    /// Parts rolled files, given oldest first, into those that go (too many, too old at `now`, too many bytes) and
    /// those that stay.
    pub(super) fn part(self, backups: Vec<Backup>, now: SystemTime) -> (Vec<Backup>, Vec<Backup>) {
        let too_many = match self.max_backups {
            0 => 0,
            max => backups.len().saturating_sub(max),
        };
        let first = too_many.max(self.too_much(&backups));
        let mut index = 0;
        backups.into_iter().partition(|backup| {
            index += 1;
            index <= first || self.is_too_old(backup, now)
        })
    }

    /// A file's age is what the older of its name and its last change says: a name may be of a clock that was wrong.
    fn is_too_old(self, backup: &Backup, now: SystemTime) -> bool {
        let written = backup.stamp.time().min(backup.modified);
        !self.max_age.is_zero() && now.duration_since(written).is_ok_and(|age| age > self.max_age)
    }

    /// How many of the oldest must go for the rest to be within `max_total_size`.
    fn too_much(self, backups: &[Backup]) -> usize {
        if self.max_total_size == 0 {
            return 0;
        }
        let mut total = 0_u64;
        let within = |backup: &&Backup| {
            total = total.saturating_add(backup.length);
            total <= self.max_total_size
        };
        backups.len() - backups.iter().rev().take_while(within).count()
    }
}

const TIMESTAMP_MEMBER: &[u8] = b"\"requestReceivedTimestamp\":\"";

/// When the first line of a file was received, in seconds since the Unix epoch: by its last `requestReceivedTimestamp`,
/// which both kinds of lines have. A line may be as long as the largest request, so only a piece of it is in memory.
pub(super) fn first_timestamp(path: &Path) -> io::Result<Option<u64>> {
    /// Longer lines are not read to their ends.
    const LONGEST: u64 = 64 << 20;
    const PIECE: usize = 64 << 10;
    // Opening a FIFO that somebody has put there would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut reader = BufReader::with_capacity(PIECE, file.take(LONGEST));
    // A piece of the line, and before it the end of the last piece, in which a member may have begun.
    let mut piece = Vec::new();
    let mut found = None;
    loop {
        let bytes = reader.fill_buf()?;
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let length = newline.unwrap_or(bytes.len());
        piece.extend(bytes.iter().take(length));
        found = last_timestamp(&piece).or(found);
        if newline.is_some() || length == 0 {
            return Ok(found);
        }
        reader.consume(length);
        piece.drain(..piece.len().saturating_sub(TIMESTAMP_MEMBER.len() + STAMP_LENGTH - 1));
    }
}

fn last_timestamp(text: &[u8]) -> Option<u64> {
    let whole = text.windows(TIMESTAMP_MEMBER.len() + STAMP_LENGTH);
    let stamp = whole.rev().find_map(|window| window.strip_prefix(TIMESTAMP_MEMBER))?;
    // Its milliseconds are the last digits looked at.
    let time = timestamp::parse(&[stamp, b"Z"].concat())?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since_epoch| since_epoch.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn backup(named: u64, modified: u64, length: u64) -> Backup {
        Backup { stamp: Stamp::of(seconds(named)), path: PathBuf::new(), length, modified: seconds(modified) }
    }

    const ALL: Retention = Retention { max_backups: 0, max_age: Duration::ZERO, max_total_size: 0 };

    #[test]
    fn names_made_in_one_millisecond_or_after_the_clock_was_set_back_are_new_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let names = Names::of_log("audit.log".as_ref());
        let mut backups = Backups::find(directory.path(), names).unwrap();
        let time = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        // Somebody has the second name already.
        let taken = directory.path().join("audit-1970-01-01T00-00-05.000-1.log");
        std::fs::write(taken, "taken").unwrap();
        let made = [5000, 5000, 5000, 1000, 6000].map(|now| {
            let path = backups.free_name(&fs, time(now)).unwrap();
            std::fs::write(&path, "").unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        });
        assert_eq!(
            made,
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

    #[test]
    fn a_backup_is_as_old_as_the_older_of_its_name_and_its_last_change_says() {
        let day = Retention { max_age: Duration::from_secs(86_400), ..ALL };
        let now = 1_000_000;
        for (named, modified, goes) in
            [(now, now, 0), (0, now, 1), (2 * now, 0, 1), (2 * now, now, 0), (now - 86_401, now, 1)]
        {
            // Beside one that is younger, whatever its name.
            let (gone, kept) = day.part(vec![backup(1, now, 1), backup(named, modified, 1)], seconds(now));
            assert_eq!((gone.len(), kept.len()), (1 + goes, 1 - goes), "{named} {modified}");
        }
        assert_eq!(ALL.part(vec![backup(0, 0, 1)], seconds(now)).0.len(), 0);
    }

    #[test]
    fn the_oldest_go_first_until_the_rest_is_no_more_than_all_may_be() {
        let backups = || vec![backup(1, 1, 10), backup(2, 2, 0), backup(3, 3, 20), backup(4, 4, 30)];
        for (max_total_size, goes) in [(0, 0), (60, 0), (59, 1), (50, 1), (49, 3), (30, 3), (29, 4), (1, 4)] {
            let limited = Retention { max_total_size, ..ALL };
            assert_eq!(limited.part(backups(), seconds(5)).0.len(), goes, "{max_total_size}");
        }
        // An empty one counts.
        assert_eq!(Retention { max_backups: 3, ..ALL }.part(backups(), seconds(5)).0.len(), 1);
    }

    #[test]
    fn the_first_line_tells_when_it_was_received() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, expected) in [
            ("", None),
            ("{\"a\":1}\n", None),
            ("{\"a\":1,\"requestReceivedTimestamp\":\"1970-01-01T00:01:40.123456789Z\"}\n{}", Some(100)),
            (
                "{\"requestReceivedTimestamp\":\"x\",\"requestReceivedTimestamp\":\"1970-01-01T00:01:40.123456Z\"}",
                Some(100),
            ),
            ("{\"requestReceivedTimestamp\":\"1970-01-01T", None),
        ] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(first_timestamp(file.path()).unwrap(), expected, "{content}");
        }
    }

    #[test]
    fn the_time_of_a_long_first_line_is_found_wherever_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let early = "\"requestReceivedTimestamp\":\"1970-01-01T00:01:39.123456789Z\"";
        let member = "\"requestReceivedTimestamp\":\"1970-01-01T00:01:40.123456789Z\"";
        // Around the end of the first and of the second piece that is read.
        for before in (65_400..65_600).chain(131_000..131_100) {
            let content = format!("{{{early}{}{member}}}\n{{}}\n", "x".repeat(before - early.len()));
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(first_timestamp(file.path()).unwrap(), Some(100), "{before}");
        }
    }

    #[test]
    fn a_fifo_that_somebody_puts_in_the_logs_place_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("audit.log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(first_timestamp(&fifo).unwrap()));
        assert_eq!(tells.recv_timeout(Duration::from_secs(10)), Ok(None));
    }
}
