//! What the log does as a whole, on a real file system.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::fs::Call;
use super::names::Names;
use super::*;
use crate::observe::diagnostics::Format;
use crate::observe::labels::AppendFault;
use std::fs;

/// The program's messages, for tests to look at.
#[derive(Clone, Default)]
pub(super) struct Messages(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Messages {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(super) fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }
}

/// A log in a directory of its own.
pub(super) struct Place {
    directory: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) messages: Messages,
    pub(super) fs: Fs,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// In /dev/shm, where syncs cost nothing, if there is one.
    pub(super) fn in_memory() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn within(directory: tempfile::TempDir) -> Self {
        let settings = Settings {
            target: Target::File(directory.path().join("logs/audit.log")),
            max_size: 0,
            max_backups: 0,
            max_age: Duration::ZERO,
            max_total_size: 0,
            sync: SyncMode::Never,
            file_mode: 0o600,
            chain: ChainSetting::Off,
        };
        Self {
            directory,
            settings,
            metrics: Arc::new(Metrics::new()),
            messages: Messages::default(),
            fs: Fs::default(),
        }
    }

    pub(super) fn try_open(&self) -> Result<AuditLog, OpenError> {
        let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(self.messages.clone()));
        let (fs, settings, metrics) = (self.fs.clone(), self.settings.clone(), Arc::clone(&self.metrics));
        let wait = |time| {
            std::thread::sleep(time);
            Start::GoOn
        };
        let opened = OpenedLog::open_with(fs, settings, metrics, Arc::new(diagnostics), &wait)?;
        Ok(opened.start().unwrap())
    }

    pub(super) fn open(&self) -> AuditLog {
        self.try_open().unwrap()
    }

    fn status(&self) -> LogStatus {
        let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(self.messages.clone()));
        LogStatus::new(Arc::clone(&self.metrics), Arc::new(diagnostics))
    }

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.root().join("logs")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory().join("audit.log")
    }

    fn write_log(&self, content: &[u8]) {
        fs::create_dir_all(self.directory()).unwrap();
        fs::write(self.log(), content).unwrap();
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    /// Contents of the rolled files, oldest first.
    pub(super) fn rolled(&self) -> Vec<String> {
        let names = Names::of_log("audit.log".as_ref());
        let mut rolled: Vec<_> = fs::read_dir(self.directory())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter_map(|entry| Some((names.parse(&entry.file_name())?, entry.path())))
            .collect();
        rolled.sort();
        let read = |(_, path)| match fs::read_to_string(path) {
            // It was deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            content => Some(content.unwrap()),
        };
        rolled.into_iter().filter_map(read).collect()
    }
}

/// Waits until `condition` holds, for a time that no working program needs.
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn lines_are_appended_to_a_private_file_in_a_directory_made_for_it() {
    let place = Place::new();
    let log = place.open();
    log.append(b"one\n").unwrap();
    log.append(b"two\nthree\n").unwrap();
    assert_eq!(place.read_log(), "one\ntwo\nthree\n");
    assert_eq!(fs::metadata(place.log()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(place.metrics.log_bytes_written.value(), 14);
    assert_eq!(place.metrics.log_file_bytes.value(), 14);
}

#[test]
fn the_mode_asked_for_is_given_whatever_the_umask() {
    let mut place = Place::new();
    place.settings.file_mode = 0o666;
    drop(place.open());
    assert_eq!(fs::metadata(place.log()).unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn the_file_is_rolled_before_it_would_grow_past_the_maximum() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    for line in ["1234\n", "5678\n", "9\n", "abcdefgh\n"] {
        log.append(line.as_bytes()).unwrap();
    }
    assert_eq!(place.rolled(), ["1234\n5678\n", "9\n"]);
    assert_eq!(place.read_log(), "abcdefgh\n");
    assert_eq!(place.metrics.log_rotations.value(), 2);
}

#[test]
fn a_line_longer_than_the_maximum_size_gets_a_file_of_its_own() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    for line in ["a\n", "a line of more than ten\n", "b\n"] {
        log.append(line.as_bytes()).unwrap();
    }
    assert_eq!(place.rolled(), ["a\n", "a line of more than ten\n"]);
    assert_eq!(place.read_log(), "b\n");
}

#[test]
fn lines_appended_at_once_stay_together_and_get_a_file_of_their_own_if_they_are_longer_than_the_maximum_size() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    log.append(b"0\n").unwrap();
    log.append(b"1\n2\n3\n").unwrap();
    log.append(b"4\n5\n6\n").unwrap();
    log.append(b"7\n8\na line of more than ten\n9\n").unwrap();
    log.append(b"x\n").unwrap();
    assert_eq!(place.rolled(), ["0\n1\n2\n3\n", "4\n5\n6\n", "7\n8\na line of more than ten\n9\n"]);
    assert_eq!(place.read_log(), "x\n");
}

#[test]
fn a_file_found_full_at_start_is_rolled() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    place.write_log(b"{\"a\":123}\n");
    let log = place.open();
    assert_eq!(place.rolled(), ["{\"a\":123}\n"]);
    log.append(b"a\n").unwrap();
    assert_eq!(place.read_log(), "a\n");
}

