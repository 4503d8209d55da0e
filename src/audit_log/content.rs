//! What a file holds: whether it is a log of ours, where its last whole line ends, and what a power cut has left in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::fs::Fs;
use super::open::Identity;

/// Bytes that are read at once; on the heap, since the threads that append have small stacks.
const CHUNK: usize = 64 << 10;

/// How many bytes of a log, counted from its end, are looked through for NULs at the start. The kernel writes out what
/// is older than 35 s, so a power cut leaves holes further up only if the log grows by 7 MB/s or more.
pub(super) const SCANNED: u64 = 256 << 20;

/// The same while the program runs: only a torn line at the end.
pub(super) const TORN_TAIL: u64 = 0;

/// Where the line begins in which `end` lies: just behind the last newline before `end`, or 0 if there is none.
pub(super) fn line_start(fs: &Fs, file: &File, end: u64) -> io::Result<u64> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(0);
    };
    // Most files end with a newline, and no more than that is read of them.
    if read(fs, file, &mut [0], last, end)? == b"\n" {
        return Ok(end);
    }
    let mut chunk = vec![0; CHUNK];
    let mut to = last;
    while to > 0 {
        let from = to.saturating_sub(CHUNK as u64);
        let bytes = read(fs, file, &mut chunk, from, to)?;
        if let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + newline as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

/// Reads what stands between `from` and `to`, [`CHUNK`] bytes at most.
fn read<'a>(fs: &Fs, file: &File, chunk: &'a mut [u8], from: u64, to: u64) -> io::Result<&'a [u8]> {
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(CHUNK).min(CHUNK);
    let bytes = chunk.get_mut(..length).unwrap_or_default();
    fs.read_exact_at(file, bytes, from)?;
    Ok(bytes)
}

/// Whether exactly `bytes` stand at `at`.
fn holds(fs: &Fs, file: &File, bytes: &[u8], at: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    let mut from = at;
    for part in bytes.chunks(CHUNK) {
        let to = from + part.len() as u64;
        if read(fs, file, &mut chunk, from, to)? != part {
            return Ok(false);
        }
        from = to;
    }
    Ok(true)
}

/// Whether a file of `length` bytes ends with `lines`, which begin where a line does.
pub(super) fn ends_with(fs: &Fs, file: &File, length: u64, lines: &[u8]) -> io::Result<bool> {
    let Some(begin) = length.checked_sub(lines.len() as u64) else {
        return Ok(false);
    };
    Ok(holds(fs, file, lines, begin)? && line_start(fs, file, begin)? == begin)
}

/// Cuts off what a failed append has left at a file's end. Before it the file was `begin` bytes long, and ended with a
/// whole line; then `written` was added.
///
/// A file that is shorter than it should be was truncated meanwhile: what is left of `written` is cut off, and with it
/// the torn line that the truncation may have left before it. No file is ever made longer, which would leave a hole of
/// NULs. What ends a truncated file and is byte for byte the same as `written` is taken for it, though an earlier append
/// may have written it, as with Events that an API server sends twice. Returns the length that the file has then.
///
/// # Errors
/// The file's end is in doubt, and it must not be written or cut again.
pub(super) fn cut_back(fs: &Fs, file: &File, begin: u64, written: &[u8]) -> io::Result<u64> {
    let length = fs.metadata_of(file)?.len();
    let mut whole = line_start(fs, file, begin.min(length))?;
    let added = written.len() as u64;
    if length < begin + added
        && let Some(at) = length.checked_sub(added)
        && holds(fs, file, written, at)?
    {
        whole = whole.min(line_start(fs, file, at)?);
    }
    if whole < length {
        cut_to(fs, file, whole)?;
    }
    Ok(whole)
}

