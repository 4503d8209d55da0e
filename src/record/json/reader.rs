//! JSON text read without changing or copying it: the members that are asked for, as slices of the text.
//!
//! For text that was checked when it was recorded. Strings, numbers and words are checked again to the letter, which is
//! what damage on a disk shows in; of arrays and objects that nobody looks into only the brackets are counted.

use super::text::LONGEST_NAME;
use super::{Error, JsonStr, scan};

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

    /// Reads a value of any kind; if it is an object, gives the text of its member of this name, if that is a string.
    pub fn text_of(&mut self, member: &[u8]) -> Result<Option<JsonStr<'a>>, Error> {
        let mut found = None;
        self.members_if_object(|json, name| {
            match name == member {
                true => found = json.text_if_string()?,
                false => drop(json.value()?),
            }
            Ok(())
        })?;
        Ok(found)
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
        Ok(JsonStr::new(self.bytes.get(start..self.at - 1).unwrap_or_default()))
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

#[cfg(test)]
mod tests;