#[test]
fn a_tail_cut_at_any_byte_of_the_last_line_leaves_the_lines_before_it() {
    let lines = b"{\"first\":1}\n{\"second\":2}\n";
    for length in 0..=lines.len() {
        let place = Place::new();
        place.write_log(&lines[..length]);
        let log = place.open();
        log.append(b"{\"next\":3}\n").unwrap();
        let whole = lines[..length].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut expected = lines[..whole].to_vec();
        expected.extend_from_slice(b"{\"next\":3}\n");
        assert_eq!(fs::read(place.log()).unwrap(), expected);
        let said = format!("\"bytes\":{}", length - whole);
        assert_eq!(place.messages.count(&said), usize::from(whole < length), "{length}");
    }
}

#[test]
fn a_torn_tail_longer_than_any_buffer_is_cut_off() {
    let place = Place::new();
    let mut content = b"{\"whole\":1}\n{\"torn\":\"".to_vec();
    content.resize(300_000, b'x');
    place.write_log(&content);
    let _log = place.open();
    assert_eq!(place.read_log(), "{\"whole\":1}\n");
}

#[test]
fn a_second_log_on_the_same_file_does_not_open_and_says_which_file() {
    let place = Place::new();
    let log = place.open();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains(place.log().to_str().unwrap()), "{error}");
    assert!(error.contains("in use by another process"), "{error}");
    drop(log);
    place.open();
}

#[test]
fn the_lock_outlives_rotation_and_leaves_nothing_that_a_shipper_would_read() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    for _ in 0..5 {
        log.append(b"12345678\n").unwrap();
        assert!(matches!(place.try_open(), Err(OpenError::InUse { .. })));
    }
    let logs = fs::read_dir(place.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".log"))
        .count();
    assert_eq!(logs, 5);
}

#[test]
fn only_as_many_backups_are_kept_as_asked_for_the_newest() {
    for (max, expected) in [
        (1, vec!["4444444\n"]),
        (3, vec!["2222222\n", "3333333\n", "4444444\n"]),
        (0, vec!["0000000\n", "1111111\n", "2222222\n", "3333333\n", "4444444\n"]),
    ] {
        let mut place = Place::new();
        place.settings.max_size = 10;
        place.settings.max_backups = max;
        let log = place.open();
        fs::write(place.directory().join("audit-2026.log"), "not a backup").unwrap();
        for digit in 0..6 {
            let line = format!("{}\n", digit.to_string().repeat(7));
            log.append(line.as_bytes()).unwrap();
        }
        eventually("old backups are gone", || place.rolled() == expected);
        eventually("they are counted", || place.metrics.log_backups.value() == i64::try_from(expected.len()).unwrap());
        assert!(place.directory().join("audit-2026.log").exists());
    }
}

#[test]
fn backups_over_the_limits_are_deleted_at_start_by_the_time_in_their_names() {
    let mut place = Place::new();
    place.settings.max_backups = 3;
    place.settings.max_age = Duration::from_secs(24 * 3600);
    fs::create_dir_all(place.directory()).unwrap();
    // The oldest was touched last.
    for name in [
        "audit-2036-01-01T00-00-00.000-10.log",
        "audit-2036-01-01T00-00-00.000-9.log",
        "audit-2036-01-01T00-00-00.000.log",
        "audit-2020-01-01T00-00-00.000.log",
    ] {
        fs::write(place.directory().join(name), name).unwrap();
    }
    let _log = place.open();
    eventually("the oldest is gone", || place.rolled().len() == 3);
    assert!(!place.directory().join("audit-2020-01-01T00-00-00.000.log").exists());
}

