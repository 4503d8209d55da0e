//! Who may write: the file of `--sources-filename`.
//!
//! On a managed cluster nothing but a token in the webhook's URL can authenticate the API server. Each line of the file
//! is `NAME TOKEN`; the name goes into the audit lines as `source`. This module knows files and tokens, not requests.

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::files::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

/// The flag that names the file.
const FLAG: &str = "--sources-filename";
/// 128 bits: cannot be guessed over a network.
const MIN_TOKEN_LENGTH: usize = 32;
/// Every token is compared in this length.
const MAX_TOKEN_LENGTH: usize = 128;
/// A DNS-1123 label's length: a name is for people to read.
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

/// A line that is not as it should be. Shows the line's number and nothing that stands in it: with name and token
/// swapped, that would be the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Neither `NAME TOKEN`, nor blank, nor a comment.
    Shape {
        /// The line, from 1.
        line: usize,
    },
    /// The name is not of DNS-1123's form.
    Name {
        /// The line, from 1.
        line: usize,
    },
    /// The token is not lowercase hex of 32 to 128 digits.
    Token {
        /// The line, from 1.
        line: usize,
    },
    /// The token stands in an earlier line too.
    Repeated {
        /// The line, from 1.
        line: usize,
        /// The earlier line.
        first: usize,
    },
    /// There are more than a thousand tokens.
    TooMany {
        /// The first line too many, from 1.
        line: usize,
    },
    /// There is no source at all, which would lock everyone out.
    Empty,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { line } => write!(f, "line {line}: not of the form NAME TOKEN"),
            Self::Name { line } => write!(
                f,
                "line {line}: the name is not of lowercase letters, digits, - and . (at most {MAX_NAME_LENGTH}, a letter or digit at both ends of each part)"
            ),
            Self::Token { line } => write!(
                f,
                "line {line}: the token is not of {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} lowercase hex digits"
            ),
            Self::Repeated { line, first } => {
                write!(f, "line {line}: the same token as in line {first}")
            }
            Self::TooMany { line } => write!(f, "line {line}: more than {MAX_TOKENS} tokens"),
            Self::Empty => write!(f, "holds no source: nobody could write"),
        }
    }
}

impl std::error::Error for Invalid {}

impl Sources {
    /// Reads the file's text: lines `NAME TOKEN` with blanks or tabs between, blank lines, and comment lines that begin
    /// with `#`. CRLF is taken for LF. A name may have several tokens (rotation); a token stands once.
    ///
    /// # Errors
    /// [`Invalid`] for the first line that is not so, and for a file without any source.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        let mut entries = Vec::new();
        let mut lines_by_token = HashMap::new();
        for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let mut words = text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(Invalid::Shape { line });
            };
            let name = name_from(name).ok_or(Invalid::Name { line })?;
            let token_padded = token_from(token).ok_or(Invalid::Token { line })?;
            if let Some(first) = lines_by_token.insert(token, line) {
                return Err(Invalid::Repeated { line, first });
            }
            if entries.len() == MAX_TOKENS {
                return Err(Invalid::TooMany { line });
            }
            entries.push(Entry { name, token: token_padded });
        }
        if entries.is_empty() {
            return Err(Invalid::Empty);
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

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.entries.len()
    }
}

/// A token with NULs behind it up to the longest token's length. No token contains a NUL, so no two are the same when
/// padded.
struct Padded([u8; MAX_TOKEN_LENGTH]);

impl Padded {
    /// `None` where it is longer than any token, or contains a NUL, which no token does.
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
    let label = |label: &[u8]| {
        let alphanumeric = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        label.first().is_some_and(alphanumeric)
            && label.last().is_some_and(alphanumeric)
            && label.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
    };
    let valid = name.len() <= MAX_NAME_LENGTH && name.split(|&byte| byte == b'.').all(label);
    valid.then(|| str::from_utf8(name).ok()).flatten().map(str::to_owned)
}

fn token_from(token: &[u8]) -> Option<Padded> {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid = token.len() >= MIN_TOKEN_LENGTH && token.iter().all(hex);
    valid.then(|| Padded::new(token)).flatten()
}

/// The sources in use, read again when the file changes.
pub struct SourcesFile {
    path: PathBuf,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    sources: RwLock<Arc<Sources>>,
    watched: Mutex<Watched<Content>>,
}

