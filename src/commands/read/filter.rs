//! Which lines are wanted.
//!
//! Nearly all lines are passed over after a byte search: a value that is asked for stands in the line as it is, unless
//! it is escaped. Only lines that may hold it are looked into.

use std::time::SystemTime;

pub(super) use super::row::Kind;
use super::row::{Row, Verb};
use super::search::Needle;
use crate::record::entry::{self, NoEntry};
use crate::record::json::JsonStr;
use crate::record::timestamp;

/// What a line must say to be shown; what is none does not matter.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Received then or later.
    pub(super) since: Option<SystemTime>,
    /// Received then or earlier.
    pub(super) until: Option<SystemTime>,
    pub(super) user: Option<Pattern>,
    pub(super) verb: Option<Pattern>,
    pub(super) resource: Option<Pattern>,
    pub(super) subresource: Wanted,
    pub(super) namespace: Option<Pattern>,
    pub(super) name: Option<Pattern>,
    pub(super) source: Option<Pattern>,
    pub(super) only: Option<Kind>,
}

/// Which subresource, where a resource is asked for.
#[derive(Debug, Clone, Default)]
pub(super) enum Wanted {
    #[default]
    Any,
    /// The resource itself.
    None,
    This(Pattern),
}

/// A text, or the beginning of one.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    Prefix,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self { text: prefix.to_owned(), reach: Reach::Prefix },
            None => Self { text: text.to_owned(), reach: Reach::Whole },
        }
    }

    fn fits(&self, text: JsonStr<'_>) -> bool {
        match self.reach {
            Reach::Whole => text.is(&self.text),
            Reach::Prefix => text.starts_with(&self.text),
        }
    }

    /// The text as it stands in a line if no character of it is escaped ([`Prefilter`] looks for escapes itself). None if
    /// the text is empty, or has characters that JSON or Go may write in other ways.
    fn needle(&self) -> Option<Needle> {
        let literal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
        if self.text.is_empty() || !self.text.bytes().all(literal) {
            return None;
        }
        let end = if self.reach == Reach::Whole { "\"" } else { "" };
        Some(Needle::new(format!("\"{}{end}", self.text).into_bytes()))
    }
}

/// What is to be done with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wanted, with the time that it says.
    Take(Option<SystemTime>),
    /// Not wanted.
    Skip,
    /// No audit line.
    Alien(NoEntry),
}

/// A filter made ready.
#[derive(Debug)]
pub(super) struct Judge {
    filter: Filter,
    prefilter: Option<Prefilter>,
}

impl Judge {
    pub(super) fn new(filter: Filter) -> Self {
        let patterns = [&filter.user, &filter.name, &filter.namespace, &filter.resource, &filter.source];
        // The longest is likely to be the rarest.
        let needle = patterns.into_iter().flatten().filter_map(Pattern::needle).max_by_key(Needle::len);
        Self { prefilter: needle.map(Prefilter::new), filter }
    }

    /// Whether the filter asks for anything.
    pub(super) fn is_choosy(&self) -> bool {
        let Filter { since, until, user, verb, resource, subresource: _, namespace, name, source, only } = &self.filter;
        let texts = [user, verb, resource, namespace, name, source];
        since.or(*until).is_some() || only.is_some() || texts.iter().any(|text| text.is_some())
    }

    /// `line` is without its newline.
    pub(super) fn judge(&self, line: &[u8]) -> Verdict {
        if let Some(prefilter) = &self.prefilter
            // A torn line lacks a brace, and is to be reported.
            && let [b'{', .., b'}'] = line
            && !prefilter.may_match(line)
        {
            return Verdict::Skip;
        }
        let entry = match entry::read(line) {
            Ok(entry) => entry,
            Err(reason) => return Verdict::Alien(reason),
        };
        let row = Row::of(&entry);
        let time = row.time.and_then(|time| timestamp::parse(time.escaped()));
        if self.wants(&row, time) { Verdict::Take(time) } else { Verdict::Skip }
    }

    fn wants(&self, row: &Row<'_>, time: Option<SystemTime>) -> bool {
        let filter = &self.filter;
        let fits = |pattern: &Option<Pattern>, text: Option<JsonStr<'_>>| match (pattern, text) {
            (None, _) => true,
            (Some(pattern), Some(text)) => pattern.fits(text),
            (Some(_), None) => false,
        };
        let verb = match row.verb {
            Verb::Known(verb) => filter.verb.as_ref().is_none_or(|pattern| match pattern.reach {
                Reach::Whole => verb == pattern.text,
                Reach::Prefix => verb.starts_with(&pattern.text),
            }),
            Verb::Said(verb) => fits(&filter.verb, Some(verb)),
        };
        let subresource = match &filter.subresource {
            Wanted::Any => true,
            Wanted::None => row.subresource.is_none(),
            Wanted::This(pattern) => row.subresource.is_some_and(|text| pattern.fits(text)),
        };
        verb && subresource
            && filter.only.is_none_or(|kind| kind == row.kind)
            && filter.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && filter.until.is_none_or(|until| time.is_some_and(|time| time <= until))
            && (fits(&filter.user, row.user) || fits(&filter.user, row.impersonated))
            && fits(&filter.resource, row.resource)
            && fits(&filter.namespace, row.namespace)
            && fits(&filter.name, row.name)
            && fits(&filter.source, row.source)
    }
}

/// Tells lines that cannot hold a text from those that may.
#[derive(Debug)]
struct Prefilter {
    needle: Needle,
    escape: Needle,
    slash: Option<Needle>,
    /// Which bytes the needle has: bit N stands for byte N.
    bytes: u128,
}

impl Prefilter {
    fn new(needle: Needle) -> Self {
        let text = needle.text();
        let bytes = text.iter().fold(0, |bytes, byte| bytes | 1 << (byte % 128));
        Self {
            slash: text.contains(&b'/').then(|| Needle::new(br"\/".to_vec())),
            escape: Needle::new(br"\u00".to_vec()),
            needle,
            bytes,
        }
    }

    /// Whether the text stands in the line, or an escape of one of its characters does.
    fn may_match(&self, line: &[u8]) -> bool {
        if self.needle.is_in(line) || self.slash.as_ref().is_some_and(|slash| slash.is_in(line)) {
            return true;
        }
        let mut from = 0;
        while let Some(at) = self.escape.find(line, from) {
            let digits = line.get(at + 4..at + 6).and_then(|digits| str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte @ ..0x80) if self.bytes & 1 << byte == 0 => from = at + 6,
                Some(0x80..) => from = at + 6,
                _ => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
