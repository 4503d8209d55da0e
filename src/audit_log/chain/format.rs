//! What a chain is made of, without state: the hashes, and the `chain` member at a line's end, written and read.
//!
//! ```text
//! content = the line's bytes before `,"chain":`        d = SHA-256(content)
//! h(0)    = SHA-256("kar-chain-1\n" | ID | FROM)
//! h(n)    = SHA-256("kar-chain-1\n" | h(n-1) | ID | n as u64, big-endian | kind | d)
//! SIG     = Ed25519("kar-head-1\n" | ID | n as u64, big-endian | h(n))
//! member  = ID/n/HASH  or  ID/n/HASH/PREV  or  ID/n/HASH/PREV/SIG, and for n = 1 also  :FROM
//! ```
//!
//! HASH is h(n), PREV h(n-1), both in base64url without padding (RFC 4648, section 5), ID 16 hexadecimal digits. kind is
//! one byte: 0 for a line without PREV, 1 with PREV, 2 with PREV and SIG. FROM is the last line before the ID began,
//! `ID/n/HASH`, or `none`. It is `ID/0/h(0)` after an ID that followed nothing and of which no line was kept.

use std::io::Write as _;

use ring::digest::{Context, SHA256, digest};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// An Ed25519 signature (RFC 8032).
pub(crate) type Signature = [u8; 64];

const CHAIN: &[u8] = b"kar-chain-1\n";
const HEAD: &[u8] = b"kar-head-1\n";

/// Begins the member.
const MEMBER: &[u8] = b",\"chain\":\"";
/// Ends it, and the line.
const END: &[u8] = b"\"}";

/// Bytes of the longest member with what ends the line: two points, two hashes, a signature, and the marks between.
pub(crate) const LONGEST: usize = 384;

/// The name of one uninterrupted sequence of lines: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id([u8; 16]);

/// A line's place: its ID, its number under it, from 1, and the hash that covers it and all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) id: Id,
    pub(crate) sequence: u64,
    pub(crate) hash: Digest,
}

/// What a line says beside its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing more.
    Plain,
    /// The hash before it, so that the line can be checked without the one before.
    Previous(Digest),
    /// The hash before it, and a signature of the line's place.
    Signed(Digest, Signature),
}

/// What the first line of an ID follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No chained line was found.
    Nothing,
    /// The last one that was found, or kept.
    After(Point),
}

/// A line's `chain` member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) point: Point,
    pub(crate) mark: Mark,
    /// On the first line of an ID and on no other.
    pub(crate) origin: Option<Origin>,
}

impl Id {
    pub(crate) fn new(bytes: [u8; 8]) -> Self {
        let mut digits = [0; 16];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        }
        Self(digits)
    }

    /// Another ID, which nobody else has.
    pub(crate) fn next(self) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256(&[CHAIN, b"next", &self.0]);
        Self::new([a, b, c, d, e, f, g, h])
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 16] = text.try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

impl Point {
    /// What is signed of it.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        [HEAD, &self.id.0, &self.sequence.to_be_bytes(), &self.hash].concat()
    }
}

/// A head as it is handed out, `ID/SEQ/HASH` or `ID/SEQ/HASH/SIG`.
pub(crate) fn head_text(point: &Point, signature: Option<&Signature>) -> String {
    let mut text = Vec::new();
    push_point(&mut text, point);
    if let Some(signature) = signature {
        text.push(b'/');
        push_base64(&mut text, signature);
    }
    String::from_utf8(text).unwrap_or_default()
}

pub(crate) fn parse_head(text: &[u8]) -> Option<(Point, Option<Signature>)> {
    let mut words = text.split(|byte| *byte == b'/');
    let point = point_of(&mut words)?;
    let signature = match words.next() {
        Some(word) => Some(base64(word)?),
        None => None,
    };
    words.next().is_none().then_some((point, signature))
}

/// `ID/SEQ`.
pub(crate) fn parse_place(text: &[u8]) -> Option<(Id, u64)> {
    let (id, sequence) = text.split_at_checked(16)?;
    Some((Id::parse(id)?, number(sequence.strip_prefix(b"/")?)?))
}

/// The digest of a line's content: of all bytes of a line without a chain but the closing brace.
pub(crate) fn digest_of(content: &[u8]) -> Digest {
    // SHA-256 has 32 bytes.
    digest(&SHA256, content).as_ref().try_into().unwrap_or_default()
}

/// h(0).
pub(crate) fn first_hash(id: Id, origin: &Origin) -> Digest {
    let mut from = Vec::new();
    push_origin(&mut from, origin);
    sha256(&[CHAIN, &id.0, &from])
}

impl Mark {
    fn kind(&self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Previous(_) => 1,
            Self::Signed(..) => 2,
        }
    }

    /// PREV.
    pub(crate) fn previous(&self) -> Option<&Digest> {
        match self {
            Self::Plain => None,
            Self::Previous(previous) | Self::Signed(previous, _) => Some(previous),
        }
    }
}

