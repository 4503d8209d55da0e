//! What a group of lines is written to, and the account of it: metrics, and whether appends fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::chain::{Chain, Lines};
use super::error::AppendError;
use super::file::{LogFile, Look};
use super::status::Status;
use super::stream::Stream;
use crate::observe::labels::AppendFault;

/// The one writer of the log, behind the lock of [`super::commit::GroupCommit`].
#[derive(Debug)]
pub(super) struct Writer {
    sink: Sink,
    status: Arc<Status>,
    /// With `--chain`.
    chain: Option<Chain>,
    /// The last append failed because nobody reads the pipe.
    broken_pipe: bool,
}

#[derive(Debug)]
pub(super) enum Sink {
    File(Box<LogFile>),
    Stream(Stream),
}

/// How to find out, without the writer, whether an append would succeed again.
#[derive(Debug)]
pub(super) enum Probe {
    /// It is known that it would fail.
    Fails,
    /// Nothing is known to stand against it.
    Hope,
    /// By writing this file, which nothing else uses.
    Scratch(PathBuf),
}

impl Writer {
    pub(super) fn new(sink: Sink, status: Arc<Status>, chain: Option<Chain>) -> Self {
        let writer = Self { sink, status, chain, broken_pipe: false };
        writer.show_length();
        writer
    }

    /// Writes the lines of `appends` calls, all or none.
    pub(super) fn append(&mut self, lines: Lines<'_>, appends: usize) -> Result<(), AppendError> {
        if self.status.reopen.load(Relaxed) {
            self.look();
        }
        let outcome = match &mut self.sink {
            Sink::File(file) => file.append(lines, self.chain.as_mut()),
            Sink::Stream(stream) => stream.append(lines, self.chain.as_mut()),
        };
        let metrics = &self.status.metrics;
        metrics.append_groups.increment();
        metrics.append_group_lines.add(appends as u64);
        self.show_length();
        match outcome {
            Ok(written) => {
                metrics.log_bytes_written.add(written as u64);
                self.status.succeeded();
                Ok(())
            }
            Err(error) => {
                self.broken_pipe = error.reason() == AppendFault::BrokenPipe;
                self.status.failed(&error, lines.bytes.len());
                Err(error)
            }
        }
    }

    /// Looks at the log's path and its lock, and opens the file anew if SIGHUP came.
    #[cold]
    pub(super) fn look(&mut self) {
        let look = if self.status.reopen.swap(false, Relaxed) { Look::Reopen } else { Look::Regular };
        if let Sink::File(file) = &mut self.sink {
            file.look(look);
            self.show_length();
        }
    }

    fn show_length(&self) {
        if let Sink::File(file) = &self.sink {
            let length = i64::try_from(file.length()).unwrap_or(i64::MAX);
            self.status.metrics.log_file_bytes.set(length);
        }
    }

    /// After a failed append: makes good what can be made good without lines to write, and says how to find out the
    /// rest.
    pub(super) fn probe(&mut self) -> Probe {
        match &mut self.sink {
            Sink::File(file) => match file.make_ready() {
                Ok(()) => Probe::Scratch(file.scratch_path()),
                Err(_) => Probe::Fails,
            },
            Sink::Stream(stream) if stream.may_work(self.broken_pipe) => Probe::Hope,
            Sink::Stream(_) => Probe::Fails,
        }
    }
}
