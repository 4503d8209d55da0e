//! Text that a request chose, made fit for a terminal: on one line, with nothing in it that a terminal would obey.

use std::ffi::OsStr;

/// Appends a character, escaped if it is one that cannot be seen or moves what can: controls, bidirectional overrides,
/// what is not assigned. A backslash is escaped as well, so that nothing can pass for an escape.
pub(super) fn push_visible(text: &mut String, character: char) {
    match character {
        '"' | '\'' => text.push(character),
        // What std escapes in Debug output.
        _ => text.extend(character.escape_debug()),
    }
}

/// A text made visible.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::new();
    text.chars().for_each(|character| push_visible(&mut visible, character));
    visible
}

/// A word of the command line or a path made visible.
pub(super) fn printable(text: &OsStr) -> String {
    visible(&text.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let hostile = "a\u{1b}[2J\r\n\t\0\u{7f}\u{9b}31m\u{202e}\u{200b}\u{feff}\u{2028}\\x";
        let shown = visible(hostile);
        assert_eq!(shown, r"a\u{1b}[2J\r\n\t\0\u{7f}\u{9b}31m\u{202e}\u{200b}\u{feff}\u{2028}\\x");
    }

    #[test]
    fn what_can_be_seen_stays() {
        let harmless = "system:serviceaccount:kube-system:x \"it's\" é 日本語 🚀";
        assert_eq!(visible(harmless), harmless);
    }
}
