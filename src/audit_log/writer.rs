//! What a group of lines is written to, and the account of it: metrics, and whether appends fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::chain::{Chain, Lines};
use super::error::AppendError;
use super::file::LogFile;
use super::status::LogStatus;
use super::stream::Stream;

/// The one writer of the log, handed from thread to thread by [`super::commit::GroupCommit`].
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) sink: Sink,
    status: Arc<LogStatus>,
    /// With `--chain`.
    chain: Option<Chain>,
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
    /// It may succeed; a line would have to be written to know more.
    MayWork,
    /// A trial write to this file, which nothing else uses, tells it.
    Scratch(PathBuf),
}

impl Writer {
    pub(super) fn new(sink: Sink, status: Arc<LogStatus>, chain: Option<Chain>) -> Self {
        let writer = Self { sink, status, chain };
        writer.show_length();
        writer
    }

    /// Writes the lines of `appends` calls: to a file all or none, to a stream as [`Stream::append`] says.
    pub(super) fn append(&mut self, lines: Lines<'_>, appends: usize) -> Result<(), AppendError> {
        if self.status.reopen.load(Relaxed) {
            self.look();
        }
        let bytes = lines.bytes().len();
        let outcome = match &mut self.sink {
            Sink::File(file) => file.append(lines, self.chain.as_mut()),
            Sink::Stream(stream) => stream.append(lines, self.chain.as_mut()),
        };
        let metrics = &self.status.metrics;
        metrics.append_groups.increment();
        metrics.append_group_lines.add(appends);
        self.show_length();
        match outcome {
            Ok(written) => {
                metrics.log_bytes_written.add(written);
                self.status.end_outage("append works again", None);
                Ok(())
            }
            Err(error) => {
                self.status.failed(&error, bytes);
                Err(error)
            }
        }
    }

    /// Looks at the log's path and its lock, and opens the file anew if SIGHUP came.
    #[cold]
    pub(super) fn look(&mut self) {
        match &mut self.sink {
            Sink::File(file) => file.look(),
            Sink::Stream(stream) => stream.look(),
        }
        self.show_length();
    }

    fn show_length(&self) {
        if let Sink::File(file) = &self.sink {
            self.status.metrics.log_file_bytes.set(file.length());
        }
    }

    /// After a failed append: mends what can be mended without lines to write (a file that needs a successor), and says
    /// how to find out the rest.
    pub(super) fn probe(&mut self) -> Probe {
        match &mut self.sink {
            Sink::File(file) => match file.make_ready() {
                Ok(()) => Probe::Scratch(file.scratch_path()),
                Err(_) => Probe::Fails,
            },
            Sink::Stream(stream) => match self.status.outage() {
                Some(outage) if stream.may_work(outage.error.reason()) => Probe::MayWork,
                _ => Probe::Fails,
            },
        }
    }
}
