//! Lines of a file, one at a time, for commands that read each file from its beginning to its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line that is read. The largest body that an API server was seen to send has 28 MB.
pub(super) const LONGEST: u64 = 256 * 1024 * 1024;

/// What is read at once.
const CHUNK: usize = 256 * 1024;

/// How a gzip file begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A line as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// With its newline, which only the last one of a file may lack.
    Whole(&'a [u8]),
    /// It has more bytes than are read.
    TooLong,
}

/// What is said of a line that is too long.
pub(super) const TOO_LONG: &str = "the line is longer than 256 MB, and was not read";

/// Opens a file, or standard input for `-`.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    Ok(if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) })
}

/// Calls `each` for each line with its number, from 1.
///
/// # Errors
/// Those of reading; and where the file is compressed, which no line of an audit log looks like.
pub(super) fn each(source: impl Read, mut each: impl FnMut(u64, Line<'_>)) -> io::Result<()> {
    let mut source = BufReader::with_capacity(CHUNK, source);
    if source.fill_buf()?.starts_with(&GZIP) {
        return Err(compressed());
    }
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if source.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
            source.skip_until(b'\n')?;
            each(number, Line::TooLong);
        } else {
            each(number, Line::Whole(&line));
        }
    }
    Ok(())
}

/// Fails if the file begins as a compressed one. Its position is not changed.
pub(super) fn refuse_compressed(file: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut begin = [0; GZIP.len()];
    match file.read_at(&mut begin, 0) {
        Ok(_) if begin == GZIP => Err(compressed()),
        // Whoever reads it will find out.
        _ => Ok(()),
    }
}

fn compressed() -> io::Error {
    io::Error::other("compressed by gzip; unpack it first, or pipe it in: zcat FILE | kube-audit-rest ... -")
}