/// Cuts a file to `whole` bytes, where a line ends, and checks that this has worked.
fn cut_to(fs: &Fs, file: &File, whole: u64) -> io::Result<()> {
    fs.set_len(file, whole)?;
    // If somebody truncated it just before, the cut has made it longer instead, and it ends in NULs.
    if fs.metadata_of(file)?.len() != whole || line_start(fs, file, whole)? != whole {
        return Err(io::Error::other("it is not what it was cut to"));
    }
    Ok(())
}

/// What a power cut or a crash had left in a file, and what it was mended to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Bytes of a torn line, or NULs, cut off the end.
    pub(super) cut: u64,
    /// Bytes of damaged lines further up, blanked to `{}`.
    pub(super) blanked: u64,
}

/// Leaves nothing but whole lines in a log of `length` bytes. A last line without a newline is cut off, if it begins
/// like a line of ours or with a NUL. In its last `scanned` bytes, a line that holds a NUL becomes `{}` and blanks.
///
/// # Errors
/// A file that does not begin, or end, as a log of ours is left as it is: the error says what was found.
pub(super) fn mend(fs: &Fs, path: &Path, file: &File, length: u64, scanned: u64) -> io::Result<Mended> {
    let mut chunk = vec![0; CHUNK];
    let first = read(fs, file, &mut chunk, 0, length.min(2))?;
    // The original program wrote empty lines now and then, and `blank` makes a 0 of a line that is a single NUL.
    if !matches!(first, [] | [b'{' | b'\n' | 0, ..] | [b'0'] | [b'0', b'\n']) {
        return Err(foreign("begins with", read(fs, file, &mut chunk, 0, length.min(SHOWN))?));
    }
    let mut mended = Mended::default();
    let torn = line_start(fs, file, length)?;
    let tail = read(fs, file, &mut chunk, torn, length.min(torn + CHUNK as u64))?;
    // So begin lines of ours, blanked ones too, as far as a power cut has left their first bytes.
    if !matches!(tail, [] | [0, ..] | [b'{' | b'0'] | [b'{', b'"' | b'}' | 0, ..]) {
        let shown = tail.get(..SHOWN as usize).unwrap_or(tail);
        return Err(foreign("ends, without a newline, with", shown));
    }
    let from = line_start(fs, file, torn.saturating_sub(scanned))?;
    for (start, end) in damaged_lines(fs, file, from, torn)? {
        blank(fs, path, file, start, end)?;
        mended.blanked += end - start;
    }
    if torn < length {
        cut_to(fs, file, torn)?;
        mended.cut = length - torn;
    }
    Ok(mended)
}

/// Bytes of a foreign file that the error shows.
const SHOWN: u64 = 40;

fn foreign(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::other(format!("{what} \"{}\", which is no audit log's, so it is left alone", bytes.escape_ascii()))
}

/// The lines between `from` and `to`, which both lie between two lines, that hold a NUL: where each begins and where
/// its newline is.
fn damaged_lines(fs: &Fs, file: &File, from: u64, to: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut chunk = vec![0; CHUNK];
    let mut damaged = Vec::new();
    let (mut at, mut start, mut has_nul) = (from, from, false);
    while at < to {
        for byte in read(fs, file, &mut chunk, at, to)? {
            match byte {
                0 => has_nul = true,
                b'\n' => {
                    if has_nul {
                        damaged.push((start, at));
                    }
                    (start, has_nul) = (at + 1, false);
                }
                _ => {}
            }
            at += 1;
        }
    }
    Ok(damaged)
}

