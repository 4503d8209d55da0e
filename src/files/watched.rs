//! Files that are re-read while the program runs: certificate, key, client CA and sources.
//!
//! They are compared by content, every few seconds. A Secret volume swaps a symbolic link three directories up, so
//! neither inotify on the file nor its modification time would tell of a change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::observe::diagnostics::Diagnostics;
use crate::observe::instruments::CounterBy;
use crate::observe::labels::Reload;

/// The largest file that is read. A certificate chain has a few kilobytes; a wrong path must not eat the memory.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// A file that cannot be used. Displays as `--flag path: problem`, and never shows what the file holds.
#[derive(Debug)]
pub struct Error {
    /// The flag that names the file, with its dashes.
    pub flag: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Problem {
    /// It could not be read.
    Unreadable(io::Error),
    /// It is a directory, a FIFO, a device or a socket, which might block or never end.
    NotRegular,
    /// It has more than [`MAX_FILE_SIZE`] bytes.
    TooLarge,
    /// It does not hold what it should; in words that follow `path: `.
    Unusable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.flag, self.path.display())?;
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "{error}"),
            Problem::NotRegular => write!(f, "not a regular file"),
            Problem::TooLarge => write!(f, "larger than {MAX_FILE_SIZE} bytes"),
            Problem::Unusable(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A file as it was found. Without `Debug`: it may hold a key or tokens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content {
    flag: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Reads a regular file of at most [`MAX_FILE_SIZE`] bytes.
    pub(crate) fn read(flag: &'static str, path: &Path) -> Result<Self, Error> {
        let error = |problem| Error { flag, path: path.to_owned(), problem };
        let unreadable = |cause| error(Problem::Unreadable(cause));
        // Asked before opening, because opening a FIFO waits for its writer.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(error(Problem::NotRegular));
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err(error(Problem::TooLarge));
        }
        Ok(Self { flag, path: path.to_owned(), bytes })
    }

    /// The error that says why this file cannot be used.
    pub(crate) fn unusable(&self, why: impl Into<String>) -> Error {
        Error { flag: self.flag, path: self.path.clone(), problem: Problem::Unusable(why.into()) }
    }
}

/// What is in use, and whether the last look found something else that is not fit for use. `C` is the content of the
/// files that belong together.
pub(crate) struct Watched<C> {
    /// What the messages call it.
    name: &'static str,
    in_use: C,
    broken: Option<Broken<C>>,
}

/// The last look found nothing that can be used.
struct Broken<C> {
    /// The content, or why it could not be read, that has been complained about.
    said: Option<Result<C, String>>,
}

impl<C: PartialEq> Watched<C> {
    pub(crate) fn new(name: &'static str, in_use: C) -> Self {
        Self { name, in_use, broken: None }
    }

