//! What all command words have in common, and the program without one: how they print, say what went wrong, and answer
//! wrong words. `command` is what was called: `kube-audit-rest`, `kube-audit-rest read`.

use std::io::{self, Write as _};

use crate::cli::Exit;
use crate::observe::visible::visible;

/// Writes one line to standard error. If that fails, there is nobody to tell.
pub(super) fn say(command: &str, problem: &str) {
    let _ = writeln!(io::stderr(), "{command}: {problem}");
}

/// Says what is wrong with the command line.
pub(super) fn wrong_words(command: &str, problem: &str) -> Exit {
    say(command, &format!("{problem}; see {command} --help"));
    Exit::Usage
}

/// The parser's error on one line, whatever it quotes.
pub(super) fn one_line(error: lexopt::Error) -> String {
    visible(&error.to_string())
}

/// `1 line`, `3 lines`.
pub(super) fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Prints the text. Whoever reads the output may stop when he has seen enough (`policy ... | head`): no error.
pub(super) fn print(command: &str, text: &str, exit: Exit) -> Exit {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(command, &format!("standard output: {error}"));
            Exit::Unreadable
        }
        _ => exit,
    }
}