#[test]
fn a_backup_older_than_the_maximum_age_is_deleted() {
    let mut place = Place::new();
    place.settings.max_age = Duration::from_secs(24 * 3600);
    fs::create_dir_all(place.directory()).unwrap();
    fs::write(place.directory().join("audit-2020-01-01T00-00-00.000.log"), "old").unwrap();
    fs::write(place.directory().join("audit-2036-01-01T00-00-00.000.log"), "new").unwrap();
    let _log = place.open();
    eventually("the old one is gone", || place.rolled() == ["new"]);
}

#[test]
fn no_rolled_file_is_overwritten_even_if_the_clock_is_set_back() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    place.settings.max_backups = 2;
    fs::create_dir_all(place.directory()).unwrap();
    let future = place.directory().join("audit-2096-01-01T00-00-00.000.log");
    fs::write(&future, "from the future").unwrap();
    let log = place.open();
    log.append(b"11111111\n").unwrap();
    log.append(b"22222222\n").unwrap();
    assert_eq!(place.rolled(), ["from the future", "11111111\n"]);
    log.append(b"33333333\n").unwrap();
    eventually("the newest are kept", || place.rolled() == ["11111111\n", "22222222\n"]);
}

#[test]
fn a_rolled_file_that_cannot_be_deleted_is_said_once_until_that_changes() {
    let mut place = Place::new();
    place.settings.max_backups = 1;
    fs::create_dir_all(place.directory()).unwrap();
    for day in 1..=3 {
        fs::write(place.directory().join(format!("audit-2026-01-0{day}T00-00-00.000.log")), "{}\n").unwrap();
    }
    let refused = |errno| faults::Plan { call: Some(Call::Unlink), nth: 1, times: u32::MAX, errno, short: false };
    place.fs.faults.set(Some(refused(13)));
    let _log = place.open();
    // Two at once. That is tried every second, while no line tells its time.
    eventually("some tries", || place.metrics.log_retention_errors.value() >= 4);
    assert_eq!(place.messages.count("cannot delete a rolled file"), 1);
    place.fs.faults.set(Some(refused(30)));
    eventually("another error", || place.messages.count("cannot delete a rolled file") == 2);
    place.fs.faults.set(None);
    eventually("they are gone", || place.rolled().len() == 1);
}

#[test]
fn an_empty_rolled_file_counts_like_any_other() {
    let mut place = Place::new();
    place.settings.max_backups = 1;
    fs::create_dir_all(place.directory()).unwrap();
    fs::write(place.directory().join("audit-2026-01-01T00-00-00.000.log"), "{}\n").unwrap();
    fs::write(place.directory().join("audit-2026-01-02T00-00-00.000.log"), "").unwrap();
    let _log = place.open();
    eventually("the older is gone", || place.rolled() == [""]);
}

#[test]
fn a_log_that_was_moved_is_opened_anew_without_traffic() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    let began = Instant::now();
    fs::rename(place.log(), place.root().join("moved")).unwrap();
    eventually("a new file", || place.log().exists());
    assert!(began.elapsed() < Duration::from_secs(1));
    log.append(b"after\n").unwrap();
    assert_eq!(fs::read_to_string(place.root().join("moved")).unwrap(), "before\n");
    assert_eq!(place.read_log(), "after\n");
}

#[test]
fn sighup_opens_the_log_anew_before_the_next_line() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    fs::rename(place.log(), place.root().join("moved")).unwrap();
    log.reopen();
    log.append(b"after\n").unwrap();
    assert_eq!(fs::read_to_string(place.root().join("moved")).unwrap(), "before\n");
    assert_eq!(place.read_log(), "after\n");
    eventually("the reopen is counted", || place.metrics.log_reopens.value() == 1);
}

#[test]
fn a_line_is_acknowledged_in_a_file_with_a_name_however_often_the_log_is_deleted() {
    let place = Place::new();
    let log = place.open();
    for number in 0..100 {
        let line = format!("{number}\n");
        let _ = fs::remove_file(place.log());
        log.append(line.as_bytes()).unwrap();
        assert_eq!(place.read_log(), line);
    }
}

