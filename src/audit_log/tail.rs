//! The end of a file of lines: where the last whole line ends, and what stands behind a place.

use std::fs::File;
use std::io;

use super::fs::Fs;

const CHUNK: usize = 64 << 10;

/// Where the last line that is whole before `end` ends: just behind its newline, 0 if there is none.
pub(super) fn line_start(fs: &Fs, file: &File, end: u64) -> io::Result<u64> {
    let mut last = [0];
    let Some(before) = end.checked_sub(1) else {
        return Ok(0);
    };
    fs.read_exact_at(file, &mut last, before)?;
    if last == [b'\n'] {
        return Ok(end);
    }
    let mut chunk = vec![0; CHUNK];
    let mut to = before;
    while to > 0 {
        let from = to.saturating_sub(CHUNK as u64);
        let length = usize::try_from(to - from).unwrap_or(CHUNK);
        let bytes = chunk.get_mut(..length).unwrap_or_default();
        fs.read_exact_at(file, bytes, from)?;
        if let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + newline as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

/// Cuts off what stands behind the last newline of a file `length` bytes long; returns how many bytes that were.
pub(super) fn cut(fs: &Fs, file: &File, length: u64) -> io::Result<u64> {
    let whole = line_start(fs, file, length)?;
    if whole < length {
        fs.set_len(file, whole)?;
    }
    Ok(length - whole)
}

/// Whole lines that stand between `from` and `to`, both at the end of a line: at least one, and not many more than fill
/// a chunk.
pub(super) fn lines(fs: &Fs, file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut length = CHUNK.min(most);
    loop {
        let mut bytes = vec![0; length];
        fs.read_exact_at(file, &mut bytes, from)?;
        if length < most {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n');
            bytes.truncate(whole.map_or(0, |newline| newline + 1));
        }
        if !bytes.is_empty() {
            return Ok(bytes);
        }
        length = length.saturating_mul(2).min(most);
    }
}
