//! JSON text is checked and compacted in one pass, in place.
//!
//! The grammar is that of RFC 8259, with arrays and objects nested up to [`MAX_DEPTH`] deep. White space between tokens is
//! removed. Every other byte stays as it came: numbers, escapes, duplicate names and the order of members are not looked
//! into. There is no tree, no recursion and no allocation.
//!
//! The caller knows what the text means: it walks through the levels that it knows with [`Compactor::members`] and
//! [`Compactor::elements`], and passes over all other values with [`Compactor::skip`].

pub mod reader;
mod scan;
mod text;

use std::fmt;
use std::ops::Range;

pub use text::{Chars, JsonStr, push_string};

/// How many arrays and objects may be open at once: more than the API server can send.
///
/// Go's `encoding/json` reads and writes values up to 10,000 deep (`maxNestingDepth` of its scanner). The API server checks
/// an object by itself and puts it two levels deep into an AdmissionReview, three levels deep into an EventList.
pub const MAX_DEPTH: usize = 160 * 64;

/// Reads a JSON text from front to back and compacts it on the way.
///
/// The bytes fall into three parts: compacted text, `bytes[..kept]`; a run of bytes that were read and are to be kept,
/// `bytes[run..read]`; and what is still to be read, `bytes[read..]`. A run is moved to the end of the compacted text
/// only when white space or a dropped member ends it, so text that is compact already is not moved at all. After an
/// error the bytes are of no use.
#[derive(Debug)]
pub struct Compactor<'a> {
    bytes: &'a mut [u8],
    /// The next byte to read.
    read: usize,
    /// Where the run begins.
    run: usize,
    /// Where the compacted text ends; never greater than `run`.
    kept: usize,
    /// How many arrays and objects the caller is in.
    depth: usize,
    /// Of what [`Compactor::skip`] is in, what is an object and no array: one bit for each, at its depth.
    objects: [u64; MAX_DEPTH / 64],
    /// Where the first bytes stand that are not UTF-8, since [`Compactor::check_utf8`] was called last.
    not_utf8: Option<usize>,
}

/// Whether a member stays in the compacted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The member stays, compacted.
    Keep,
    /// The member is left out, and one comma with it.
    Drop,
}

