//! Finds where a string, a number or a word ends.
//!
//! Nearly all of the time that a body costs is spent here, and most of that in [`special`].

use super::Error;

/// After so many bytes of a string that are nearly all plain, many more are expected: base64, long lines of text.
const LONG: usize = 64;

/// The index behind the string whose opening quote stands at `at`. Bytes that are not UTF-8 are read over; if they are
/// the first, `not_utf8` is set to where they stand.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize, not_utf8: &mut Option<usize>) -> Result<usize, Error> {
    let mut at = at + 1;
    // Where reading went on after the last escape, or text that is not ASCII, that reached beyond its eight bytes.
    let mut plain = at;
    while let Some(eight) = bytes.get(at..at + 8).and_then(<[u8]>::first_chunk) {
        let mut special = special(u64::from_le_bytes(*eight));
        let mut next = at + 8;
        while special != 0 {
            let hit = at + (special.trailing_zeros() / 8) as usize;
            match bytes.get(hit) {
                Some(b'"') => return Ok(hit + 1),
                Some(b'\\') => {
                    let mut behind = escape(bytes, hit)?;
                    if behind >= next {
                        // Go escapes `<`, `>` and `&`, so in manifests embedded in strings escape often follows escape.
                        while bytes.get(behind) == Some(&b'\\') {
                            behind = escape(bytes, behind)?;
                        }
                        next = behind;
                        break;
                    }
                    special &= u64::MAX << (8 * (behind - at));
                }
                Some(0x80..) => {
                    next = not_ascii(bytes, hit, not_utf8);
                    break;
                }
                Some(0x20..) => special &= special - 1,
                _ => return error("a control character stands in a string", hit),
            }
        }
        if next != at + 8 {
            plain = next;
        } else if next - plain >= LONG {
            next = plain_text(bytes, next);
        }
        at = next;
    }
    string_end(bytes, at, not_utf8)
}

/// The index of the first special byte, or one a little before it. Sixteen bytes a step take half the time for a long
/// text, and longer for the short ones that most strings are.
#[inline(never)]
fn plain_text(bytes: &[u8], mut at: usize) -> usize {
    while let Some(sixteen) = bytes.get(at..at + 16).and_then(<[u8]>::first_chunk) {
        let both = u128::from_le_bytes(*sixteen);
        if special(both as u64) | special((both >> 64) as u64) != 0 {
            break;
        }
        at += 16;
    }
    at
}

/// [`string`] where less than eight bytes are left behind `at`.
#[inline(never)]
fn string_end(bytes: &[u8], mut at: usize, not_utf8: &mut Option<usize>) -> Result<usize, Error> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(bytes, at)?,
            Some(0x80..) => at = not_ascii(bytes, at, not_utf8),
            Some(0x20..) => at += 1,
            Some(_) => return error("a control character stands in a string", at),
            None => return error(Error::END, at),
        }
    }
}

/// Which of eight bytes are no plain text: the highest bit of each byte that is a quote, a backslash, a control
/// character or not ASCII. Behind such a byte others may be marked that are plain.
///
/// The bytes are looked at together, as the eight digits of one number. Each of the three terms has the highest bit of a
/// byte set for some of them: `byte ^ 2` is below 0x21 for a quote (0x22) and for every control character (below 0x20),
/// `byte ^ 0x5c` is below 1 for a backslash, and a byte that is not ASCII has its highest bit set anyway. Subtracting
/// borrows from the byte behind one that is marked, and so may mark that byte too.
#[inline(always)]
fn special(eight: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let quote_or_control = (eight ^ (EACH * 0x02)).wrapping_sub(EACH * 0x21);
    let backslash = (eight ^ (EACH * 0x5c)).wrapping_sub(EACH);
    (quote_or_control | backslash | eight) & (EACH * 0x80)
}

/// The index behind the escape whose backslash stands at `at`.
#[inline(always)]
fn escape(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let is_hex = u8::is_ascii_hexdigit;
    match bytes.get(at..).unwrap_or_default() {
        [_, b'u', a, b, c, d, ..] if is_hex(a) & is_hex(b) & is_hex(c) & is_hex(d) => Ok(at + 6),
        [_, letter, ..] if b"\"\\/bfnrt".contains(letter) => Ok(at + 2),
        _ => error("a broken escape", at),
    }
}

