//! Files that are read again while the program runs, and what is in use of them.
//!
//! They are compared by content, every few seconds. A Secret volume swaps a symbolic link on the way to the file, of which
//! inotify on the file does not tell, and whoever copies files may keep their times.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::observe::diagnostics::{Diagnostics, Latch};
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
    /// What is wrong with it, in words that follow `path: `.
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.flag, self.path.display(), self.problem)
    }
}

impl std::error::Error for Error {}

/// A file as it was found. Without `Debug`: it may hold a key or tokens.
#[derive(PartialEq, Eq)]
pub struct Content {
    flag: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Reads a regular file of at most [`MAX_FILE_SIZE`] bytes.
    pub(crate) fn read(flag: &'static str, path: &Path) -> Result<Self, Error> {
        let error = |problem| Error { flag, path: path.to_owned(), problem };
        let unreadable = |cause: io::Error| error(cause.to_string());
        // Asked before opening, because opening a FIFO waits for its writer.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(error("not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err(error(format!("larger than {MAX_FILE_SIZE} bytes")));
        }
        Ok(Self { flag, path: path.to_owned(), bytes })
    }

    /// The error that says why this file cannot be used.
    pub(crate) fn unusable(&self, why: impl Into<String>) -> Error {
        Error { flag: self.flag, path: self.path.clone(), problem: why.into() }
    }
}

/// Files that belong together, as a `C` with their contents, and the `T` that was made of them and is in use.
pub(crate) struct Watched<C, T> {
    /// What messages call it.
    name: &'static str,
    read: Box<dyn Fn() -> Result<C, Error> + Send + Sync>,
    check: fn(&C) -> Result<T, Error>,
    in_use: RwLock<Arc<T>>,
    /// Held by [`Watched::reload`] while it reads the files; nothing else takes it.
    state: Mutex<State<C>>,
}

struct State<C> {
    /// What [`Watched::in_use`] was made of.
    in_use: C,
    /// Whether the last reload found nothing that can be used.
    unfit: bool,
    /// What was last said to be unfit: contents that cannot be used, or why they could not be read.
    complaint: Latch<Result<C, String>>,
}

impl<C: PartialEq, T> Watched<C, T> {
    /// Reads the files at the start. `check` makes of their contents what is used, here and at each reload.
    pub(crate) fn load(
        name: &'static str,
        read: impl Fn() -> Result<C, Error> + Send + Sync + 'static,
        check: fn(&C) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let found = read()?;
        let in_use = RwLock::new(Arc::new(check(&found)?));
        let state = Mutex::new(State { in_use: found, unfit: false, complaint: Latch::default() });
        Ok(Self { name, read: Box::new(read), check, in_use, state })
    }

    /// What is in use.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. What has changed and passes both `check` and `may_replace` is in use from then on, and is
    /// returned. `may_replace` is asked here only, not at the start.
    ///
    /// What cannot be used is checked again at each reload, but said and counted once for each distinct content, and
    /// only if the reload before found nothing fit for use either: a single one may have met a volume that was being
    /// swapped (the old certificate and the new key) or a file that was half written.
    pub(crate) fn reload(
        &self,
        may_replace: impl FnOnce(&C, &T) -> Result<(), Error>,
        reloads: &CounterBy<Reload>,
        diagnostics: &Diagnostics,
    ) -> Option<Arc<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = |found: &C| {
            let checked = (self.check)(found)?;
            may_replace(found, &checked).map(|()| checked)
        };
        let (complaint, error) = match (self.read)() {
            Ok(found) if found == state.in_use => {
                state.unfit = false;
                if state.complaint.well() {
                    diagnostics.info(&format!("{}: the file holds again what is in use", self.name), &[]);
                }
                return None;
            }
            Ok(found) => match checked(&found) {
                Ok(checked) => {
                    *state = State { in_use: found, unfit: false, complaint: Latch::default() };
                    let checked = Arc::new(checked);
                    *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&checked);
                    reloads.increment(Reload::Success);
                    return Some(checked);
                }
                Err(error) => (Ok(found), error),
            },
            Err(error) => (Err(error.to_string()), error),
        };
        let unfit_before = std::mem::replace(&mut state.unfit, true);
        if unfit_before && state.complaint.fault(complaint) {
            reloads.increment(Reload::Failure);
            let msg = format!("{}: reload failed, the old one stays in use", self.name);
            diagnostics.error(&msg, &[("error", (&error.to_string()).into())]);
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
