//! JSON text checked and compacted in one pass, in place.
//!
//! The grammar is RFC 8259's to the letter, UTF-8 included; a document may be nested [`MAX_DEPTH`] deep. White space
//! between tokens goes; every other byte stays as it came: numbers, escapes, duplicate names and the order of members
//! are not looked into. There is no tree, no recursion and no allocation.
//!
//! What the text means is the caller's business: it walks through the levels that it knows with
//! [`Compactor::members`] and [`Compactor::elements`] and lets [`Compactor::skip`] run over the rest, which is nearly
//! all of it.

pub mod reader;
mod scan;

use std::fmt;

/// How many arrays and objects may stand open at once, as in Go's `encoding/json`.
pub const MAX_DEPTH: usize = 10_000;

/// A place in a JSON text, and the compacted form of all that stands before it.
///
/// The bytes that were read and are kept form a run, which is moved to its new place only where white space (or a
/// dropped member) ends it: text that is compact already is not moved at all. An error leaves the bytes half moved.
#[derive(Debug)]
pub struct Compactor<'a> {
    bytes: &'a mut [u8],
    /// The next byte to read.
    read: usize,
    /// Where the run begins; it ends at `read`.
    run: usize,
    /// The compacted text is `bytes[..kept]`, and then the run. Never greater than `run`.
    kept: usize,
    /// Arrays and objects open now.
    depth: usize,
    /// Which of them are objects: a bit each, the outermost lowest.
    objects: [u64; MAX_DEPTH.div_ceil(64)],
}

/// Whether a member stays in the compacted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, compacted.
    Keep,
    /// It goes, with its comma.
    Drop,
}

