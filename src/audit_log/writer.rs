//! What a group of lines is written to, and the account of it: metrics, and whether appends fail.

use std::path::PathBuf;
use std::sync::Arc;

use super::backups::Backups;
use super::error::AppendError;
use super::file::LogFile;
use super::status::{Look, Status};
use super::stream::Stream;
use crate::observe::labels::AppendFault;

/// The one writer of the log, behind the lock of [`super::commit::GroupCommit`].
#[derive(Debug)]
pub(super) struct Writer {
    sink: Sink,
    status: Arc<Status>,
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
    /// Nothing is known to stand against it.
    Hope,
    /// Write a scratch file in this directory, as far out as the log would be written.
    Scratch {
        /// Where.
        path: PathBuf,
        /// The log's length.
        length: u64,
    },
}

impl Writer {
    pub(super) fn new(sink: Sink, status: Arc<Status>) -> Self {
        let writer = Self { sink, status, broken_pipe: false };
        writer.show_length();
        writer
    }

    /// Writes the lines of `appends` calls, all or none.
    pub(super) fn append(&mut self, lines: &[u8], appends: u32) -> Result<(), AppendError> {
        self.look_if_due();
        let outcome = match &mut self.sink {
            Sink::File(file) => file.append(lines),
            Sink::Stream(stream) => stream.append(lines),
        };
        let metrics = &self.status.metrics;
        metrics.append_groups.increment();
        metrics.append_group_lines.add(u64::from(appends));
        self.show_length();
        match &outcome {
            Ok(()) => {
                metrics.log_bytes_written.add(lines.len() as u64);
                self.status.succeeded();
            }
            Err(error) => {
                self.broken_pipe = error.reason() == AppendFault::BrokenPipe;
                self.status.failed(error, lines.len());
            }
        }
        outcome
    }

    /// Does the look at the log's path that somebody has asked for.
    #[inline]
    pub(super) fn look_if_due(&mut self) {
        if let Some(look) = self.status.take_look() {
            self.look(look);
        }
    }

    #[cold]
    fn look(&mut self, look: Look) {
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
    /// rest. `None` if it is known that an append would fail.
    pub(super) fn probe(&mut self) -> Option<Probe> {
        match &mut self.sink {
            Sink::File(file) => {
                file.look(Look::IfMoved);
                file.repair().ok()?;
                Some(Probe::Scratch { path: file.scratch_path(), length: file.length() })
            }
            Sink::Stream(stream) => stream.may_work(self.broken_pipe).then_some(Probe::Hope),
        }
    }

    /// `None` if the log is never rolled.
    pub(super) fn backups(&self) -> Option<Backups> {
        match &self.sink {
            Sink::File(file) => Some(file.backups().clone()),
            Sink::Stream(_) => None,
        }
    }
}
