//! Chunked transfer coding (RFC 9112, section 7.1): the line before a chunk, and the trailer section behind the last.

use super::{HEADERS_MAX, Refusal, bad, head_length};

/// Longest line before a chunk, extensions included. Without extensions it has at most 18 bytes.
const CHUNK_LINE_MAX: usize = 256;

/// The line before a chunk: its own length with the CRLF, and the chunk's size in bytes; `None` while it is not
/// complete. Well-formed extensions are ignored (RFC 9112, section 7.1.1), but for white space around them, which that
/// section calls bad and which is refused.
pub fn chunk_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, Refusal> {
    let Some(at) = bytes.iter().take(CHUNK_LINE_MAX).position(|&b| b == b'\n') else {
        if bytes.len() >= CHUNK_LINE_MAX {
            return Err(bad("malformed chunk: its line is longer than 256 bytes"));
        }
        return Ok(None);
    };
    let line = bytes.get(..at).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(bad("malformed chunk: a line ends in LF without CR"))?;
    let (digits, extensions) = split_where(line, |b| !b.is_ascii_hexdigit());
    // Without digits there is nothing to parse, and more than 16 of them can be too large.
    let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let size = size.ok_or(bad("malformed chunk: its size"))?;
    if !are_extensions(extensions) {
        return Err(bad("malformed chunk: its size or extension"));
    }
    Ok(Some((at + 1, size)))
}

/// Whether this is `*( ";" token [ "=" ( token / quoted-string ) ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    while let Some(extension) = rest.strip_prefix(b";") {
        let (name, after) = split_where(extension, |b| !is_token(b));
        let after_value = match after.strip_prefix(b"=") {
            None => Some(after),
            Some(value) => match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted_string(quoted),
                None => match split_where(value, |b| !is_token(b)) {
                    ([], _) => None,
                    (_, after) => Some(after),
                },
            },
        };
        match after_value {
            Some(after) if !name.is_empty() => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// What follows the closing quote of a quoted string (RFC 9110, section 5.6.4) whose opening quote was read.
fn after_quoted_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            _ => return None,
        };
    }
}

/// Whether the byte may stand in a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The bytes before the first for which `ends` is true, and the rest.
fn split_where(bytes: &[u8], ends: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|&b| ends(b)).unwrap_or(bytes.len()))
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
    fn chunk_extensions_are_ignored_where_their_grammar_is_kept() {
        for extensions in [
            ";a",
            ";a=b",
            ";a;b;c=d",
            ";a=\"\"",
            ";a=\"b;c=\\\"d\\\\\";e",
            ";a=\"\t !~\u{e9}\\\t\"",
            ";!#$%&'*+-.^_`|~09azAZ=x",
        ] {
            let line = format!("1{extensions}\r\n");
            assert_eq!(chunk_line(line.as_bytes()), Ok(Some((line.len(), 1))), "{extensions:?}");
        }
        for extensions in [
            ";",
            ";;a",
            ";a;",
            ";=b",
            ";a=",
            ";a=;b",
            ";a=b=c",
            ";a b",
            "; a",
            ";a ",
            ";a =b",
            ";a= b",
            ";bad[=x",
            ";a=b]",
            ";a=\"b",
            ";a=\"b\"c",
            ";a=b\"c\"",
            ";a=\"b\\",
            ";a=\"b\\\"",
            ";a=\"\u{7f}\"",
            ";a=\"\u{1}\"",
            ";a=\"\\\u{1}\"",
            ";\u{e9}",
            "\t;a",
            "a[",
        ] {
            assert!(chunk_line(format!("1{extensions}\r\n").as_bytes()).is_err(), "{extensions:?}");
        }
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
