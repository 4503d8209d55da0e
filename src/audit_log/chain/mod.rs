//! The chain through the log's lines (`--chain`): each line says its number and a hash that covers it and all before it.
//!
//! The writer has the state. Whoever appends has hashed the lines already; in the writer's turn each costs one more short
//! hash. [`mod@format`] is shared with `kube-audit-rest verify`.
//!
//! Invariant: under one ID no number is written twice. What failed and was cut off the file takes its numbers back. Where
//! bytes may have stayed somewhere (a stream, a failed cut, a deleted file that somebody still reads), or may come back
//! after a power cut (a failed sync), the lines that follow get another ID.

pub(crate) mod format;
mod heads;
pub(crate) mod origin;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead as _};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::emptied;
use crate::files::chain_key::{ChainKeyFile, SigningKey};
use format::{Digest, Id, Link, Mark, Origin, Point};
pub(super) use heads::Heads;

/// The last line of a group is signed if the last signature is this old. One costs about 25 us.
const SIGN_AFTER: Duration = Duration::from_millis(50);

/// Most lines from one signature to the next.
const SIGN_AT_LEAST: u64 = 1000;

/// What stands behind a line's members.
const LINE_END: &[u8] = b"}\n";

/// Bytes of a member that is not marked, rounded up.
const TYPICAL: usize = 96;

/// Lines to be appended, each ending in `}\n` if they are to be chained.
#[derive(Debug)]
pub(super) enum Lines<'a> {
    /// As they are.
    Plain(&'a [u8]),
    /// One to be chained, and its digest. Its member is put into it, and taken out again once it is written.
    One(&'a mut Vec<u8>, Digest),
    /// To be chained, and the digest of each.
    Many(&'a [u8], &'a [Digest]),
}

impl Lines<'_> {
    /// Without their members.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) | Self::Many(bytes, _) => bytes,
            Self::One(bytes, _) => bytes,
        }
    }

    /// Empty without a chain.
    pub(super) fn digests(&self) -> &[Digest] {
        match self {
            Self::Plain(_) => &[],
            Self::One(_, digest) => slice::from_ref(digest),
            Self::Many(_, digests) => digests,
        }
    }
}

/// The state of the chain, which the writer has.
#[derive(Debug)]
pub(super) struct Chain {
    /// After the last line that was chained.
    state: State,
    key: Option<Arc<ChainKeyFile>>,
    heads: Arc<Heads>,
    /// Empty; for the lines of the next group.
    buffer: Vec<u8>,
}

/// Where a chain is.
#[derive(Debug, Clone, Copy)]
struct State {
    id: Id,
    /// What the ID's first line follows.
    origin: Origin,
    /// Of the last line; 0 before the first.
    sequence: u64,
    hash: Digest,
    /// Lines since the last signature under this ID, and when that was.
    unsigned: u64,
    signed: Option<Instant>,
}

/// Whether a line is to say the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marking {
    /// It is: no line of ours stands in the file before it.
    Due,
    /// It is not: one of ours before it in the file has said it.
    Done,
}

/// Whether the last line of a group is to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    Due,
    NotDue,
}

/// What a failed append may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Residue {
    /// All of it is gone.
    None,
    /// Bytes may stand somewhere, or come back.
    Possible,
}

impl State {
    fn begin(id: Id, origin: Origin) -> Self {
        Self { id, origin, sequence: 0, hash: format::first_hash(id, &origin), unsigned: 0, signed: None }
    }

    fn point(&self) -> Point {
        Point { id: self.id, sequence: self.sequence, hash: self.hash }
    }
}