impl<'a> Compactor<'a> {
    /// Stands before the first byte.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, read: 0, run: 0, kept: 0, depth: 0, objects: [0; MAX_DEPTH / 64], not_utf8: None }
    }

    /// Whether the next value begins with this byte: `{` is an object, `[` an array, `"` a string.
    pub fn next_is(&mut self, byte: u8) -> Result<bool, Error> {
        Ok(self.token()? == byte)
    }

    /// Reads an object. `member` is called before each member's value and has to read it; it is given the member's name
    /// if that is one of `names`.
    pub fn members<E: From<Error>>(
        &mut self,
        names: &[&'static str],
        mut member: impl FnMut(&mut Self, Option<&'static str>) -> Result<Fate, E>,
    ) -> Result<(), E> {
        self.expect(b'{', "an object was expected")?;
        self.read += 1;
        self.depth += 1;
        let start = self.position();
        let mut end = start;
        if self.token()? != b'}' {
            loop {
                self.expect(b'"', "a member's name was expected")?;
                let name = self.string_among(names)?;
                self.colon()?;
                match member(self, name)? {
                    Fate::Keep => end = self.position(),
                    Fate::Drop => self.retract(end),
                }
                match self.token()? {
                    // Every member so far was dropped, so the next one that stays is the first.
                    b',' if end == start => self.cut(1),
                    b',' => self.read += 1,
                    b'}' => break,
                    _ => return Err(self.error("a comma or } was expected").into()),
                }
            }
        }
        self.read += 1;
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array. `element` is called before each element and has to read it.
    pub fn elements<E: From<Error>>(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.expect(b'[', "an array was expected")?;
        self.read += 1;
        self.depth += 1;
        if self.token()? != b']' {
            loop {
                self.token()?;
                element(self)?;
                match self.token()? {
                    b',' => self.read += 1,
                    b']' => break,
                    _ => return Err(self.error("a comma or ] was expected").into()),
                }
            }
        }
        self.read += 1;
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string. Returns where it stands in the compacted text, with its quotes.
    pub fn string(&mut self) -> Result<Range<usize>, Error> {
        self.expect(b'"', "a string was expected")?;
        let start = self.position();
        self.read = scan::string(self.bytes, self.read, &mut self.not_utf8)?;
        Ok(start..self.position())
    }

    /// Reads a value of any kind. If it is a string and one of `texts`, returns which.
    pub fn one_of(&mut self, texts: &[&'static str]) -> Result<Option<&'static str>, Error> {
        if self.next_is(b'"')? {
            return self.string_among(texts);
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads a value of any kind.
    pub fn skip(&mut self) -> Result<(), Error> {
        let outside = self.depth;
        // Unlike fields these can stay in registers: where it reads, how many brackets are open, and what closes the
        // innermost.
        let (mut at, mut depth, mut closing) = (self.read, outside, 0);
        loop {
            match self.token_at(&mut at)? {
                b'"' => at = scan::string(self.bytes, at, &mut self.not_utf8)?,
                bracket @ (b'{' | b'[') => {
                    closing = self.open(bracket, depth, at)?;
                    depth += 1;
                    at += 1;
                    if self.token_at(&mut at)? != closing {
                        if closing == b'}' {
                            self.name_at(&mut at)?;
                        }
                        continue;
                    }
                }
                _ => at = scan::scalar(self.bytes, at)?,
            }
            // A value has been read, or an empty one begun: close what ends here, up to the next value or the end.
            loop {
                if depth == outside {
                    self.read = at;
                    return Ok(());
                }
                let next = self.token_at(&mut at)?;
                if next == b',' {
                    at += 1;
                    if closing == b'}' {
                        self.name_at(&mut at)?;
                    }
                    break;
                }
                if next != closing {
                    let object = closing == b'}';
                    let what = if object { "a comma or } was expected" } else { "a comma or ] was expected" };
                    return Err(Error { what, at });
                }
                at += 1;
                depth -= 1;
                closing = self.closing(depth);
            }
        }
    }

    /// Where the next byte to read will stand in the compacted text, if it stays.
    pub fn position(&self) -> usize {
        self.kept + (self.read - self.run)
    }

    /// The compacted text from an earlier [`Self::position`] up to here. It is not looked at again, so the caller may do
    /// with it what it likes.
    pub fn since(&mut self, position: usize) -> &mut [u8] {
        self.settle();
        self.bytes.get_mut(position..self.kept).unwrap_or_default()
    }

    /// An error if a string that was read since the last call is not UTF-8. The caller may go on reading all the same; the
    /// bytes stay in the compacted text as they came.
    pub fn check_utf8(&mut self) -> Result<(), Error> {
        self.not_utf8.take().map_or(Ok(()), |at| Err(Error { what: "not UTF-8", at }))
    }

    /// Ends the text and returns the length of its compacted form, which stands at the front of the bytes. Anything but
    /// white space behind the value is an error, and so is what [`Self::check_utf8`] would find.
    pub fn finish(mut self) -> Result<usize, Error> {
        self.check_utf8()?;
        self.white_space();
        if self.read < self.bytes.len() {
            return Err(self.error("something follows the document"));
        }
        Ok(self.kept)
    }

    /// Passes over white space and looks at the byte behind it, without reading it.
    #[inline(always)]
    fn token(&mut self) -> Result<u8, Error> {
        match self.bytes.get(self.read) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => self.token_after_white_space(),
        }
    }

    /// The same at `at`, which moves over the white space.
    #[inline(always)]
    fn token_at(&mut self, at: &mut usize) -> Result<u8, Error> {
        self.read = *at;
        let token = self.token()?;
        *at = self.read;
        Ok(token)
    }

    /// An error unless the next byte that is no white space is this one; it is not read yet.
    #[inline(always)]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Error> {
        if self.bytes.get(self.read) == Some(&byte) || self.token()? == byte { Ok(()) } else { Err(self.error(what)) }
    }

    #[inline(never)]
    fn token_after_white_space(&mut self) -> Result<u8, Error> {
        self.white_space();
        match self.bytes.get(self.read) {
            Some(&byte) => Ok(byte),
            None => Err(self.error(Error::END)),
        }
    }

    fn white_space(&mut self) {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.cut(length);
    }

    /// Reads `length` bytes and leaves them out of the compacted text.
    fn cut(&mut self, length: usize) {
        self.settle();
        self.read += length;
        self.run = self.read;
    }

    /// Moves the run to the end of the compacted text and begins an empty one.
    fn settle(&mut self) {
        if self.kept != self.run {
            self.bytes.copy_within(self.run..self.read, self.kept);
        }
        self.kept += self.read - self.run;
        self.run = self.read;
    }

    /// Takes what was read since an earlier [`Self::position`] out of the compacted text again.
    fn retract(&mut self, position: usize) {
        self.settle();
        self.kept = position;
    }

    /// Notes that `bracket`, at `at`, is opened inside of `depth` others. Returns the one that closes it.
    #[inline(always)]
    fn open(&mut self, bracket: u8, depth: usize, at: usize) -> Result<u8, Error> {
        let Some(word) = self.objects.get_mut(depth / 64) else {
            return Err(Error { what: "nested deeper than 10,240", at });
        };
        let bit = 1 << (depth % 64);
        *word = if bracket == b'{' { *word | bit } else { *word & !bit };
        Ok(if bracket == b'{' { b'}' } else { b']' })
    }

    /// What closes the innermost of `depth` open brackets.
    #[inline(always)]
    fn closing(&self, depth: usize) -> u8 {
        let level = depth.wrapping_sub(1);
        let word = self.objects.get(level / 64).copied().unwrap_or_default();
        if word & (1 << (level % 64)) != 0 { b'}' } else { b']' }
    }

    /// Reads the member's name at `at` and the colon behind it.
    #[inline(always)]
    fn name_at(&mut self, at: &mut usize) -> Result<(), Error> {
        self.read = *at;
        self.expect(b'"', "a member's name was expected")?;
        self.read = scan::string(self.bytes, self.read, &mut self.not_utf8)?;
        self.colon()?;
        *at = self.read;
        Ok(())
    }

    /// Reads the string whose opening quote is next. If it is one of `texts`, returns which.
    fn string_among(&mut self, texts: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let start = self.read;
        self.read = scan::string(self.bytes, start, &mut self.not_utf8)?;
        let inside = self.bytes.get(start + 1..self.read - 1).unwrap_or_default();
        Ok(JsonStr::new(inside).one_of(texts))
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Error> {
        self.expect(b':', "a colon was expected")?;
        self.read += 1;
        Ok(())
    }

    #[cold]
    fn error(&self, what: &'static str) -> Error {
        Error { what, at: self.read }
    }
}

/// The text is not JSON, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, in words that quote nothing of the text.
    pub what: &'static str,
    /// The byte at which it was seen, counted from 0.
    pub at: usize,
}

impl Error {
    const END: &str = "the text ends too early";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for Error {}
