//! JSON strings.

/// Bytes of the longest name that a member is asked for by.
pub(super) const LONGEST_NAME: usize = 32;

/// A string of a JSON text, between its quotes, escapes as they are. It is decoded a character at a time, so that a
/// long one takes no memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonStr<'a> {
    inside: &'a [u8],
}

impl<'a> JsonStr<'a> {
    /// `inside` was checked to be what stands between the quotes of a string.
    pub(super) fn new(inside: &'a [u8]) -> Self {
        Self { inside }
    }

    /// Its bytes as they stand between the quotes.
    pub fn escaped(self) -> &'a [u8] {
        self.inside
    }

    /// Whether it is the empty string.
    pub fn is_empty(self) -> bool {
        self.inside.is_empty()
    }

    /// The one of `texts` that it is, however it is escaped.
    pub fn one_of<'t>(self, texts: &[&'t str]) -> Option<&'t str> {
        let mut texts = texts.iter().copied();
        match self.inside.contains(&b'\\') {
            true => texts.find(|text| self.chars().eq(text.chars())),
            false => texts.find(|text| self.inside == text.as_bytes()),
        }
    }

    /// Whether it is this text, however it is escaped.
    pub fn is(self, text: &str) -> bool {
        self.one_of(&[text]).is_some()
    }

    /// Whether it begins with this text, however it is escaped.
    pub fn starts_with(self, text: &str) -> bool {
        let mut chars = self.chars();
        text.chars().all(|wanted| chars.next() == Some(wanted))
    }

    /// Its bytes without escapes, in `space` if there are any; as they stand where that is too small.
    pub(super) fn decoded<'b>(self, space: &'b mut [u8; LONGEST_NAME]) -> &'b [u8]
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

/// Appends `text` as a JSON string.
pub fn push_string(json: &mut Vec<u8>, text: &str) {
    // Neither writing to a Vec nor serializing a string can fail.
    let _ = serde_json::to_writer(json, text);
}
