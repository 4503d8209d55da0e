//! JSON text read without changing or copying it: the members that are asked for, as slices of the text.
//!
//! For text that was checked when it was recorded. Strings, numbers and words are checked again to the letter, which is
//! what damage on a disk shows in; of arrays and objects that nobody looks into only the brackets are counted.

use super::{Error, scan};

/// No member that is asked for by name has a longer one.
const LONGEST_NAME: usize = 32;

/// A place in a JSON text.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// The next byte to read.
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins before the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads an object: `member` is called for each member, with its name, and has to read the value. A name with
    /// escapes is decoded if it has at most 32 bytes, and is given as it stands otherwise.
    pub fn members(&mut self, mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.expect(b'{', "an object was expected")?;
        if self.token()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.text()?;
            self.expect(b':', "a colon was expected")?;
            member(self, name.decoded(&mut [0; LONGEST_NAME]))?;
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.error("a comma or } was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object like [`Self::members`]; a value of any other kind is passed over.
    pub fn members_if_object(
        &mut self,
        member: impl FnMut(&mut Self, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.token()? == b'{' { self.members(member) } else { self.value().map(drop) }
    }

    /// Reads an array: `element` is called before each element and has to read it. A value of any other kind is passed
    /// over.
    pub fn elements_if_array(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.token()? != b'[' {
            return self.value().map(drop);
        }
        self.at += 1;
        if self.token()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.error("a comma or ] was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a value of any kind and gives its bytes.
    pub fn value(&mut self) -> Result<&'a [u8], Error> {
        let mut open = 0_usize;
        self.token()?;
        let start = self.at;
        loop {
            match self.token()? {
                b'"' => self.at = self.string()?,
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' if open > 0 => {
                    open -= 1;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.at = scan::scalar(self.bytes, self.at)?,
            }
            if open == 0 {
                return Ok(self.bytes.get(start..self.at).unwrap_or_default());
            }
        }
    }

    /// Reads a value of any kind; gives its text if it is a string.
    pub fn text_if_string(&mut self) -> Result<Option<JsonStr<'a>>, Error> {
        if self.token()? == b'"' { self.text().map(Some) } else { self.value().map(|_| None) }
    }

    /// Where the next value begins.
    ///
    /// # Errors
    /// Nothing follows.
    pub fn position(&mut self) -> Result<usize, Error> {
        self.token()?;
        Ok(self.at)
    }

    /// The text from a [`Self::position`] on, up to here.
    pub fn since(&self, position: usize) -> &'a [u8] {
        self.bytes.get(position..self.at).unwrap_or_default()
    }

    /// Ends the reading; an error if anything but white space follows.
    pub fn finish(mut self) -> Result<(), Error> {
        self.white_space();
        if self.at < self.bytes.len() {
            return Err(self.error("something follows the document"));
        }
        Ok(())
    }

    fn text(&mut self) -> Result<JsonStr<'a>, Error> {
        if self.token()? != b'"' {
            return Err(self.error("a string was expected"));
        }
        let start = self.at + 1;
        self.at = self.string()?;
        Ok(JsonStr { inside: self.bytes.get(start..self.at - 1).unwrap_or_default() })
    }

    /// The index behind the string that begins here.
    fn string(&self) -> Result<usize, Error> {
        let mut not_utf8 = None;
        let end = scan::string(self.bytes, self.at, &mut not_utf8)?;
        match not_utf8 {
            None => Ok(end),
            Some(at) => Err(Error { what: "not UTF-8", at }),
        }
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Error> {
        if self.token()? != byte {
            return Err(self.error(otherwise));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no white space; it is not read yet.
    fn token(&mut self) -> Result<u8, Error> {
        self.white_space();
        self.bytes.get(self.at).copied().ok_or(self.error(Error::END))
    }

    fn white_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error(&self, what: &'static str) -> Error {
        Error { what, at: self.at }
    }
}

/// A string of a JSON text, between its quotes, escapes as they are. It is decoded a character at a time, so that a
/// long one takes no memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonStr<'a> {
    inside: &'a [u8],
}

impl<'a> JsonStr<'a> {
    /// Its bytes as they stand between the quotes.
    pub fn escaped(self) -> &'a [u8] {
        self.inside
    }

    /// Whether it is the empty string.
    pub fn is_empty(self) -> bool {
        self.inside.is_empty()
    }

    /// Whether it is this text, however it is escaped.
    pub fn is(self, text: &str) -> bool {
        if self.inside.contains(&b'\\') { self.chars().eq(text.chars()) } else { self.inside == text.as_bytes() }
    }

    /// Whether it begins with this text, however it is escaped.
    pub fn starts_with(self, text: &str) -> bool {
        let mut chars = self.chars();
        text.chars().all(|wanted| chars.next() == Some(wanted))
    }

    /// Its bytes without escapes, in `space` if there are any; as they stand where that is too small.
    fn decoded<'b>(self, space: &'b mut [u8; LONGEST_NAME]) -> &'b [u8]
    where
        'a: 'b,
    {
        if !self.inside.contains(&b'\\') {
            return self.inside;
        }
        let mut length = 0;
        for character in self.chars() {
            let Some(place) = space.get_mut(length..length + character.len_utf8()) else {
                return self.inside;
            };
            length += character.encode_utf8(place).len();
        }
        space.get(..length).unwrap_or_default()
    }

    /// Its characters; half of a surrogate pair is U+FFFD.
    pub fn chars(self) -> Chars<'a> {
        Chars { rest: self.inside }
    }
}

/// The characters of a [`JsonStr`].
#[derive(Clone, Debug)]
pub struct Chars<'a> {
    rest: &'a [u8],
}

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let (length, character) = match *self.rest {
            [] => return None,
            [b'\\', b'u', ..] => self.unicode_escape(),
            [b'\\', letter, ..] => {
                let meant = match letter {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(other),
                };
                (2, meant)
            }
            [byte @ ..0x80, ..] => (1, char::from(byte)),
            [first, ..] => {
                let length = if first >= 0xf0 {
                    4
                } else if first >= 0xe0 {
                    3
                } else {
                    2
                };
                let encoded = self.rest.get(..length).and_then(|bytes| str::from_utf8(bytes).ok());
                let character = encoded.and_then(|text| text.chars().next());
                (length, character.unwrap_or(char::REPLACEMENT_CHARACTER))
            }
        };
        self.rest = self.rest.get(length..).unwrap_or_default();
        Some(character)
    }
}

impl Chars<'_> {
    fn unicode_escape(&self) -> (usize, char) {
        let lost = char::REPLACEMENT_CHARACTER;
        match (self.unit(0), self.unit(6)) {
            (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                (12, char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or(lost))
            }
            (unit, _) => (6, unit.and_then(char::from_u32).unwrap_or(lost)),
        }
    }

    /// The UTF-16 unit whose escape begins `at` so many bytes from here.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    }
}

#[cfg(test)]
mod tests;
