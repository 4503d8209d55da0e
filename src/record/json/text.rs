//! JSON strings.

/// A string as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pub(super) quoted: &'a [u8],
    pub(super) position: usize,
}

impl<'a> Text<'a> {
    /// Its bytes as they came: with the quotes, and with escapes left as they are.
    pub fn quoted(&self) -> &'a [u8] {
        self.quoted
    }

    /// Where its opening quote stands in the compacted text.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The one of `texts` that it stands for, however it is escaped.
    pub fn one_of(&self, texts: &[&'static str]) -> Option<&'static str> {
        let among_texts = |bytes: &[u8]| texts.iter().copied().find(|text| text.as_bytes() == bytes);
        let inside = self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default();
        if !inside.contains(&b'\\') {
            return among_texts(inside);
        }
        // An escape has at most six bytes, so a longer string is none of them and needs no decoding.
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
        if inside.len() > 6 * longest {
            return None;
        }
        serde_json::from_slice::<String>(self.quoted).ok().and_then(|decoded| among_texts(decoded.as_bytes()))
    }
}

/// Appends `text` as a JSON string.
pub fn push_string(json: &mut Vec<u8>, text: &str) {
    // Neither writing to a Vec nor serializing a string can fail.
    let _ = serde_json::to_writer(json, text);
}
