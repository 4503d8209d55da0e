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

    /// Whether it stands for this text, however it is escaped.
    pub fn is(&self, text: &str) -> bool {
        let Some(([_], [inside @ .., _])) = self.quoted.split_at_checked(1) else {
            return false;
        };
        if !inside.contains(&b'\\') {
            return inside == text.as_bytes();
        }
        // An escape has at most six bytes, so a longer string cannot be this text and needs no decoding.
        inside.len() <= 6 * text.len()
            && serde_json::from_slice::<String>(self.quoted).is_ok_and(|decoded| decoded == text)
    }

    /// The one of `texts` that it stands for.
    pub fn one_of(&self, texts: &[&'static str]) -> Option<&'static str> {
        match self.quoted {
            [_, inside @ .., _] if !inside.contains(&b'\\') => {
                texts.iter().copied().find(|text| text.as_bytes() == inside)
            }
            _ => texts.iter().copied().find(|text| self.is(text)),
        }
    }
}

/// Appends `text` as a JSON string.
pub fn push_string(json: &mut Vec<u8>, text: &str) {
    // Neither writing to a Vec nor serializing a string can fail.
    let _ = serde_json::to_writer(json, text);
}
