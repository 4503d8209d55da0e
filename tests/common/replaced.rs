//! A second opinion on text that is not UTF-8; the fuzz targets, which are another package, include this file as well.

/// The text with one U+FFFD in place of each run of bytes that belong to no character, found by trying.
pub(crate) fn replaced(text: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let (mut at, mut in_run) = (0, false);
    while at < text.len() {
        let character =
            (1..=4).filter_map(|length| text.get(at..at + length)).find(|part| std::str::from_utf8(part).is_ok());
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
