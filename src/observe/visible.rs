//! Text that others chose, made fit for a message or a terminal: on one line, with nothing in it that a terminal would
//! obey.

use std::ffi::OsStr;

/// The text with escapes for what cannot be seen or moves what can: controls, bidirectional overrides, what is not
/// assigned. A backslash is escaped as well, so that nothing can pass for an escape. Quotes stay as they are.
pub(crate) fn visible(text: &str) -> String {
    beginning(text.chars(), usize::MAX)
}

/// [`visible`] of a word of the command line or a path.
pub(crate) fn printable(text: &OsStr) -> String {
    visible(&text.to_string_lossy())
}

/// [`visible`] of the first `most` characters, with `…` behind them if there are more.
pub(crate) fn beginning(mut characters: impl Iterator<Item = char>, most: usize) -> String {
    let mut text = String::new();
    for character in characters.by_ref().take(most) {
        match character {
            '"' | '\'' => text.push(character),
            // What std escapes in Debug output.
            _ => text.extend(character.escape_debug()),
        }
    }
    if characters.next().is_some() {
        text.push('…');
    }
    text
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

    #[test]
    fn what_is_too_long_is_cut_by_characters_and_says_so() {
        assert_eq!([3, 4].map(|most| beginning("日本語x".chars(), most)), ["日本語…", "日本語x"]);
    }
}
