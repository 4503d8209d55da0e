//! Files that are re-read while the program runs: certificate, key, client CA and sources.
//!
//! They are compared by content, every few seconds. A Secret volume swaps a symbolic link three directories up, so
//! neither inotify on the file nor its modification time would tell of a change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::diagnostics::Diagnostics;
use crate::metrics::Metrics;

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
        let error = |problem| Error {
            flag,
            path: path.to_owned(),
            problem,
        };
        let unreadable = |cause| error(Problem::Unreadable(cause));
        // Asked before opening, because opening a FIFO waits for its writer.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(error(Problem::NotRegular));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err(error(Problem::TooLarge));
        }
        Ok(Self {
            flag,
            path: path.to_owned(),
            bytes,
        })
    }

    /// The error that says why this file cannot be used.
    pub(crate) fn unusable(&self, why: impl Into<String>) -> Error {
        Error {
            flag: self.flag,
            path: self.path.clone(),
            problem: Problem::Unusable(why.into()),
        }
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

/// Since the look before last at the latest, the files hold nothing that can be used.
struct Broken<C> {
    /// The content, or why it could not be read, that has been complained about.
    said: Option<Result<C, String>>,
}

impl<C: PartialEq> Watched<C> {
    pub(crate) fn new(name: &'static str, in_use: C) -> Self {
        Self {
            name,
            in_use,
            broken: None,
        }
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
        metrics: &Metrics,
        diagnostics: &Diagnostics,
    ) -> Option<T> {
        let (found, error) = match found {
            Ok(found) if found == self.in_use => {
                if self
                    .broken
                    .take()
                    .is_some_and(|broken| broken.said.is_some())
                {
                    let msg = format!("{}: the file holds again what is in use", self.name);
                    diagnostics.info(&msg, &[]);
                }
                return None;
            }
            Ok(found) => match check(&found) {
                Ok(checked) => {
                    self.in_use = found;
                    self.broken = None;
                    metrics.certificate_reloads.increment("success");
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
            metrics.certificate_reloads.increment("failure");
            let msg = format!("{}: reload failed, the old one stays in use", self.name);
            diagnostics.error(&msg, &[("error", (&error.to_string()).into())]);
        }
        None
    }
}
