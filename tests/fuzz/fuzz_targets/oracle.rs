//! serde_json's opinion. A target takes it in with `mod oracle`.

#[path = "../../common/replaced.rs"]
#[allow(dead_code, reason = "reviews are never mended")]
mod replaced;

use kube_audit_rest::record::json::{Compactor, Error};
#[allow(unused_imports, reason = "reviews are never mended")]
pub(crate) use replaced::replaced;
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
