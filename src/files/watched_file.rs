//! A single file that is read again while the program runs, with its metrics and its messages.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::instruments::CounterBy;
use crate::observe::labels::Reload;
use crate::observe::metrics::Metrics;

/// What is made of a file.
pub trait FromFile: Sized {
    /// The flag that names the file, with its dashes.
    const FLAG: &'static str;
    /// What messages call it.
    const NAME: &'static str;
    /// The message that it is in use at the start.
    const LOADED: &'static str;
    /// The message that it has come into use later.
    const RELOADED: &'static str;

    /// Makes it of the file's content.
    ///
    /// # Errors
    /// Why that cannot be used.
    fn check(content: &Content) -> Result<Self, Error>;

    /// Shows by metrics and by the message `msg` that this, of the file at `path`, is in use.
    fn show(&self, msg: &str, path: &str, metrics: &Metrics, diagnostics: &Diagnostics);

    /// Counts the load at the start, if it is counted.
    fn count_start(_metrics: &Metrics) {}

    /// Where reloads are counted.
    fn reloads(metrics: &Metrics) -> &CounterBy<Reload> {
        &metrics.certificate_reloads
    }
}

/// A file, and the `T` that was made of it and is in use.
pub struct WatchedFile<T> {
    path: PathBuf,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    watched: Watched<Content, T>,
}

impl<T> fmt::Debug for WatchedFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile").finish_non_exhaustive()
    }
}

impl<T: FromFile> WatchedFile<T> {
    /// Reads the file at the start.
    ///
    /// # Errors
    /// [`Error`], which names flag and path, where it cannot be read or used.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let file = path.clone();
        let watched = Watched::load(T::NAME, move || Content::read(T::FLAG, &file), T::check)?;
        let file = Self { path, metrics, diagnostics, watched };
        T::count_start(&file.metrics);
        file.show(T::LOADED, &file.current());
        Ok(file)
    }

    /// What is in use.
    pub fn current(&self) -> Arc<T> {
        self.watched.current()
    }

    /// Reads the file again, and uses it if it has changed and is valid. To be called every few seconds.
    pub fn reload(&self) {
        let reloads = T::reloads(&self.metrics);
        if let Some(fresh) = self.watched.reload(|_, _| Ok(()), reloads, &self.diagnostics) {
            self.show(T::RELOADED, &fresh);
        }
    }

    fn show(&self, msg: &str, in_use: &T) {
        in_use.show(msg, &self.path.to_string_lossy(), &self.metrics, &self.diagnostics);
    }
}
