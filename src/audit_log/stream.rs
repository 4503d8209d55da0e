//! A log that is no regular file: a FIFO, a device, standard output. It is written, and never rotated, locked,
//! truncated or synced.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::chain::{self, Chain, Lines, Marking, Residue};
use super::error::{AppendError, OpenError};
use super::fs::Fs;
use super::open::{Identity, O_NONBLOCK};
use super::status::LogStatus;
use crate::observe::labels::AppendFault;

#[cfg(test)]
mod tests;

/// The error of opening a FIFO for writing that nobody has opened for reading.
const ENXIO: i32 = 6;

/// How long an append waits for a full pipe that was handed to us in non-blocking mode. A blocking one slows the
/// appends down instead, as long as it takes.
const FULL_TIMEOUT: Duration = Duration::from_secs(1);
const FULL_POLL: Duration = Duration::from_millis(1);

/// Bytes of one write: as much as a pipe holds by default, so that a reader's progress shows.
const PIECE: usize = 64 << 10;

/// A log that cannot be cut back.
#[derive(Debug)]
pub(super) struct Stream {
    fs: Fs,
    /// `None` for a FIFO that nobody has read from since the start.
    file: Option<File>,
    /// For messages.
    name: String,
    /// The path of a FIFO: where to look whether it has a reader again.
    fifo: Option<PathBuf>,
    status: Arc<LogStatus>,
    /// The end of a line whose beginning was written before a failure. It goes out before anything else, so that no
    /// line is ever glued to a torn one.
    rest: Vec<u8>,
}

impl Stream {
    pub(super) fn stdout(fs: Fs, status: Arc<LogStatus>) -> Result<Self, OpenError> {
        let name = "standard output";
        let failed = |error| OpenError::io(Path::new(name), error);
        let inherited = std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        let inherited = File::from(inherited);
        let metadata = inherited.metadata().map_err(failed)?;
        let messages = std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let messages = File::from(messages).metadata().map_err(failed)?;
        let is_shared = Identity::of(&messages) == Identity::of(&metadata);
        let file = if leads_nowhere(&metadata) {
            return Err(OpenError::Stdout("is closed or /dev/null: audit lines would be lost"));
        } else if metadata.is_file() && !is_appending().map_err(failed)? {
            // Not opened for appending, it would be written at an offset of ours, and have a hole of NULs once somebody
            // truncates it. It is opened again for appending, unless the messages go there too, at such an offset.
            if is_shared {
                return Err(OpenError::Stdout("is the same file as standard error: redirect with >> instead of >"));
            }
            fs.open(OpenOptions::new().append(true), Path::new("/proc/self/fd/1")).map_err(failed)?
        } else {
            inherited
        };
        if is_shared {
            status
                .diagnostics
                .warn("standard output is also standard error: messages may stand within audit lines", &[]);
        }
        Ok(Self { fs, file: Some(file), name: name.to_owned(), fifo: None, status, rest: Vec::new() })
    }

