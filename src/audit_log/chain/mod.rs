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
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::files::chain_key::{ChainKeyFile, SigningKey};
use format::{Digest, Id, Link, Mark, Origin, Point};
pub(super) use heads::Heads;

/// The last line of a group is signed if the last signature is so old. One costs about 25 us.
const SIGN_AFTER: Duration = Duration::from_millis(50);

/// At the latest, so many lines after a signature comes another one.
const SIGN_AT_LEAST: u64 = 1000;

/// Bytes of a member that is not marked, and some.
const TYPICAL: usize = 96;

/// Capacity that the buffer keeps.
const LARGEST_KEPT: usize = 256 << 10;

/// Lines to be appended, and with a chain the digest of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) bytes: &'a [u8],
    /// [`format::digest_of`] what stands before each line's `}\n`. Empty without a chain.
    pub(super) digests: &'a [Digest],
}

impl<'a> Lines<'a> {
    /// Lines that are written as they are.
    pub(super) fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, digests: &[] }
    }
}

/// The state of the chain, which the writer has.
#[derive(Debug)]
pub(super) struct Chain {
    /// After the last line that was chained.
    state: State,
    key: Option<Arc<ChainKeyFile>>,
    /// Lines since the last signature, and when that was.
    unsigned: u64,
    signed: Option<Instant>,
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
}

/// Whether a line is to say the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marking {
    /// It is the first that we write to a file.
    Due,
    /// There is one in the file.
    Done,
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
        Self { id, origin, sequence: 0, hash: format::first_hash(id, &origin) }
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
        Ok(Self {
            state: State::begin(Id::new(random), origin),
            key,
            unsigned: 0,
            signed: None,
            heads,
            buffer: Vec::new(),
        })
    }

    /// Another ID for what follows `state`, the last line that was kept.
    fn renew(&mut self, state: State) {
        let origin = match state.origin {
            Origin::After(_) if state.sequence == 0 => state.origin,
            // Of an ID that follows nothing, and of which no line was kept, this is the beginning: number 0.
            _ => Origin::After(state.point()),
        };
        self.state = State::begin(state.id.next(), origin);
    }

    /// The lines with their `chain` members.
    fn chained(&mut self, lines: Lines<'_>, marking: Marking) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.buffer);
        let sign_last = self.key.is_some() && self.signed.is_none_or(|signed| signed.elapsed() >= SIGN_AFTER);
        let count = lines.digests.len();
        // Once, and not by doubling: about what all members take.
        out.reserve(lines.bytes.len() + format::LONGEST + TYPICAL * count);
        let mut rest = lines.bytes;
        for (number, digest) in lines.digests.iter().enumerate() {
            let (line, others) = if count == 1 { (rest, &[][..]) } else { first_line(rest) };
            rest = others;
            let marked = self.state.sequence == 0 || (number == 0 && marking == Marking::Due);
            let sign = marked || self.unsigned + 1 >= SIGN_AT_LEAST || (sign_last && number + 1 == count);
            let link = match self.key.as_ref().filter(|_| sign).map(|key| key.current()) {
                Some(key) => self.signed_link(digest, &key),
                _ if marked => self.link(digest, Mark::Previous(self.state.hash)),
                _ => self.link(digest, Mark::Plain),
            };
            out.extend_from_slice(line.strip_suffix(b"}\n").unwrap_or(line));
            format::push(&mut out, &link);
        }
        out
    }

    fn signed_link(&mut self, digest: &Digest, key: &SigningKey) -> Link {
        let previous = self.state.hash;
        let mut link = self.link(digest, Mark::Signed(previous, [0; 64]));
        link.mark = Mark::Signed(previous, key.sign(&link.point.signed_bytes()));
        (self.unsigned, self.signed) = (0, Some(Instant::now()));
        link
    }

    /// The next line's link.
    fn link(&mut self, digest: &Digest, mark: Mark) -> Link {
        let State { id, origin, sequence, hash } = self.state;
        let sequence = sequence + 1;
        self.state.sequence = sequence;
        self.state.hash = format::next_hash(&hash, id, sequence, &mark, digest);
        self.unsigned += 1;
        Link { point: self.state.point(), mark, origin: (sequence == 1).then_some(origin) }
    }

    /// Takes the buffer back.
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.shrink_to(LARGEST_KEPT);
        self.buffer = buffer;
    }
}

/// Has `write` write the lines, with their members if there is a chain. If it fails, it says whether anything of them may
/// be left.
pub(super) fn write<T, E>(
    chain: Option<&mut Chain>,
    lines: Lines<'_>,
    marking: Marking,
    write: impl FnOnce(&[u8]) -> Result<T, (Residue, E)>,
) -> Result<T, E> {
    let Some(chain) = chain else {
        return write(lines.bytes).map_err(|(_, error)| error);
    };
    let before = chain.state;
    let chained = chain.chained(lines, marking);
    let outcome = write(&chained);
    match &outcome {
        Ok(_) => chain.heads.publish(chain.state.point()),
        Err((Residue::None, _)) => chain.state = before,
        Err((Residue::Possible, _)) => chain.renew(before),
    }
    chain.give_back(chained);
    outcome.map_err(|(_, error)| error)
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
    format::digest_of(line.strip_suffix(b"}\n").unwrap_or(line))
}

/// The first line with its newline, and the rest.
fn first_line(lines: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = lines;
    // The fastest search of the standard library; reading from memory cannot fail.
    let length = rest.skip_until(b'\n').unwrap_or(lines.len());
    lines.split_at(length.min(lines.len()))
}
