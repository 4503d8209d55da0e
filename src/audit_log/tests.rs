//! What the log does as a whole, on a real file system.

mod failing;
mod replaced;
mod retention;
mod waiting;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::faults::Fault;
use super::fs::Call;
use super::names::Names;
use super::*;
use crate::observe::diagnostics::Format;
use crate::observe::labels::AppendFault;

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
        let opened = OpenedLog::open_with(fs, settings, metrics, Arc::new(diagnostics))?;
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
fn sighup_has_nothing_to_open_anew_where_the_log_is_a_device() {
    let mut place = Place::new();
    place.settings.target = Target::File("/dev/full".into());
    let log = place.open();
    log.reopen();
    assert!(log.append(b"line\n").is_err());
    assert_eq!(place.messages.count("append failed"), 1);
    assert_eq!(place.messages.count("cannot open the audit log anew"), 0);
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
