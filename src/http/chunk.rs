//! Chunked transfer coding (RFC 9112, section 7.1): the line before a chunk, and the trailer section behind the last.

use super::{HEADERS_MAX, Refusal, bad, head_length};

/// Longest line before a chunk, extensions included. Without extensions it has at most 18 bytes.
const CHUNK_LINE_MAX: usize = 256;

/// The line before a chunk: its own length with the CRLF, and the chunk's size in bytes; `None` while it is not
/// complete. Extensions are read over.
pub fn chunk_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, Refusal> {
    let Some(at) = bytes.iter().take(CHUNK_LINE_MAX).position(|&b| b == b'\n') else {
        if bytes.len() >= CHUNK_LINE_MAX {
            return Err(bad("malformed chunk: its line is longer than 256 bytes"));
        }
        return Ok(None);
    };
    let line = bytes.get(..at).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(bad("malformed chunk: a line ends in LF without CR"))?;
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad("malformed chunk: its size"));
    }
    if line.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(bad("malformed chunk: a control byte in its extension"));
    }
    let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let size = size.ok_or(bad("malformed chunk: its size"))?;
    Ok(Some((at + 1, size)))
}

/// The length of the trailer section that `bytes` begins with, or `None` while it is not complete. Its fields are
/// thrown away.
pub fn trailer_length(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Some(2));
    }
    let Some(length) = head_length(bytes, 0)? else {
        return Ok(None);
    };
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(bytes.get(..length).unwrap_or_default(), &mut fields) {
        Ok(httparse::Status::Complete(_)) => Ok(Some(length)),
        _ => Err(bad("malformed trailer section")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_lines_hold_hex_digits_and_perhaps_an_extension() {
        assert_eq!(chunk_line(b"1a\r\n"), Ok(Some((4, 26))));
        assert_eq!(chunk_line(b"0;name=\"value\"\r\nrest"), Ok(Some((16, 0))));
        assert_eq!(chunk_line(b"ffffffffffffffff\r\n"), Ok(Some((18, u64::MAX))));
        assert_eq!(chunk_line(b"1a"), Ok(None));
        assert_eq!(chunk_line(b""), Ok(None));
        for line in ["", "+1", "-1", "0x1", " 1", "1 ", "1 ;a", "g", "10000000000000000", "1;\0", "1;a\rb"] {
            assert!(chunk_line(format!("{line}\r\n").as_bytes()).is_err(), "{line:?}");
        }
        assert!(chunk_line(b"1\n").is_err());
        assert!(chunk_line(&[b'0'; CHUNK_LINE_MAX]).is_err());
    }

    #[test]
    fn trailers_are_read_over() {
        assert_eq!(trailer_length(b"\r\nrest"), Ok(Some(2)));
        assert_eq!(trailer_length(b"A: b\r\n\r\nrest"), Ok(Some(8)));
        assert_eq!(trailer_length(b"A: b\r\n"), Ok(None));
        assert!(trailer_length(b"A b\r\n\r\n").is_err());
        assert!(trailer_length(b"\n").is_err());
    }
}