/// Overwrites the line between `start` and `end` with `{}` and blanks.
fn blank(fs: &Fs, path: &Path, file: &File, start: u64, end: u64) -> io::Result<()> {
    let writable = fs.open(OpenOptions::new().write(true), path)?;
    if Identity::of(&fs.metadata_of(&writable)?) != Identity::of(&fs.metadata_of(file)?) {
        return Err(io::Error::other("was replaced while it was being mended"));
    }
    let blanks = vec![b' '; CHUNK];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        fs.write_all_at(&writable, blanks.get(..length).unwrap_or_default(), at)?;
        at += length as u64;
    }
    // A single NUL leaves room for no object.
    let empty: &[u8] = if end - start < 2 { b"0" } else { b"{}" };
    fs.write_all_at(&writable, empty, start)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mended(content: &[u8]) -> (io::Result<Mended>, Vec<u8>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let fs = Fs::default();
        let opened = OpenOptions::new().read(true).append(true).open(file.path()).unwrap();
        let mended = mend(&fs, file.path(), &opened, content.len() as u64, SCANNED);
        (mended, std::fs::read(file.path()).unwrap())
    }

    #[test]
    fn what_a_power_cut_leaves_at_the_end_is_cut_off() {
        for tail in [&b"{"[..], b"{\"", b"{\"b\":", b"{\"b\":\0\0\0", b"{\0\0", b"\0", &[0; 100_000]] {
            let (mended, left) = mended(&[b"{\"a\":1}\n", tail].concat());
            assert_eq!(mended.unwrap(), Mended { cut: tail.len() as u64, blanked: 0 });
            assert_eq!(left, b"{\"a\":1}\n");
        }
        assert_eq!(mended(&[0; 5000]).1, b"");
        assert_eq!(mended(b"").0.unwrap(), Mended::default());
    }

    #[test]
    fn a_hole_of_nuls_with_whole_lines_behind_it_becomes_blank_lines_and_costs_no_other_line() {
        let hole = vec![0; 200_000];
        let content = [b"{\"a\":1}\n{\"to", &hole[..], b"rn\"}\n{\"b\":2}\n\0\n", b"{\"c\":3}\n{\"d"].concat();
        let (mended, left) = mended(&content);
        assert_eq!(mended.unwrap(), Mended { cut: 3, blanked: 200_009 });
        let lines: Vec<&[u8]> = left.split(|byte| *byte == b'\n').collect();
        assert_eq!((lines[0], lines[2], lines[4]), (&b"{\"a\":1}"[..], &b"{\"b\":2}"[..], &b"{\"c\":3}"[..]));
        for line in &lines[..5] {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
        assert_eq!(lines[5], b"");
    }

    #[test]
    fn a_file_that_is_not_a_log_is_left_as_it_is_and_the_error_shows_what_was_found() {
        for (content, shown) in [
            (&b"key=1\nlast line without newline"[..], "begins with \"key=1\\nlast"),
            (b"{\"a\":1}\nexport PATH", "ends, without a newline, with \"export PATH\""),
            (b"\x7fELF\x02\0\0\0", "begins with \"\\x7fELF"),
            (b"{ }", "ends, without a newline, with \"{ }\""),
        ] {
            let (mended, left) = mended(content);
            let error = mended.unwrap_err().to_string();
            assert!(error.contains(shown), "{error}");
            assert_eq!(left, content);
        }
    }

    #[test]
    fn a_cut_takes_what_was_written_and_no_other_line_even_if_the_file_was_truncated_meanwhile() {
        for (content, begin, left) in [
            ("a\nb\nxx\nyy\n", 4, "a\nb\n"),
            ("a\nb\nxx\nyy\nfrom somebody else\n", 4, "a\nb\n"),
            // Truncated before the write, at the end of a line or within one.
            ("a\nxx\nyy\n", 4, "a\n"),
            ("a\nxx\nyy\n", 40, "a\n"),
            ("a\nbxx\nyy\n", 40, "a\n"),
            // A line that ends as ours do is another.
            ("a\nyy\n", 40, "a\nyy\n"),
            ("ayy\n", 40, "ayy\n"),
            // And after it.
            ("a\nb\nxx\nyy", 4, "a\nb\n"),
            ("a\nb\nx", 4, "a\nb\n"),
            ("a\nb", 4, "a\n"),
            ("", 4, ""),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let length = cut_back(&Fs::default(), file.as_file(), begin, b"xx\nyy\n").unwrap();
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), left, "{content:?} {begin}");
            assert_eq!(length, left.len() as u64);
        }
    }
}
