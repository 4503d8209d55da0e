//! serde_json's opinion. A target takes it in with `mod oracle`.

use kube_audit_rest::record::json::{Compactor, Error};
use serde::de::IgnoredAny;

/// Whether the text is JSON. Without the first line serde_json would not look at the bytes of strings that it ignores.
pub fn takes(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The pass's verdict has to be the same, nesting aside, and a second pass has nothing left to take out.
pub fn agrees(text: &[u8]) {
    match compact(text) {
        Ok(compacted) => {
            assert!(takes(text));
            assert!(takes(&compacted));
            assert!(compact(&compacted).is_ok_and(|again| again == compacted));
        }
        Err(error) => assert!(!takes(text) || error.what.starts_with("nested deeper")),
    }
}

fn compact(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut text = text.to_vec();
    let mut json = Compactor::new(&mut text);
    json.skip()?;
    let length = json.finish()?;
    text.truncate(length);
    Ok(text)
}

/// Lines are JSON, each ended by its only `\n`.
pub fn are_lines(lines: &[u8]) -> bool {
    lines
        .split_inclusive(|byte| *byte == b'\n')
        .all(|line| line.strip_suffix(b"\n").is_some_and(takes))
}

/// The text with one U+FFFD in place of each run of bytes that belong to no character, found by trying.
#[allow(dead_code, reason = "reviews are never mended")]
pub fn replaced(text: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let (mut at, mut in_run) = (0, false);
    while at < text.len() {
        let character = (1..=4)
            .filter_map(|length| text.get(at..at + length))
            .find(|part| std::str::from_utf8(part).is_ok());
        match character {
            Some(character) => replaced.extend_from_slice(character),
            None if !in_run => replaced.extend_from_slice("\u{fffd}".as_bytes()),
            None => {}
        }
        in_run = character.is_none();
        at += character.map_or(1, <[u8]>::len);
    }
    replaced
}