impl<'a> Compactor<'a> {
    /// Begins before the first byte.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, read: 0, run: 0, kept: 0, depth: 0, objects: [0; MAX_DEPTH.div_ceil(64)] }
    }

    /// Whether the next value begins with this byte: `{`, `[` or `"` say what it is.
    pub fn next_is(&mut self, byte: u8) -> Result<bool, Error> {
        Ok(self.token()? == byte)
    }

    /// Reads an object. `member` is called for each member, with that one of `names` which is its name, if any, and
    /// has to read the value.
    pub fn members<E: From<Error>>(
        &mut self,
        names: &[&'static str],
        mut member: impl FnMut(&mut Self, Option<&'static str>) -> Result<Fate, E>,
    ) -> Result<(), E> {
        if !self.next_is(b'{')? {
            return Err(self.error("an object was expected").into());
        }
        self.open(true)?;
        let start = self.position();
        let mut end = start;
        if self.token()? != b'}' {
            loop {
                if !self.next_is(b'"')? {
                    return Err(self.error("a member's name was expected").into());
                }
                let name = self.string()?.one_of(names);
                self.colon()?;
                match member(self, name)? {
                    Fate::Keep => end = self.position(),
                    Fate::Drop => self.retract(end),
                }
                match self.token()? {
                    // Commas stand only between members that stay.
                    b',' if end == start => self.cut(1),
                    b',' => self.read += 1,
                    b'}' => break,
                    _ => return Err(self.error("a comma or } was expected").into()),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// Reads an array. `element` is called before each element and has to read it.
    pub fn elements<E: From<Error>>(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if !self.next_is(b'[')? {
            return Err(self.error("an array was expected").into());
        }
        self.open(false)?;
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
        self.close();
        Ok(())
    }

    /// Reads a string.
    pub fn string(&mut self) -> Result<Text<'_>, Error> {
        if !self.next_is(b'"')? {
            return Err(self.error("a string was expected"));
        }
        let (start, position) = (self.read, self.position());
        self.read = scan::string(self.bytes, start)?;
        Ok(Text { quoted: self.bytes.get(start..self.read).unwrap_or_default(), position })
    }

    /// Reads a value of any kind; gives the one of `texts` that it is, if it is a string and among them.
    pub fn one_of(&mut self, texts: &[&'static str]) -> Result<Option<&'static str>, Error> {
        if self.next_is(b'"')? {
            return Ok(self.string()?.one_of(texts));
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads a value of any kind.
    pub fn skip(&mut self) -> Result<(), Error> {
        let outside = self.depth;
        loop {
            let first = self.token()?;
            match first {
                b'"' => self.read = scan::string(self.bytes, self.read)?,
                b'{' | b'[' => {
                    let object = first == b'{';
                    self.open(object)?;
                    let empty = self.token()? == if object { b'}' } else { b']' };
                    if !empty {
                        if object {
                            self.skip_name()?;
                        }
                        continue;
                    }
                    self.close();
                }
                _ => self.read = scan::scalar(self.bytes, self.read)?,
            }
            // A value has been read: on to the next one, or out.
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let object = self.in_object();
                match self.token()? {
                    b',' => {
                        self.read += 1;
                        if object {
                            self.skip_name()?;
                        }
                        break;
                    }
                    b'}' if object => self.close(),
                    b']' if !object => self.close(),
                    _ if object => return Err(self.error("a comma or } was expected")),
                    _ => return Err(self.error("a comma or ] was expected")),
                }
            }
        }
    }

    /// Where the next byte that is kept will stand in the compacted text.
    pub fn position(&self) -> usize {
        self.kept + (self.read - self.run)
    }

    /// The compacted text from a [`Self::position`] on, up to here.
    pub fn since(&mut self, position: usize) -> &[u8] {
        self.settle();
        self.bytes.get(position..self.kept).unwrap_or_default()
    }

    /// The length of the compacted text, which stands at the front of the bytes; an error if anything but white space
    /// follows.
    pub fn finish(mut self) -> Result<usize, Error> {
        self.white_space();
        if self.read < self.bytes.len() {
            return Err(self.error("something follows the document"));
        }
        Ok(self.kept)
    }

    /// The next byte that is no white space; it is not read yet.
    #[inline(always)]
    fn token(&mut self) -> Result<u8, Error> {
        match self.bytes.get(self.read) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => self.token_after_white_space(),
        }
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

    /// Leaves the next bytes out of the compacted text.
    fn cut(&mut self, length: usize) {
        self.settle();
        self.read += length;
        self.run = self.read;
    }

    /// Moves the run to where it belongs; an empty one begins.
    fn settle(&mut self) {
        if self.kept != self.run {
            self.bytes.copy_within(self.run..self.read, self.kept);
        }
        self.kept += self.read - self.run;
        self.run = self.read;
    }

    /// Takes back what was kept since an earlier position.
    fn retract(&mut self, position: usize) {
        self.settle();
        self.kept = position;
    }

    /// Reads the bracket that begins an array or object.
    #[inline(always)]
    fn open(&mut self, object: bool) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(self.error("nested deeper than 10,000"));
        }
        let bit = 1 << (self.depth % 64);
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        self.read += 1;
        Ok(())
    }

    /// Reads the bracket that ends an array or object.
    #[inline(always)]
    fn close(&mut self) {
        self.read += 1;
        self.depth -= 1;
    }

    /// Whether the innermost open container is an object.
    #[inline(always)]
    fn in_object(&self) -> bool {
        let level = self.depth.wrapping_sub(1);
        let word = self.objects.get(level / 64).copied().unwrap_or_default();
        word & (1 << (level % 64)) != 0
    }

    #[inline(always)]
    fn skip_name(&mut self) -> Result<(), Error> {
        if self.token()? != b'"' {
            return Err(self.error("a member's name was expected"));
        }
        self.read = scan::string(self.bytes, self.read)?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Error> {
        if self.token()? != b':' {
            return Err(self.error("a colon was expected"));
        }
        self.read += 1;
        Ok(())
    }

    #[cold]
    fn error(&self, what: &'static str) -> Error {
        Error { what, at: self.read }
    }
}

/// A string as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    quoted: &'a [u8],
    position: usize,
}

impl<'a> Text<'a> {
    /// Its bytes as they came, quotes included, escapes as they are.
    pub fn quoted(&self) -> &'a [u8] {
        self.quoted
    }

    /// Where its opening quote stands in the compacted text.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether it is this text, however it is escaped.
    pub fn is(&self, text: &str) -> bool {
        let Some(([_], [inside @ .., _])) = self.quoted.split_at_checked(1) else {
            return false;
        };
        if !inside.contains(&b'\\') {
            return inside == text.as_bytes();
        }
        // No escape is longer than six bytes, so only what is short needs to be decoded.
        inside.len() <= 6 * text.len()
            && serde_json::from_slice::<String>(self.quoted).is_ok_and(|decoded| decoded == text)
    }

    /// The one of `names` that it is.
    pub fn one_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.is(name))
    }
}

/// Appends `text` as a JSON string.
pub fn push_string(json: &mut Vec<u8>, text: &str) {
    // Only an I/O error or a map with strange keys could fail, and here is neither.
    let _ = serde_json::to_writer(json, text);
}

/// Text that is not JSON, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, in words that quote nothing of the text.
    pub what: &'static str,
    /// The byte, counted from 0, at which it was seen.
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