    /// Compares what was found with what is in use. Returns what `check` makes of it where it differs and can be used;
    /// from then on that is in use.
    ///
    /// What cannot be used is checked again at each look, but said and counted once for each distinct content, and only
    /// when the look before found nothing fit for use either: between two reads a volume may have been swapped (a
    /// certificate read before, its key after) or a file been half written.
    pub(crate) fn look<T>(
        &mut self,
        found: Result<C, Error>,
        check: impl FnOnce(&C) -> Result<T, Error>,
        reloads: &CounterBy<Reload>,
        diagnostics: &Diagnostics,
    ) -> Option<T> {
        let (found, error) = match found {
            Ok(found) if found == self.in_use => {
                if self.broken.take().is_some_and(|broken| broken.said.is_some()) {
                    let msg = format!("{}: the file holds again what is in use", self.name);
                    diagnostics.info(&msg, &[]);
                }
                return None;
            }
            Ok(found) => match check(&found) {
                Ok(checked) => {
                    self.in_use = found;
                    self.broken = None;
                    reloads.increment(Reload::Success);
                    return Some(checked);
                }
                Err(error) => (Ok(found), error),
            },
            Err(error) => (Err(error.to_string()), error),
        };
        let Some(broken) = &mut self.broken else {
            self.broken = Some(Broken { said: None });
            return None;
        };
        if broken.said.as_ref() != Some(&found) {
            broken.said = Some(found);
            reloads.increment(Reload::Failure);
            let msg = format!("{}: reload failed, the old one stays in use", self.name);
            diagnostics.error(&msg, &[("error", (&error.to_string()).into())]);
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use crate::observe::diagnostics::{Diagnostics, Format};

    /// The messages that a test's [`Diagnostics`] wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Messages(Arc<Mutex<Vec<u8>>>);

    impl Messages {
        pub(crate) fn diagnostics(&self) -> Arc<Diagnostics> {
            Arc::new(Diagnostics::to_sink(Format::Json, Box::new(self.clone())))
        }

        /// Those written since the last call: `level msg field=value ...`, the fields in alphabetical order.
        pub(crate) fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let lines = bytes.split_inclusive(|&byte| byte == b'\n');
            lines.map(plain).collect()
        }
    }

    fn plain(line: &[u8]) -> String {
        let mut fields: serde_json::Map<_, _> = serde_json::from_slice(line).unwrap();
        fields.remove("time").unwrap();
        let level = fields.remove("level").unwrap();
        let msg = fields.remove("msg").unwrap();
        let mut text = format!("{} {}", level.as_str().unwrap(), msg.as_str().unwrap());
        for (name, value) in fields {
            text += &match value {
                serde_json::Value::String(value) => format!(" {name}={value}"),
                value => format!(" {name}={value}"),
            };
        }
        text
    }

    impl Write for Messages {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
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

    /// Looks at a number in place of files: an even one can be used.
    struct Numbers {
        watched: Watched<u32>,
        metrics: Metrics,
        messages: Messages,
    }

    impl Numbers {
        fn using(in_use: u32) -> Self {
            Self { watched: Watched::new("number", in_use), metrics: Metrics::new(), messages: Messages::default() }
        }

        fn error(problem: &str) -> Error {
            Error { flag: "--number", path: "file".into(), problem: Problem::Unusable(problem.to_owned()) }
        }

        /// What came into use, and what was said.
        fn look(&mut self, found: Result<u32, &str>) -> (Option<u32>, Vec<String>) {
            let check = |&number: &u32| match number % 2 {
                0 => Ok(number),
                _ => Err(Self::error(&format!("{number} is odd"))),
            };
            let diagnostics = self.messages.diagnostics();
            let found = found.map_err(Self::error);
            let used = self.watched.look(found, check, &self.metrics.certificate_reloads, &diagnostics);
            (used, self.messages.take())
        }

        fn reloads(&self) -> Vec<u64> {
            let reloads = &self.metrics.certificate_reloads;
            vec![reloads.value(Reload::Success), reloads.value(Reload::Failure)]
        }
    }

    fn failed(why: &str) -> Vec<String> {
        vec![format!("error number: reload failed, the old one stays in use error=--number file: {why}")]
    }

    #[test]
    fn what_has_changed_and_can_be_used_is_used_at_once() {
        let mut numbers = Numbers::using(2);
        assert_eq!(numbers.look(Ok(2)), (None, vec![]));
        assert_eq!(numbers.look(Ok(4)), (Some(4), vec![]));
        assert_eq!(numbers.look(Ok(4)), (None, vec![]));
        assert_eq!(numbers.reloads(), [1, 0]);
    }

    #[test]
    fn what_is_broken_for_one_look_only_is_not_spoken_of() {
        let mut numbers = Numbers::using(2);
        assert_eq!(numbers.look(Ok(3)), (None, vec![]));
        assert_eq!(numbers.look(Ok(4)), (Some(4), vec![]));
        assert_eq!(numbers.look(Err("gone")), (None, vec![]));
        assert_eq!(numbers.look(Ok(4)), (None, vec![]));
        assert_eq!(numbers.reloads(), [1, 0]);
    }

    #[test]
    fn what_stays_broken_is_said_and_counted_once_for_each_content() {
        let mut numbers = Numbers::using(2);
        assert_eq!(numbers.look(Ok(3)), (None, vec![]));
        assert_eq!(numbers.look(Ok(3)), (None, failed("3 is odd")));
        assert_eq!(numbers.look(Ok(3)), (None, vec![]));
        assert_eq!(numbers.look(Ok(5)), (None, failed("5 is odd")));
        assert_eq!(numbers.look(Err("gone")), (None, failed("gone")));
        assert_eq!(numbers.look(Err("gone")), (None, vec![]));
        assert_eq!(numbers.reloads(), [0, 3]);
        assert_eq!(numbers.look(Ok(6)), (Some(6), vec![]));
        assert_eq!(numbers.reloads(), [1, 3]);
    }

    #[test]
    fn the_return_of_what_is_in_use_is_said_where_its_loss_was() {
        let mut numbers = Numbers::using(2);
        numbers.look(Ok(3));
        numbers.look(Ok(3));
        let again = vec!["info number: the file holds again what is in use".to_owned()];
        assert_eq!(numbers.look(Ok(2)), (None, again));
        assert_eq!(numbers.look(Ok(2)), (None, vec![]));
    }
}