impl Chain {
    /// A new ID that follows `origin`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn begin(origin: Origin, key: Option<Arc<ChainKeyFile>>, heads: Arc<Heads>) -> io::Result<Self> {
        let mut random = [0; 8];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| io::Error::other("the system has no random numbers for --chain"))?;
        Ok(Self { state: State::begin(Id::new(random), origin), key, heads, buffer: Vec::new() })
    }

    /// Another ID for what follows `state`, the last line that was kept.
    fn renew(&mut self, state: State) {
        let origin = match state.origin {
            Origin::After(_) if state.sequence == 0 => state.origin,
            // If the ID follows nothing and no line of it was kept, that point is its beginning, with number 0.
            _ => Origin::After(state.point()),
        };
        self.state = State::begin(state.id.next(), origin);
    }

    /// The lines with their `chain` members.
    fn chained(&mut self, lines: &[u8], digests: &[Digest], marking: Marking) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.buffer);
        // Once, and not by doubling: about what all members take.
        out.reserve(lines.len() + format::LONGEST + TYPICAL * digests.len());
        let mut rest = lines;
        for (number, digest) in digests.iter().enumerate() {
            let (line, others) = first_line(rest);
            rest = others;
            let marking = if number == 0 { marking } else { Marking::Done };
            let signing = if others.is_empty() { self.signing() } else { Signing::NotDue };
            out.extend_from_slice(content(line));
            format::push(&mut out, &self.next_link(digest, marking, signing));
        }
        out
    }

    fn signing(&self) -> Signing {
        let due = self.key.is_some() && self.state.signed.is_none_or(|signed| signed.elapsed() >= SIGN_AFTER);
        if due { Signing::Due } else { Signing::NotDue }
    }

    /// The next line's link, with what it has to say beside its place.
    fn next_link(&mut self, digest: &Digest, marking: Marking, signing: Signing) -> Link {
        let marked = self.state.sequence == 0 || marking == Marking::Due;
        let sign = marked || self.state.unsigned + 1 >= SIGN_AT_LEAST || signing == Signing::Due;
        match self.key.as_ref().filter(|_| sign).map(|key| key.current()) {
            Some(key) => self.signed_link(digest, &key),
            _ if marked => self.link(digest, Mark::Previous(self.state.hash)),
            _ => self.link(digest, Mark::Plain),
        }
    }

    fn signed_link(&mut self, digest: &Digest, key: &SigningKey) -> Link {
        let previous = self.state.hash;
        let mut link = self.link(digest, Mark::Signed(previous, [0; 64]));
        link.mark = Mark::Signed(previous, key.sign(&link.point.signed_bytes()));
        (self.state.unsigned, self.state.signed) = (0, Some(Instant::now()));
        link
    }

    /// The next line's link.
    fn link(&mut self, digest: &Digest, mark: Mark) -> Link {
        let State { id, origin, sequence, hash, .. } = self.state;
        let sequence = sequence + 1;
        self.state.sequence = sequence;
        self.state.hash = format::next_hash(&hash, id, sequence, &mark, digest);
        self.state.unsigned += 1;
        Link { point: self.state.point(), mark, origin: (sequence == 1).then_some(origin) }
    }

    fn write_copied<T>(
        &mut self,
        lines: &[u8],
        digests: &[Digest],
        marking: Marking,
        write: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let chained = self.chained(lines, digests, marking);
        let outcome = write(&chained);
        self.buffer = emptied(chained);
        outcome
    }
}

/// Has `write` write the lines, with their members if there is a chain. If it fails, it says whether anything of them may
/// be left.
pub(super) fn write<T, E>(
    chain: Option<&mut Chain>,
    lines: &mut Lines<'_>,
    marking: Marking,
    write: impl FnOnce(&[u8]) -> Result<T, (Residue, E)>,
) -> Result<T, E> {
    let Some(chain) = chain else {
        return write(lines.bytes()).map_err(|(_, error)| error);
    };
    let before = chain.state;
    let outcome = match lines {
        Lines::One(line, digest) => {
            let (whole, without_end) = (line.len(), content(line).len());
            line.truncate(without_end);
            format::push(line, &chain.next_link(digest, marking, chain.signing()));
            let outcome = write(line);
            line.truncate(without_end);
            line.extend_from_slice(LINE_END.get(..whole - without_end).unwrap_or_default());
            outcome
        }
        Lines::Many(lines, digests) => chain.write_copied(lines, digests, marking, write),
        Lines::Plain(lines) => chain.write_copied(lines, &self::digests(lines), marking, write),
    };
    match &outcome {
        Ok(_) => chain.heads.publish(chain.state.point()),
        Err((Residue::None, _)) => chain.state = before,
        Err((Residue::Possible, _)) => chain.renew(before),
    }
    outcome.map_err(|(_, error)| error)
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    line.strip_suffix(LINE_END).unwrap_or(line)
}

/// The digests of lines, each ending in `}\n`.
pub(super) fn digests(lines: &[u8]) -> Vec<Digest> {
    let mut digests = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let (line, others) = first_line(rest);
        digests.push(digest(line));
        rest = others;
    }
    digests
}

/// The digest of one line.
pub(super) fn digest(line: &[u8]) -> Digest {
    format::digest_of(content(line))
}

/// The first line with its newline, and the rest.
fn first_line(lines: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = lines;
    // The fastest search of the standard library; reading from memory cannot fail.
    let length = rest.skip_until(b'\n').unwrap_or(lines.len());
    lines.split_at(length.min(lines.len()))
}