/// The index behind the characters beyond ASCII that begin at `at`: UTF8-2, UTF8-3 and UTF8-4 of RFC 3629, section 4.
/// The first byte that belongs to none of them is remembered in `not_utf8`, and like the others read over.
#[inline(never)]
fn not_ascii(bytes: &[u8], mut at: usize, not_utf8: &mut Option<usize>) -> usize {
    loop {
        at += match bytes.get(at..).unwrap_or_default() {
            [0xe1..=0xec | 0xee..=0xef, 0x80..=0xbf, 0x80..=0xbf, ..]
            | [0xe0, 0xa0..=0xbf, 0x80..=0xbf, ..]
            | [0xed, 0x80..=0x9f, 0x80..=0xbf, ..] => 3,
            [0xc2..=0xdf, 0x80..=0xbf, ..] => 2,
            [0xf1..=0xf3, 0x80..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
            | [0xf0, 0x90..=0xbf, 0x80..=0xbf, 0x80..=0xbf, ..]
            | [0xf4, 0x80..=0x8f, 0x80..=0xbf, 0x80..=0xbf, ..] => 4,
            [0x80..=0xff, ..] => {
                not_utf8.get_or_insert(at);
                1
            }
            _ => return at,
        };
    }
}

/// The index behind the number or word that begins at `at`.
#[inline(always)]
pub(super) fn scalar(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest {
        [b'-' | b'0'..=b'9', ..] => number(bytes, at),
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => Ok(at + 4),
        [b'f', b'a', b'l', b's', b'e', ..] => Ok(at + 5),
        _ => error("a value was expected", at),
    }
}

fn number(bytes: &[u8], mut at: usize) -> Result<usize, Error> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// The index behind the digits that begin at `at`, of which there must be at least one.
fn digits(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return error("a digit was expected", at);
    }
    Ok(at + count)
}

#[cold]
fn error(what: &'static str, at: usize) -> Result<usize, Error> {
    Err(Error { what, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds our reading of these bytes against the standard library's.
    fn agrees(bytes: &[u8]) {
        let quoted = [b"\"", bytes, b"\""].concat();
        let mut not_utf8 = None;
        assert_eq!(string(&quoted, 0, &mut not_utf8), Ok(quoted.len()), "{bytes:x?}");
        let wanted = str::from_utf8(bytes).err().map(|error| error.valid_up_to() + 1);
        assert_eq!(not_utf8, wanted, "{bytes:x?}");
    }

    #[test]
    fn every_start_of_a_character_gets_the_verdict_of_the_standard_library() {
        // The ends of every range in RFC 3629, and what lies beyond them.
        let ends = [0x7f, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xff];
        for first in 0x80..=0xff {
            agrees(&[first]);
            for second in 0x7f..=0xff {
                agrees(&[first, second]);
                for third in ends {
                    agrees(&[first, second, third]);
                    for fourth in ends {
                        agrees(&[first, second, third, fourth]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_text_is_found_wherever_it_stands_in_a_long_string() {
        const LENGTH: usize = 3 * LONG;
        for at in 1..LENGTH - 1 {
            let read = |bytes: &[u8]| {
                let mut text = [b"\"", [b'a'; LENGTH].as_slice(), b"\""].concat();
                text.get_mut(at..at + bytes.len()).unwrap().copy_from_slice(bytes);
                let mut not_utf8 = None;
                (string(&text, 0, &mut not_utf8), not_utf8)
            };
            assert_eq!(read(b"\""), (Ok(at + 1), None));
            assert_eq!(read(b"\\n"), (Ok(LENGTH + 2), None));
            assert_eq!(read(b"\xff"), (Ok(LENGTH + 2), Some(at)));
            assert_eq!(read(b"\x1f"), (error("a control character stands in a string", at), None));
            assert_eq!(read(b"\\x"), (error("a broken escape", at), None));
        }
    }

    #[test]
    fn characters_of_every_length_are_read_one_after_the_other() {
        for text in ["\u{e9}\u{4e2d}\u{1f600}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "\u{d7ff}a\u{e000}\u{80}"] {
            for end in 0..=text.len() {
                agrees(text.as_bytes().get(..end).unwrap());
                agrees(text.as_bytes().get(end..).unwrap());
            }
        }
    }
}