/// h(n). Of `mark` only the kind counts, so that the hash is known before it is signed.
pub(crate) fn next_hash(previous: &Digest, id: Id, sequence: u64, mark: &Mark, content: &Digest) -> Digest {
    let parts: [&[u8]; 6] = [CHAIN, previous, &id.0, &sequence.to_be_bytes(), &[mark.kind()], content];
    // Hashed at once, which takes half the time of one part after the other.
    let mut bytes = [0; CHAIN.len() + 32 + 16 + 8 + 1 + 32];
    let mut rest = bytes.as_mut_slice();
    for part in parts {
        // There is room for just these.
        let _ = rest.write_all(part);
    }
    digest_of(&bytes)
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    // SHA-256 has 32 bytes.
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Appends the member, the closing brace and the newline to a line's content.
pub(crate) fn push(line: &mut Vec<u8>, link: &Link) {
    line.extend_from_slice(MEMBER);
    push_point(line, &link.point);
    if let Some(previous) = link.mark.previous() {
        line.push(b'/');
        push_base64(line, previous);
    }
    if let Mark::Signed(_, signature) = &link.mark {
        line.push(b'/');
        push_base64(line, signature);
    }
    if let Some(origin) = &link.origin {
        line.push(b':');
        push_origin(line, origin);
    }
    line.extend_from_slice(END);
    line.push(b'\n');
}

/// A line, without its newline, as its content and its link; `None` if it does not end in a `chain` member, written as
/// [`push`] writes it to the letter.
pub(crate) fn split(line: &[u8]) -> Option<(&[u8], Link)> {
    let rest = line.strip_suffix(END)?;
    let quote = rest.iter().rev().take(LONGEST).position(|byte| *byte == b'"')?;
    let (before, text) = rest.split_at_checked(rest.len().checked_sub(quote)?)?;
    let content = before.strip_suffix(MEMBER)?;
    Some((content, parse(text)?))
}

fn parse(text: &[u8]) -> Option<Link> {
    let (own, origin) = match text.iter().position(|byte| *byte == b':') {
        Some(colon) => (text.get(..colon)?, Some(parse_origin(text.get(colon + 1..)?)?)),
        None => (text, None),
    };
    let mut words = own.split(|byte| *byte == b'/');
    let point = point_of(&mut words)?;
    let mark = match (words.next(), words.next(), words.next()) {
        (None, _, _) => Mark::Plain,
        (Some(previous), None, _) => Mark::Previous(base64(previous)?),
        (Some(previous), Some(signature), None) => Mark::Signed(base64(previous)?, base64(signature)?),
        _ => return None,
    };
    (point.sequence > 0).then_some(Link { point, mark, origin })
}

fn parse_origin(text: &[u8]) -> Option<Origin> {
    if text == b"none" {
        return Some(Origin::Nothing);
    }
    let mut words = text.split(|byte| *byte == b'/');
    let point = point_of(&mut words)?;
    words.next().is_none().then_some(Origin::After(point))
}

fn point_of<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<Point> {
    Some(Point { id: Id::parse(words.next()?)?, sequence: number(words.next()?)?, hash: base64(words.next()?)? })
}

/// A decimal number without zeros before it: there is one way to write each.
fn number(text: &[u8]) -> Option<u64> {
    let digits = (text == b"0" || text.first() != Some(&b'0')) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(text).ok()?.parse().ok())?
}

fn push_point(text: &mut Vec<u8>, point: &Point) {
    text.extend_from_slice(&point.id.0);
    text.push(b'/');
    push_number(text, point.sequence);
    text.push(b'/');
    push_base64(text, &point.hash);
}

fn push_number(text: &mut Vec<u8>, number: u64) {
    let start = text.len();
    let mut left = number;
    while left > 0 || text.len() == start {
        text.push(b'0' + u8::try_from(left % 10).unwrap_or_default());
        left /= 10;
    }
    if let Some(digits) = text.get_mut(start..) {
        digits.reverse();
    }
}

fn push_origin(text: &mut Vec<u8>, origin: &Origin) {
    match origin {
        Origin::Nothing => text.extend_from_slice(b"none"),
        Origin::After(point) => push_point(text, point),
    }
}

const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn push_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    let (triples, rest) = bytes.as_chunks();
    for triple in triples {
        text.extend_from_slice(&base64_digits(*triple));
    }
    if !rest.is_empty() {
        let last = [0, 1, 2].map(|at| rest.get(at).copied().unwrap_or_default());
        text.extend_from_slice(base64_digits(last).get(..=rest.len()).unwrap_or_default());
    }
}

fn base64_digits([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET.get(((bits >> shift) & 63) as usize).copied().unwrap_or_default())
}

/// Exactly `N` bytes, and only as [`push_base64`] writes them: the spare bits at the end are zero.
fn base64<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut places = bytes.iter_mut();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text {
        bits = bits << 6 | u32::from(value(*digit)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            *places.next()? = u8::try_from(bits >> count).ok()?;
            bits &= (1 << count) - 1;
        }
    }
    (places.next().is_none() && bits == 0 && count < 6).then_some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}
