use tempfile::TempDir;

use super::testing::Messages;
use super::*;
use crate::observe::metrics::Metrics;

fn read(path: &Path) -> String {
    match Content::read("--flag", path) {
        Ok(content) => format!("{} bytes", content.bytes.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_error_names_the_flag_and_the_path() {
    let missing = Path::new("/nowhere/at/all");
    assert_eq!(read(missing), "--flag /nowhere/at/all: No such file or directory (os error 2)");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [directory.path(), &fifo, Path::new("/dev/zero")] {
        let expected = format!("--flag {}: not a regular file", path.display());
        assert_eq!(read(path), expected);
    }
}

#[test]
fn a_file_of_the_largest_size_is_read_and_one_byte_more_is_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = File::create(&path).unwrap();
    file.set_len(MAX_FILE_SIZE).unwrap();
    assert_eq!(read(&path), "1048576 bytes");
    file.set_len(MAX_FILE_SIZE + 1).unwrap();
    let expected = format!("--flag {}: larger than 1048576 bytes", path.display());
    assert_eq!(read(&path), expected);
}

/// A file with a number, which can be used if it is even, and may replace another if it is less than 100.
struct Numbers {
    directory: TempDir,
    watched: Watched<Content, u32>,
    metrics: Metrics,
    messages: Messages,
}

impl Numbers {
    fn using(number: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, number.to_string()).unwrap();
        let watched = Watched::load(
            "number",
            move || Content::read("--number", &path),
            |content| {
                let number: u32 = str::from_utf8(&content.bytes).unwrap().parse().unwrap();
                if number.is_multiple_of(2) { Ok(number) } else { Err(content.unusable(format!("{number} is odd"))) }
            },
        );
        Self { directory, watched: watched.unwrap(), metrics: Metrics::new(), messages: Messages::default() }
    }

    /// What came into use, and what was said. Without a number the file is removed.
    fn look(&mut self, number: Option<u32>) -> (Option<u32>, Vec<String>) {
        let path = self.directory.path().join("file");
        match number {
            Some(number) => fs::write(&path, number.to_string()).unwrap(),
            None => drop(fs::remove_file(&path)),
        }
        let small = |content: &Content, number: &u32| match number {
            0..100 => Ok(()),
            _ => Err(content.unusable("too large")),
        };
        let reloads = &self.metrics.certificate_reloads;
        let used = self.watched.reload(small, reloads, &self.messages.diagnostics());
        if let Some(used) = &used {
            assert_eq!(self.watched.current(), *used);
        }
        let directory = self.directory.path().to_str().unwrap();
        let said = self.messages.take().iter().map(|said| said.replace(directory, "DIR")).collect();
        (used.map(|number| *number), said)
    }

    /// Successes and failures.
    fn reloads(&self) -> [u64; 2] {
        [Reload::Success, Reload::Failure].map(|result| self.metrics.certificate_reloads.value(result))
    }
}

fn failed(why: &str) -> Vec<String> {
    vec![format!("error number: reload failed, the old one stays in use error=--number DIR/file: {why}")]
}

#[test]
fn what_has_changed_and_can_be_used_is_used_at_once() {
    let mut numbers = Numbers::using(2);
    assert_eq!(numbers.look(Some(2)), (None, vec![]));
    assert_eq!(numbers.look(Some(4)), (Some(4), vec![]));
    assert_eq!(numbers.look(Some(4)), (None, vec![]));
    assert_eq!(numbers.reloads(), [1, 0]);
}

#[test]
fn what_is_broken_for_one_look_only_is_not_spoken_of() {
    let mut numbers = Numbers::using(2);
    assert_eq!(numbers.look(Some(3)), (None, vec![]));
    assert_eq!(numbers.look(Some(4)), (Some(4), vec![]));
    assert_eq!(numbers.look(None), (None, vec![]));
    assert_eq!(numbers.look(Some(4)), (None, vec![]));
    assert_eq!(numbers.reloads(), [1, 0]);
}

#[test]
fn what_stays_broken_is_said_and_counted_once_for_each_content() {
    let mut numbers = Numbers::using(2);
    assert_eq!(numbers.look(Some(3)), (None, vec![]));
    assert_eq!(numbers.look(Some(3)), (None, failed("3 is odd")));
    assert_eq!(numbers.look(Some(3)), (None, vec![]));
    assert_eq!(numbers.look(Some(5)), (None, failed("5 is odd")));
    assert_eq!(numbers.look(None), (None, failed("No such file or directory (os error 2)")));
    assert_eq!(numbers.look(None), (None, vec![]));
    assert_eq!(numbers.reloads(), [0, 3]);
    assert_eq!(numbers.look(Some(6)), (Some(6), vec![]));
    assert_eq!(numbers.reloads(), [1, 3]);
}

#[test]
fn the_return_of_what_is_in_use_is_said_where_its_loss_was() {
    let mut numbers = Numbers::using(2);
    numbers.look(Some(3));
    assert_eq!(numbers.look(Some(3)).1, failed("3 is odd"));
    let again = vec!["info number: the file holds again what is in use".to_owned()];
    assert_eq!(numbers.look(Some(2)), (None, again));
    assert_eq!(numbers.look(Some(2)), (None, vec![]));
}

#[test]
fn what_may_not_replace_what_is_in_use_is_asked_again_at_each_look() {
    let mut numbers = Numbers::using(2);
    assert_eq!(numbers.look(Some(100)), (None, vec![]));
    assert_eq!(numbers.look(Some(100)), (None, failed("too large")));
    assert_eq!(numbers.look(Some(98)), (Some(98), vec![]));
    let at_the_start = Numbers::using(100);
    assert_eq!(*at_the_start.watched.current(), 100);
}
