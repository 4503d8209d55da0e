//! A log that is no regular file: a FIFO, a device, standard output. It is written, and never rotated, locked,
//! truncated or synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{AppendError, OpenError};
use super::fs::Fs;
use crate::diagnostics::Diagnostics;

const O_NONBLOCK: i32 = 0o4000;
/// The error of opening a FIFO for writing that nobody has opened for reading.
const ENXIO: i32 = 6;

/// How long the start waits for a FIFO's reader.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
const READER_POLL: Duration = Duration::from_millis(50);

/// How long an append waits for a full pipe that was handed to us in non-blocking mode. A blocking one slows the
/// appends down instead, as long as it takes.
const FULL_TIMEOUT: Duration = Duration::from_secs(1);
const FULL_POLL: Duration = Duration::from_millis(1);

/// A log that cannot be cut back.
#[derive(Debug)]
pub(super) struct Stream {
    fs: Fs,
    file: File,
    /// For messages.
    name: String,
    /// Of a FIFO: where to look whether it has a reader again.
    fifo: Option<PathBuf>,
    /// The end of a line whose beginning was written before a failure. It goes out before anything else, so that no
    /// line is ever glued to a torn one.
    rest: Vec<u8>,
}

impl Stream {
    pub(super) fn stdout(fs: Fs) -> Result<Self, OpenError> {
        let name = "standard output";
        let file = std::io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| OpenError::io(Path::new(name), error))?;
        Ok(Self {
            fs,
            file: File::from(file),
            name: name.to_owned(),
            fifo: None,
            rest: Vec::new(),
        })
    }

    /// Opens what `path` names. A FIFO without a reader is waited for, with a word, and then given up.
    pub(super) fn open(fs: Fs, path: &Path, diagnostics: &Diagnostics) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(path, error);
        let is_fifo = fs.metadata(path).map_err(failed)?.file_type().is_fifo();
        if is_fifo {
            await_reader(&fs, path, diagnostics, READER_TIMEOUT)?;
        }
        // Opening for append matters where /dev/stdout is a regular file.
        let file = fs
            .open(OpenOptions::new().append(true), path)
            .map_err(failed)?;
        Ok(Self {
            fs,
            file,
            name: path.display().to_string(),
            fifo: is_fifo.then(|| path.to_owned()),
            rest: Vec::new(),
        })
    }

    /// Writes whole lines. What had gone out before a failure cannot be taken back; if that ends within a line, the
    /// line is completed by the next append.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let rest = std::mem::take(&mut self.rest);
        let (written, outcome) = self.write(&rest);
        self.rest = rest;
        self.rest.drain(..written);
        outcome?;
        let (written, outcome) = self.write(lines);
        if outcome.is_err() {
            self.rest = end_of_torn_line(lines, written).to_vec();
        }
        outcome
    }

    /// How many bytes went out, and whether all did.
    fn write(&self, bytes: &[u8]) -> (usize, Result<(), AppendError>) {
        let mut written = 0;
        let mut full_since = None;
        while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
            let error = match self.fs.write(&self.file, left) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    written += count;
                    full_since = None;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let full = error.kind() == io::ErrorKind::WouldBlock;
            if full && full_since.get_or_insert_with(Instant::now).elapsed() < FULL_TIMEOUT {
                std::thread::sleep(FULL_POLL);
                continue;
            }
            return (written, Err(AppendError::write(&self.name, &error)));
        }
        (written, Ok(()))
    }

    /// After a failure, whether the next append may succeed as far as can be told without writing a line: a FIFO has a
    /// reader again, a full pipe may have been read from. Standard output whose reader is gone stays so.
    pub(super) fn may_work(&self, failed_with_broken_pipe: bool) -> bool {
        match &self.fifo {
            Some(path) => has_reader(&self.fs, path).unwrap_or(false),
            None => !failed_with_broken_pipe,
        }
    }
}

/// What of the line that `written` bytes of `lines` end in is still to be written: nothing if they end with a line.
fn end_of_torn_line(lines: &[u8], written: usize) -> &[u8] {
    let Some((out, left)) = lines.split_at_checked(written) else {
        return &[];
    };
    if out.last().is_none_or(|byte| *byte == b'\n') {
        return &[];
    }
    left.split_inclusive(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default()
}

fn has_reader(fs: &Fs, fifo: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(O_NONBLOCK);
    match fs.open(&options, fifo) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ENXIO) => Ok(false),
        Err(error) => Err(error),
    }
}

fn await_reader(
    fs: &Fs,
    fifo: &Path,
    diagnostics: &Diagnostics,
    timeout: Duration,
) -> Result<(), OpenError> {
    let began = Instant::now();
    let mut said = false;
    while !has_reader(fs, fifo).map_err(|error| OpenError::io(fifo, error))? {
        if !said {
            said = true;
            diagnostics.warn(
                "nobody reads from the audit log's FIFO; waiting for a reader",
                &[
                    ("path", (&fifo.display().to_string()).into()),
                    ("seconds", timeout.as_secs().into()),
                ],
            );
        }
        if began.elapsed() >= timeout {
            return Err(OpenError::NoReader(fifo.to_owned()));
        }
        std::thread::sleep(READER_POLL);
    }
    Ok(())
}