#[test]
fn a_line_that_is_truncated_away_before_it_is_acknowledged_is_written_again() {
    use super::faults::Fault;
    for call in 1..4 {
        for share in [0, 30, 100] {
            let place = Place::new();
            let file = file_of(&place);
            let mut writer = Writer::new(Sink::File(Box::new(file)), Arc::new(place.status()), None);
            writer.append(Lines::plain(b"{\"one\":1}\n"), 1).unwrap();
            place.fs.faults.with_disk(|disk| disk.log = place.log());
            place.fs.faults.play(vec![(call, Fault::Truncate(share))]);
            writer.append(Lines::plain(b"{\"two\":2}\n"), 1).unwrap();
            let text = place.read_log();
            // The third call, if there is one, comes after a truncation that was noticed.
            let expected = ["{\"two\":2}\n", "{\"one\":1}\n{\"two\":2}\n"];
            assert!(expected.contains(&text.as_str()), "{call} {share}: {text:?}");
        }
    }
}

#[test]
fn a_truncation_amid_a_short_write_costs_no_line_that_it_has_left_even_one_that_ends_like_the_new_one() {
    use super::faults::Fault;
    let (earlier, new) = (["{\"a\":1}", "{\"a\":\"x\",\"b\":22222}", "{\"c\":3}"], "{\"d\":\"zzzzzzz\",\"b\":22222}");
    for call in 1..10 {
        for share in 0..=100 {
            let place = Place::in_memory();
            let mut writer = Writer::new(Sink::File(Box::new(file_of(&place))), Arc::new(place.status()), None);
            writer.append(Lines::plain((earlier.join("\n") + "\n").as_bytes()), 1).unwrap();
            place.fs.faults.with_disk(|disk| disk.log = place.log());
            place.fs.faults.play(vec![(1, Fault::Short), (call, Fault::Truncate(share))]);
            let acknowledged = writer.append(Lines::plain(format!("{new}\n").as_bytes()), 1).is_ok();
            place.fs.faults.play(Vec::new());
            writer.append(Lines::plain(b"{\"e\":5}\n"), 1).unwrap();
            let taken = place.fs.faults.with_disk(|disk| disk.taken.clone());
            let text = place.rolled().concat() + &place.read_log();
            let times = |line: &str| text.matches(&format!("{line}\n")).count();
            for line in earlier {
                assert_eq!(
                    times(line),
                    usize::from(!taken.contains(&line.to_owned())),
                    "{line} {call} {share}: {text}"
                );
            }
            assert_eq!(times(new), usize::from(acknowledged), "{call} {share}: {text}");
        }
    }
}

fn file_of(place: &Place) -> LogFile {
    let rules = Rules { max_size: 0, sync: SyncMode::Never, mode: 0o600 };
    LogFile::open(place.fs.clone(), place.log(), rules, Arc::new(place.status())).unwrap()
}

#[test]
fn a_directory_removed_and_made_again_is_locked_and_written_again() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    fs::remove_dir_all(place.directory()).unwrap();
    eventually("a new file", || place.log().exists());
    log.append(b"after\n").unwrap();
    assert_eq!(place.read_log(), "after\n");
    assert!(matches!(place.try_open(), Err(OpenError::InUse { .. })));
}

#[test]
fn a_call_that_fails_as_the_lock_is_taken_again_keeps_appends_refused_no_longer_than_it_fails() {
    for nth in 1..=6 {
        let place = Place::new();
        let status = Arc::new(place.status());
        let rules = Rules { max_size: 0, sync: SyncMode::Never, mode: 0o600 };
        let mut log = LogFile::open(place.fs.clone(), place.log(), rules, Arc::clone(&status)).unwrap();
        log.append(Lines::plain(b"{\"one\":1}\n"), None).unwrap();
        let lock = place.directory().join(".audit.log.lock");
        fs::remove_file(&lock).unwrap();
        let other = fs::File::create(&lock).unwrap();
        other.lock().unwrap();
        log.look(file::Look::Regular);
        assert_eq!(log.append(Lines::plain(b"{\"two\":2}\n"), None).unwrap_err().reason(), AppendFault::Lock);
        drop(other);
        place.fs.faults.set(Some(faults::Plan { call: Some(Call::Stat), nth, times: 1, errno: 5, short: false }));
        log.look(file::Look::Regular);
        assert!(place.fs.faults.fired() || nth == 6, "{nth}");
        log.look(file::Look::Regular);
        assert_eq!(status.failing(), None, "{nth}");
        log.append(Lines::plain(b"{\"three\":3}\n"), None).unwrap();
        assert_eq!(place.read_log(), "{\"one\":1}\n{\"three\":3}\n");
    }
}