impl SourcesFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error`], which names flag, path and line, where it cannot be read or used.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let content = Content::read(FLAG, &path)?;
        let sources = check(&content)?;
        say("sources loaded", &path, &sources, &diagnostics);
        Ok(Self {
            path,
            metrics,
            diagnostics,
            sources: RwLock::new(Arc::new(sources)),
            watched: Mutex::new(Watched::new("sources", content)),
        })
    }

    /// The sources in use.
    pub fn current(&self) -> Arc<Sources> {
        Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, and uses it if it has changed and is valid. To be called every few seconds.
    pub fn reload(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Content::read(FLAG, &self.path);
        let reloaded = watched.look(found, check, &self.metrics.certificate_reloads, &self.diagnostics);
        if let Some(sources) = reloaded {
            say("sources reloaded", &self.path, &sources, &self.diagnostics);
            *self.sources.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sources);
        }
    }
}

fn check(content: &Content) -> Result<Sources, Error> {
    Sources::parse(&content.bytes).map_err(|invalid| content.unusable(invalid.to_string()))
}

fn say(msg: &str, path: &std::path::Path, sources: &Sources, diagnostics: &Diagnostics) {
    let path = path.to_string_lossy();
    diagnostics.info(msg, &[("path", (&*path).into()), ("tokens", sources.tokens().into())]);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::files::watched::testing::Messages;
    use crate::observe::labels::Reload;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "fedcba9876543210fedcba9876543210";

    fn error(text: &str) -> String {
        match Sources::parse(text.as_bytes()) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_token_gives_the_name_beside_it_and_nothing_else_does() {
        let long = "ab".repeat(64);
        let text = format!("prod {ONE}\neu-1.staging {TWO}\nold {long}\n");
        let sources = Sources::parse(text.as_bytes()).unwrap();
        assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
        assert_eq!(sources.name_of(TWO.as_bytes()), Some("eu-1.staging"));
        assert_eq!(sources.name_of(long.as_bytes()), Some("old"));
        let with_nul = format!("{ONE}\0");
        let longer = format!("{ONE}0");
        for wrong in [
            "",
            "\0",
            &ONE[1..],
            &ONE[..31],
            &ONE.to_uppercase(),
            &longer,
            &with_nul,
            &"0".repeat(129),
            &"\0".repeat(128),
            "prod",
        ] {
            assert_eq!(sources.name_of(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_may_have_several_tokens() {
        let text = format!("prod {ONE}\nprod {TWO}");
        let sources = Sources::parse(text.as_bytes()).unwrap();
        assert_eq!(sources.tokens(), 2);
        assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
        assert_eq!(sources.name_of(TWO.as_bytes()), Some("prod"));
    }

    #[test]
    fn comments_blank_lines_tabs_and_crlf_are_taken() {
        let text = format!("# who\r\n\r\n  \t\n\t prod\t \t{ONE}  \r\n  # {TWO}\r\nb {TWO}");
        let sources = Sources::parse(text.as_bytes()).unwrap();
        assert_eq!(sources.tokens(), 2);
        assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
        assert!(Sources::parse(&[b"# \xff\n a ", ONE.as_bytes()].concat()).is_ok());
    }

    #[test]
    fn a_name_is_of_the_form_of_dns_1123() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "a-b", "a.b", "a--b", "x1.y2-z", &longest] {
            assert_eq!(error(&format!("{name} {ONE}")), "none", "{name}");
        }
        let too_long = "a".repeat(64);
        for name in ["A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "ä", "a/b", "\"", &too_long] {
            assert_eq!(
                error(&format!("\n{name} {ONE}")),
                "line 2: the name is not of lowercase letters, digits, - and . (at most 63, a letter or digit at both ends of each part)",
                "{name}"
            );
        }
    }

    #[test]
    fn a_token_is_of_32_to_128_lowercase_hex_digits() {
        let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
        assert_eq!(error(&format!("a {ONE}\nb {longest}")), "none");
        for token in
            ["x", "g123456789abcdef0123456789abcdef", &ONE[1..], &ONE.to_uppercase(), &format!("{ONE}-"), &too_long]
        {
            assert_eq!(
                error(&format!("# a\na {token}")),
                "line 2: the token is not of 32 to 128 lowercase hex digits",
                "{token}"
            );
        }
    }

    #[test]
    fn what_else_can_be_wrong_is_said_with_its_line() {
        for text in ["prod", ONE, &format!("a {ONE} # new"), &format!("a:{ONE}")] {
            let expected = "line 1: not of the form NAME TOKEN";
            assert_eq!(error(text), expected, "{text}");
        }
        for second in ["a", "b"] {
            assert_eq!(error(&format!("a {ONE}\n\n{second} {ONE}")), "line 3: the same token as in line 1");
        }
        for text in ["", "\n", "# a\n"] {
            assert_eq!(error(text), "holds no source: nobody could write");
        }
        let many = |count| -> String { (0..count).map(|n| format!("a {n:032x}\n")).collect() };
        assert_eq!(error(&many(1000)), "none");
        assert_eq!(error(&many(1001)), "line 1001: more than 1000 tokens");
    }

    #[test]
    fn the_last_of_a_thousand_tokens_is_found_like_the_first() {
        let text: String = (0..1000).map(|n| format!("n{n} {n:032x}\n")).collect();
        let sources = Sources::parse(text.as_bytes()).unwrap();
        for n in [0, 1, 255, 256, 999] {
            let token = format!("{n:032x}");
            assert_eq!(sources.name_of(token.as_bytes()), Some(format!("n{n}").as_str()));
        }
        assert_eq!(sources.name_of(format!("{:032x}", 1000).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), token in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(sources) = Sources::parse(&bytes) {
                let _ = sources.name_of(&token);
            }
        }

        #[test]
        fn every_token_of_a_valid_file_is_found_and_no_other(
            entries in proptest::collection::hash_map("[0-9a-f]{32,128}", "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", 1..20),
            other in "[0-9a-f]{32}",
        ) {
            let text: String = entries.iter().map(|(token, name)| format!("{name} {token}\n")).collect();
            let sources = Sources::parse(text.as_bytes()).unwrap();
            for (token, name) in &entries {
                prop_assert_eq!(sources.name_of(token.as_bytes()), Some(name.as_str()));
            }
            if !entries.contains_key(&other) {
                prop_assert_eq!(sources.name_of(other.as_bytes()), None);
            }
        }

        #[test]
        fn no_error_shows_what_stands_in_the_file(word in "[A-Z]{6,40}", before in "[^\n]{0,20}", after in "[^\n]{0,20}") {
            if let Err(error) = Sources::parse(format!("{before}{word}{after}").as_bytes()) {
                prop_assert!(!error.to_string().contains(&word));
            }
        }
    }

    #[test]
    fn a_changed_file_is_used_and_a_broken_one_is_said_once_and_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sources");
        let shown = path.display();
        let messages = Messages::default();
        let metrics = Arc::new(Metrics::new());
        let load = || SourcesFile::load(path.clone(), metrics.clone(), messages.diagnostics());

        let missing = load().err().unwrap().to_string();
        assert_eq!(missing, format!("--sources-filename {shown}: No such file or directory (os error 2)"));
        fs::write(&path, "# nobody\n").unwrap();
        assert_eq!(
            load().err().unwrap().to_string(),
            format!("--sources-filename {shown}: holds no source: nobody could write")
        );
        fs::write(&path, format!("a {ONE}")).unwrap();
        let file = load().unwrap();
        let loaded = format!("info sources loaded path={shown} tokens=1");
        assert_eq!(messages.take(), [loaded]);

        let before = file.current();
        fs::write(&path, format!("a {ONE}\nb {TWO}")).unwrap();
        file.reload();
        let reloaded = format!("info sources reloaded path={shown} tokens=2");
        assert_eq!(messages.take(), [reloaded]);
        assert_eq!(file.current().name_of(TWO.as_bytes()), Some("b"));
        assert_eq!(before.name_of(TWO.as_bytes()), None);

        fs::write(&path, format!("a {ONE}\nb {}", &TWO[1..])).unwrap();
        for _ in 0..3 {
            file.reload();
        }
        let failed = format!(
            "error sources: reload failed, the old one stays in use error=--sources-filename {shown}: line 2: the token is not of 32 to 128 lowercase hex digits"
        );
        assert_eq!(messages.take(), [failed]);
        assert_eq!(file.current().name_of(TWO.as_bytes()), Some("b"));
        let reloads = &metrics.certificate_reloads;
        assert_eq!((reloads.value(Reload::Success), reloads.value(Reload::Failure)), (1, 1));
    }
}