    /// Opens what `path` names. While nobody reads from a FIFO appends fail, as they do once its last reader has gone.
    pub(super) fn open(fs: Fs, path: &Path, status: Arc<LogStatus>) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(path, error);
        let is_fifo = std::fs::metadata(path).map_err(failed)?.file_type().is_fifo();
        let file = if is_fifo {
            open_if_read(&fs, path).map_err(failed)?
        } else {
            // /dev/stdout may be a regular file, which must be written at its end.
            Some(fs.open(OpenOptions::new().append(true), path).map_err(failed)?)
        };
        let fifo = is_fifo.then(|| path.to_owned());
        let name = path.display().to_string();
        if file.is_none() {
            status.failed(&AppendError::write(&name, &no_reader()), 0);
        }
        Ok(Self { fs, file, name, fifo, status, rest: Vec::new() })
    }

    /// Writes whole lines. What had gone out before a failure cannot be taken back; if that ends within a line, the
    /// line is completed by the next append.
    ///
    /// With a chain each gets its `chain` member. Returns the number of bytes written.
    pub(super) fn append(&mut self, mut lines: Lines<'_>, chain: Option<&mut Chain>) -> Result<usize, AppendError> {
        let rest = std::mem::take(&mut self.rest);
        let (written, outcome) = self.write(&rest);
        self.rest = rest;
        self.rest.drain(..written);
        outcome?;
        chain::write(chain, &mut lines, Marking::Done, |lines| self.append_whole(lines))
    }

    /// Says of lines that failed whether anything of them went out.
    fn append_whole(&mut self, lines: &[u8]) -> Result<usize, (Residue, AppendError)> {
        let (written, outcome) = self.write(lines);
        outcome.map(|()| written).map_err(|error| {
            self.rest = end_of_torn_line(lines, written).to_vec();
            (if written == 0 { Residue::None } else { Residue::Possible }, error)
        })
    }

    /// How many bytes went out, and whether all did.
    fn write(&self, bytes: &[u8]) -> (usize, Result<(), AppendError>) {
        let Some(file) = &self.file else {
            return (0, Err(AppendError::write(&self.name, &no_reader())));
        };
        let mut written = 0;
        let mut full_since = None;
        while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
            self.status.stream_waits();
            let outcome = self.fs.write(file, left.get(..PIECE).unwrap_or(left));
            self.status.stream_goes_on();
            let error = match outcome {
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

    /// After a failure for this reason, whether the next append may succeed as far as can be told without writing a line:
    /// a FIFO has a reader again, a full pipe may have been read from. Standard output whose reader is gone stays so.
    pub(super) fn may_work(&mut self, failure: AppendFault) -> bool {
        match self.fifo {
            Some(_) => self.follow().is_ok(),
            None => failure != AppendFault::BrokenPipe,
        }
    }

    /// Opens a FIFO anew if SIGHUP came. What is no FIFO cannot have been replaced.
    pub(super) fn look(&mut self) {
        if self.status.reopen.swap(false, Relaxed)
            && self.fifo.is_some()
            && let Err(error) = self.follow()
        {
            self.status.warn("cannot open the audit log anew", &self.name, &error.to_string());
        }
    }

    /// Opens the FIFO if it is not open yet. A reader may have replaced it by one of its own: that is written from now on.
    fn follow(&mut self) -> io::Result<()> {
        let Some(path) = &self.fifo else {
            return Err(io::Error::other("it is no FIFO"));
        };
        let found = open_if_read(&self.fs, path)?.ok_or_else(no_reader)?;
        let metadata = self.fs.metadata_of(&found)?;
        if !metadata.file_type().is_fifo() {
            return Err(io::Error::other("it is no FIFO any more"));
        }
        if let Some(file) = &self.file {
            if Identity::of(&metadata) == Identity::of(&self.fs.metadata_of(file)?) {
                return Ok(());
            }
            // The reader of the other FIFO has the beginning of that line.
            self.rest.clear();
            self.status.opened_anew(&self.name);
        }
        self.file = Some(found);
        Ok(())
    }
}

/// Whether this is /dev/null. The standard library opens it in the place of a standard output that is closed.
fn leads_nowhere(output: &Metadata) -> bool {
    std::fs::metadata("/dev/null").is_ok_and(|null| output.file_type().is_char_device() && output.rdev() == null.rdev())
}

/// Whether standard output is open for appending (proc_pid_fdinfo(5): flags, octal).
fn is_appending() -> io::Result<bool> {
    const O_APPEND: u32 = 0o2000;
    let text = std::fs::read_to_string("/proc/self/fdinfo/1")?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    Ok(flags.is_some_and(|flags| flags & O_APPEND != 0))
}

/// The rest of the line in which the first `written` bytes of `lines` end; nothing if they end with a whole line.
fn end_of_torn_line(lines: &[u8], written: usize) -> &[u8] {
    let Some((out, left)) = lines.split_at_checked(written) else {
        return &[];
    };
    if out.last().is_none_or(|byte| *byte == b'\n') {
        return &[];
    }
    left.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// Opens the FIFO for writing if somebody has it open for reading. Only writes to it wait for that reader.
fn open_if_read(fs: &Fs, fifo: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(O_NONBLOCK);
    match fs.open(&options, fifo) {
        Ok(file) => {
            // The standard library can do this to sockets only; the kernel does it to any file (FIONBIO, ioctl(2)).
            let file = UnixStream::from(OwnedFd::from(file));
            file.set_nonblocking(false)?;
            Ok(Some(File::from(OwnedFd::from(file))))
        }
        Err(error) if error.raw_os_error() == Some(ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The error of appends while nobody reads from the FIFO: of the kind that a write has when its last reader has gone.
fn no_reader() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads from this FIFO")
}
