//! An EventList of the audit webhook becomes one audit line for each of its events.
//!
//! Of the list only `kind`, `apiVersion` and `items` are looked into, of an event only which members it has.

use crate::record::invalid::{Invalid, once};
use crate::record::json::{self, Compactor, Fate};

/// Lines may be this many bytes longer than twice their list. A batch of the API server has up to 400 events, to each of
/// which up to 140 bytes are added (see [`ADDED`]; a source's name has at most 63 bytes).
const SLACK: usize = 64 * 1024;

/// Most bytes that the lines of a list of `size` bytes may have together. In a list of millions of `{}`, what is added to
/// each would be many times what came; such a list is refused.
pub const fn most_lines(size: usize) -> usize {
    size.saturating_mul(2).saturating_add(SLACK)
}

/// Bytes that a line has more than its item at most, apart from the name of the source.
const ADDED: usize = 64;

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const ITEMS: &str = "items";
const SOURCE: &str = "source";

/// The lines that a list became.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Number of lines, one for each event.
    pub count: usize,
    /// Length of the longest of them in bytes, with its newline; 0 if there is none.
    pub longest: usize,
}

/// Appends the audit lines of `body`, an EventList of `audit.k8s.io/v1`, to `lines`.
///
/// A line is an item without white space between tokens. `"kind":"Event"` and `"apiVersion":"audit.k8s.io/v1"` stand
/// first where the item does not have them, as the API server's own log backend writes it. `"source"`, if one is given,
/// stands last, and an item's own top-level member of that name is left out. Each line ends with `\n`.
///
/// At most [`most_lines`] bytes are appended. After an error `lines` is as it was; `body` is of no use in either case.
pub fn audit_lines(body: &mut [u8], source: Option<&str>, lines: &mut Vec<u8>) -> Result<Events, Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let before = lines.len();
    let result = read(body, source, lines);
    if result.is_err() {
        lines.truncate(before);
    }
    result
}

fn read(body: &mut [u8], source: Option<&str>, lines: &mut Vec<u8>) -> Result<Events, Invalid> {
    let most = lines.len().saturating_add(most_lines(body.len()));
    lines.reserve(body.len() + body.len() / 8);
    let mut kind = None;
    let mut version = None;
    let mut items = None;
    let mut json = Compactor::new(body);
    if !json.next_is(b'{')? {
        json.skip()?;
        json.finish()?;
        return Err(Invalid::NotAnEventList);
    }
    json.members(&[KIND, API_VERSION, ITEMS], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
            Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
            Some(ITEMS) => once(ITEMS, &mut items, read_items(json, source, lines, most)?)?,
            _ => json.skip()?,
        }
        Ok(Fate::Keep)
    })?;
    json.finish()?;
    let () = kind.ok_or(Invalid::NotAnEventList)?;
    let () = version.ok_or(Invalid::EventListVersion)?;
    items.ok_or(Invalid::Items)
}

fn read_kind(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    match json.one_of(&["EventList", "AdmissionReview"])? {
        Some("EventList") => Ok(()),
        Some(_) => Err(Invalid::ReviewForEventList),
        None => Err(Invalid::NotAnEventList),
    }
}

fn read_version(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    match json.one_of(&["audit.k8s.io/v1"])? {
        Some(_) => Ok(()),
        None => Err(Invalid::EventListVersion),
    }
}

fn read_items(
    json: &mut Compactor<'_>,
    source: Option<&str>,
    lines: &mut Vec<u8>,
    most: usize,
) -> Result<Events, Invalid> {
    if !json.next_is(b'[')? {
        return Err(Invalid::Items);
    }
    let mut events = Events::default();
    json.elements(|json| -> Result<(), Invalid> {
        let before = lines.len();
        push_line(json, source, lines, most)?;
        events.count += 1;
        events.longest = events.longest.max(lines.len() - before);
        Ok(())
    })?;
    Ok(events)
}

/// Reads one item and appends its line; an error if `lines` could then be longer than `most`.
fn push_line(json: &mut Compactor<'_>, source: Option<&str>, lines: &mut Vec<u8>, most: usize) -> Result<(), Invalid> {
    if !json.next_is(b'{')? {
        return Err(Invalid::Item);
    }
    let start = json.position();
    let (mut has_kind, mut has_version) = (false, false);
    json.members(&[KIND, API_VERSION, SOURCE], |json, name| -> Result<Fate, Invalid> {
        json.skip()?;
        has_kind |= name == Some(KIND);
        has_version |= name == Some(API_VERSION);
        Ok(match name {
            Some(SOURCE) if source.is_some() => Fate::Drop,
            _ => Fate::Keep,
        })
    })?;
    let item = json.since(start);
    let members = item.get(1..item.len() - 1).unwrap_or_default();
    // An escaped character of the source's name has at most six bytes.
    if lines.len() + item.len() + ADDED + 6 * source.map_or(0, str::len) > most {
        return Err(Invalid::ManySmallItems);
    }

    lines.push(b'{');
    if !has_kind {
        lines.extend_from_slice(b"\"kind\":\"Event\",");
    }
    if !has_version {
        lines.extend_from_slice(b"\"apiVersion\":\"audit.k8s.io/v1\",");
    }
    lines.extend_from_slice(members);
    if members.is_empty() {
        // Takes the comma away that nothing follows.
        lines.pop();
    }
    if let Some(source) = source {
        lines.extend_from_slice(b",\"source\":");
        json::push_string(lines, source);
    }
    lines.extend_from_slice(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests;
