//! Who may write: the file of `--sources-filename`.
//!
//! On a managed cluster nothing but a token in the webhook's URL can authenticate the API server. Each line of the file
//! is `NAME TOKEN`; the name goes into the audit lines as `source`.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};

use crate::files::is_dns_name;
use crate::files::watched::{Content, Error};
use crate::files::watched_file::{FromFile, WatchedFile};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

/// 128 bits: cannot be guessed over a network.
const MIN_TOKEN_LENGTH: usize = 32;
/// 512 bits: room for every usual length of a key or hash.
const MAX_TOKEN_LENGTH: usize = 128;
/// As long as a DNS label may be (RFC 1123): a name is for people to read.
const MAX_NAME_LENGTH: usize = 63;
/// Each name is a series on the metrics page.
const MAX_TOKENS: usize = 1000;

/// Names and their tokens, checked. Without `Debug`: it would show the tokens.
pub struct Sources {
    /// The name that belongs to each token's SHA-256.
    names: HashMap<Vec<u8>, String>,
}

impl Sources {
    /// Reads the file's text: lines `NAME TOKEN` with blanks or tabs between, blank lines, and comment lines that begin
    /// with `#`. CRLF is taken for LF. A name may have several tokens (rotation); a token stands once.
    ///
    /// # Errors
    /// For the first line that is not so, and for a file without any source: what is wrong, with the line's number. It
    /// shows nothing that stands in the line: with name and token swapped, that would be the token.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut names = HashMap::new();
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
            if !is_token(token) {
                return invalid(&format!(
                    "the token is not of {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} lowercase hex digits"
                ));
            }
            if let Some(first) = lines_by_token.insert(token, line) {
                return invalid(&format!("the same token as in line {first}"));
            }
            if names.len() == MAX_TOKENS {
                return invalid(&format!("more than {MAX_TOKENS} tokens"));
            }
            names.insert(digest(&SHA256, token).as_ref().to_vec(), name);
        }
        if names.is_empty() {
            return Err("holds no source: nobody could write".to_owned());
        }
        Ok(Self { names })
    }

    /// The name that `token` belongs to.
    ///
    /// How long this takes tells nothing about any token: hashing takes as long for all of one length, and what the map
    /// compares are digests. That one begins like another says nothing about how the tokens begin.
    pub fn name_of(&self, token: &[u8]) -> Option<&str> {
        self.names.get(digest(&SHA256, token).as_ref()).map(String::as_str)
    }

    /// The names, each as often as it has tokens.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.names.len()
    }
}

fn name_from(name: &[u8]) -> Option<String> {
    let name = str::from_utf8(name).ok()?;
    is_dns_name(name, MAX_NAME_LENGTH).then(|| name.to_owned())
}

fn is_token(text: &[u8]) -> bool {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (MIN_TOKEN_LENGTH..=MAX_TOKEN_LENGTH).contains(&text.len()) && text.iter().all(hex)
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