#[test]
fn copytruncate_leaves_no_hole() {
    let mut place = Place::new();
    place.settings.max_size = 100;
    let log = place.open();
    log.append(b"a line that was copied before the truncation\n").unwrap();
    fs::OpenOptions::new().write(true).open(place.log()).unwrap().set_len(0).unwrap();
    log.append(b"next\n").unwrap();
    assert_eq!(place.read_log(), "next\n");
    eventually("the size is known again", || place.metrics.log_file_bytes.value() == 5);
    // It would be rolled here if the length before the truncation still counted.
    log.append(&[&[b'x'; 94][..], b"\n"].concat()).unwrap();
    assert!(place.rolled().is_empty());
}

#[test]
fn a_link_to_a_file_elsewhere_is_followed_and_stays() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    fs::create_dir_all(place.directory()).unwrap();
    let link = place.root().join("link.log");
    symlink("logs/audit.log", &link).unwrap();
    place.settings.target = Target::File(link.clone());
    let log = place.open();
    log.append(b"12345678\n").unwrap();
    log.append(b"abcdefgh\n").unwrap();
    assert_eq!(place.rolled(), ["12345678\n"]);
    assert_eq!(fs::read_to_string(link).unwrap(), "abcdefgh\n");
}

#[test]
fn a_device_is_written_and_has_no_lock_beside_it() {
    let mut place = Place::new();
    place.settings.target = Target::File("/dev/null".into());
    place.settings.max_size = 1;
    let log = place.open();
    log.append(b"line\n").unwrap();
    drop(log);
    assert!(!Path::new("/dev/.null.lock").exists());
}

#[test]
fn a_device_without_room_fails_the_append_says_so_once_and_may_work_again() {
    let mut place = Place::new();
    place.settings.target = Target::File("/dev/full".into());
    let log = place.open();
    for _ in 0..3 {
        assert_eq!(log.append(b"line\n").unwrap_err().reason(), AppendFault::NoSpace);
    }
    assert!(log.failing().unwrap().contains("/dev/full"));
    assert_eq!(place.messages.count("append failed"), 1);
    let page = place.metrics.render("1");
    assert!(page.contains("append_errors_total{reason=\"no_space\"} 3"));
}

#[test]
fn a_directory_in_the_logs_place_is_an_error_that_names_it() {
    let mut place = Place::new();
    place.settings.target = Target::File(place.root().to_owned());
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains(place.root().to_str().unwrap()), "{error}");
}

#[test]
fn a_failed_rotation_keeps_the_old_file_in_use_and_is_tried_again_later() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    log.append(b"12345678\n").unwrap();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Rename), nth: 1, times: 1, errno: 13, short: false }));
    log.append(b"abcdefgh\n").unwrap();
    log.append(b"ijklmnop\n").unwrap();
    assert_eq!(place.read_log(), "12345678\nabcdefgh\nijklmnop\n");
    assert_eq!(place.metrics.log_rotation_errors.value(), 1);
    assert!(place.rolled().is_empty());
    eventually("the rotation", || {
        log.append(b"12345678\n").unwrap();
        place.metrics.log_rotations.value() > 0
    });
}

#[test]
fn a_probe_ends_the_outage_without_traffic() {
    let place = Place::new();
    let log = place.open();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Write), nth: 1, times: 1, errno: 28, short: true }));
    log.append(b"fits not, but fits later\n").unwrap();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Write), nth: 1, times: 2, errno: 28, short: true }));
    let error = log.append(b"never fits\n").unwrap_err();
    assert_eq!(error.reason(), AppendFault::NoSpace);
    assert_eq!(place.read_log(), "fits not, but fits later\n");
    assert!(log.failing().is_some());
    eventually("the probe", || log.failing().is_none());
    assert_eq!(place.messages.count("would work again"), 1);
}

#[test]
fn a_failed_sync_fails_the_append_and_ends_the_use_of_the_file() {
    let mut place = Place::new();
    place.settings.sync = SyncMode::Always;
    let log = place.open();
    log.append(b"safe\n").unwrap();
    let before = fs::metadata(place.log()).unwrap().ino();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Sync), nth: 1, times: 1, errno: 5, short: false }));
    assert_eq!(log.append(b"perhaps gone\n").unwrap_err().reason(), AppendFault::Sync);
    log.append(b"safe again\n").unwrap();
    assert_ne!(fs::metadata(place.log()).unwrap().ino(), before);
    assert_eq!(place.rolled(), ["safe\n"]);
    assert_eq!(place.read_log(), "safe again\n");
    assert_eq!(place.messages.count("append failed"), 1);
    assert_eq!(place.messages.count("append works again"), 1);
}

