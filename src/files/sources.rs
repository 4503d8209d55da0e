//! Who may write: the file of `--sources-filename`.
//!
//! On a managed cluster nothing but a token in the webhook's URL can authenticate the API server. Each line of the file
//! is `NAME TOKEN`; the name goes into the audit lines as `source`.

use std::collections::HashMap;
use std::hint::black_box;

use crate::files::is_dns_name;
use crate::files::watched::{Content, Error};
use crate::files::watched_file::{FromFile, WatchedFile};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

/// 128 bits: cannot be guessed over a network.
const MIN_TOKEN_LENGTH: usize = 32;
/// Every token is padded to this length and compared in full.
const MAX_TOKEN_LENGTH: usize = 128;
/// As long as a DNS label may be (RFC 1123): a name is for people to read.
const MAX_NAME_LENGTH: usize = 63;
/// Each request is compared with every token, so their number is a cost for all (about 4 ns each).
const MAX_TOKENS: usize = 1000;

/// Names and their tokens, checked. Without `Debug`: it would show the tokens.
pub struct Sources {
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    token: Padded,
}

impl Sources {
    /// Reads the file's text: lines `NAME TOKEN` with blanks or tabs between, blank lines, and comment lines that begin
    /// with `#`. CRLF is taken for LF. A name may have several tokens (rotation); a token stands once.
    ///
    /// # Errors
    /// For the first line that is not so, and for a file without any source: what is wrong, with the line's number. It
    /// shows nothing that stands in the line: with name and token swapped, that would be the token.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut entries = Vec::new();
        let mut lines_by_token = HashMap::new();
        for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let invalid = |what: &str| Err(format!("line {line}: {what}"));
            let mut words = text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return invalid("not of the form NAME TOKEN");
            };
            let Some(name) = name_from(name) else {
                return invalid(&format!(
                    "the name is not of lowercase letters, digits, - and . (at most {MAX_NAME_LENGTH}, a letter or digit at both ends of each part)"
                ));
            };
            let Some(token_padded) = token_from(token) else {
                return invalid(&format!(
                    "the token is not of {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} lowercase hex digits"
                ));
            };
            if let Some(first) = lines_by_token.insert(token, line) {
                return invalid(&format!("the same token as in line {first}"));
            }
            if entries.len() == MAX_TOKENS {
                return invalid(&format!("more than {MAX_TOKENS} tokens"));
            }
            entries.push(Entry { name, token: token_padded });
        }
        if entries.is_empty() {
            return Err("holds no source: nobody could write".to_owned());
        }
        Ok(Self { entries })
    }

    /// The name that `token` belongs to.
    ///
    /// Every entry is compared in full whatever `token` is, so the time taken depends on the number of entries, on the
    /// length of `token` (which whoever sent it knows) and, at the very end, on whether there was a match (which the
    /// reply tells), but not on how much of any token was right, nor on which entry matched.
    pub fn name_of(&self, token: &[u8]) -> Option<&str> {
        let token = Padded::new(token)?;
        // 0 is no match, n the n-th entry. At most one matches: no token stands twice.
        let mut matched = 0;
        for (number, entry) in (1..).zip(&self.entries) {
            let equal = usize::from(black_box(entry.token.difference(&token)) == 0);
            matched |= black_box(equal.wrapping_neg()) & number;
        }
        let entry = self.entries.get(matched.checked_sub(1)?)?;
        Some(&entry.name)
    }

    /// The names, each as often as it has tokens.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.entries.len()
    }
}

/// A token with NULs behind it up to the longest token's length. No token contains a NUL, so no two are the same when
/// padded.
struct Padded([u8; MAX_TOKEN_LENGTH]);

impl Padded {
    /// `None` if it is longer than any token may be, or contains a NUL.
    fn new(token: &[u8]) -> Option<Self> {
        let mut padded = [0; MAX_TOKEN_LENGTH];
        padded.get_mut(..token.len())?.copy_from_slice(token);
        (!token.contains(&0)).then_some(Self(padded))
    }

    /// 0 where all bytes are the same.
    fn difference(&self, other: &Self) -> u8 {
        self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b))
    }
}

fn name_from(name: &[u8]) -> Option<String> {
    let name = str::from_utf8(name).ok()?;
    is_dns_name(name, MAX_NAME_LENGTH).then(|| name.to_owned())
}

fn token_from(token: &[u8]) -> Option<Padded> {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid = token.len() >= MIN_TOKEN_LENGTH && token.iter().all(hex);
    valid.then(|| Padded::new(token)).flatten()
}

/// The sources in use, read again when the file changes.
pub type SourcesFile = WatchedFile<Sources>;

impl FromFile for Sources {
    const FLAG: &'static str = "--sources-filename";
    const NAME: &'static str = "sources";
    const LOADED: &'static str = "sources loaded";
    const RELOADED: &'static str = "sources reloaded";

    fn check(content: &Content) -> Result<Self, Error> {
        Self::parse(&content.bytes).map_err(|invalid| content.unusable(invalid))
    }

    fn show(&self, msg: &str, path: &str, metrics: &Metrics, diagnostics: &Diagnostics) {
        metrics.source_requests.set_names(self.names());
        diagnostics.info(msg, &[("path", path.into()), ("tokens", self.tokens().into())]);
    }
}

#[cfg(test)]
mod tests;