#[test]
fn threads_that_append_at_once_lose_and_mix_nothing() {
    const THREADS: usize = 16;
    const LINES: usize = 500;
    let mut place = Place::new();
    place.settings.max_size = 20_000;
    let log = place.open();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..LINES {
                    let filling = "x".repeat(number % 100);
                    log.append(format!("{thread} {number} {filling}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let mut all = place.rolled();
    all.push(place.read_log());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for text in &all {
        assert!(text.len() <= 20_000 && text.ends_with('\n'));
        for line in text.lines() {
            let id: Vec<&str> = line.splitn(3, ' ').collect();
            *seen.entry(id[..2].join(" ")).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), THREADS * LINES);
    assert!(seen.values().all(|count| *count == 1));
    assert_eq!(place.metrics.append_group_lines.value(), (THREADS * LINES) as u64);
}

/// A FIFO whose reader has not read yet, and a log that writes to it.
fn log_to_fifo(place: &mut Place) -> (AuditLog, fs::File) {
    let fifo = place.root().join("fifo");
    make_fifo(&fifo);
    place.settings.target = Target::File(fifo.clone());
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| place.open());
        let reader = fs::File::open(&fifo).unwrap();
        (opening.join().unwrap(), reader)
    })
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Runs `then` while one append is stuck in a full FIFO and `MEMBERS` others have made a group behind it.
fn with_a_group_waiting(then: impl FnOnce(fs::File)) -> (Vec<bool>, Arc<Metrics>) {
    let mut place = Place::new();
    let (log, reader) = log_to_fifo(&mut place);
    let outcomes = std::thread::scope(|scope| {
        let log = &log;
        let mut threads = vec![scope.spawn(|| {
            let mut line = vec![b'x'; 3 << 20];
            line.push(b'\n');
            log.append(&line).is_ok()
        })];
        eventually("the first append writes", || log.commit.waiting() == (true, 0));
        threads.extend((0..MEMBERS).map(|_| scope.spawn(|| log.append(b"line\n").is_ok())));
        eventually("the others wait", || log.commit.waiting() == (true, MEMBERS));
        then(reader);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (outcomes, Arc::clone(&place.metrics))
}

const MEMBERS: usize = 20;

#[test]
fn appends_that_wait_while_one_writes_are_written_together() {
    let (outcomes, metrics) = with_a_group_waiting(|mut reader| {
        let mut bytes = vec![0; (3 << 20) + 1 + 5 * MEMBERS];
        reader.read_exact(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"\nline\nline\n"));
    });
    assert!(outcomes.iter().all(|ok| *ok));
    assert_eq!(metrics.append_groups.value(), 2);
    assert_eq!(metrics.append_group_lines.value(), 1 + MEMBERS as u64);
}

#[test]
fn a_failed_group_fails_each_of_its_members_and_is_counted_for_each() {
    let (outcomes, metrics) = with_a_group_waiting(drop);
    assert_eq!(outcomes, [false; 1 + MEMBERS]);
    let page = metrics.render("1");
    assert!(page.contains("append_errors_total{reason=\"broken_pipe\"} 21"));
}

#[test]
fn a_log_whose_pipe_nobody_reads_is_dropped_all_the_same() {
    let mut place = Place::new();
    let (log, reader) = log_to_fifo(&mut place);
    log.append(b"line\n").unwrap();
    log.reopen();
    drop(log);
    drop(reader);
}

#[test]
fn a_fifo_without_a_reader_is_waited_for_with_a_word() {
    let mut place = Place::new();
    let fifo = place.root().join("fifo");
    make_fifo(&fifo);
    place.settings.target = Target::File(fifo.clone());
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| place.open());
        eventually("the word", || place.messages.count("waiting for a reader") == 1);
        let mut reader = fs::File::open(&fifo).unwrap();
        let log = opening.join().unwrap();
        log.append(b"line\n").unwrap();
        let mut line = [0; 5];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line\n");
        drop(reader);
        assert_eq!(log.append(b"nobody\n").unwrap_err().reason(), AppendFault::BrokenPipe);
        assert!(log.failing().is_some());
        let mut reader = fs::File::open(&fifo).unwrap();
        eventually("the reader is noticed", || log.failing().is_none());
        log.append(b"again\n").unwrap();
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "again\n");
    });
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 1);
}
