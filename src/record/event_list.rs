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

/// Bytes that a line has more than its event at most, apart from the name of the source.
const ADDED: usize = 64;

/// Bytes of a character's escape in a JSON string at most: `\u0000`.
const MAX_ESCAPE: usize = 6;

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
    /// Number of lines in which bytes that are not UTF-8 were replaced.
    pub mended: usize,
}

/// Appends the audit lines of `body`, an EventList or a single Event of `audit.k8s.io/v1`, to `lines`.
///
/// A line is an event without white space between tokens. `"kind":"Event"` and `"apiVersion":"audit.k8s.io/v1"` stand
/// first where the event does not have them, as the API server's own log backend writes it. `"source"`, if one is given,
/// stands last, and an event's own top-level member of that name is left out. Each line ends with `\n`.
///
/// In an event's strings each run of bytes that are not UTF-8 becomes one U+FFFD: the API server copies the body of a
/// PATCH into the event as it came, and a list with one such event must not be lost.
///
/// At most [`most_lines`] bytes are appended. After an error `lines` is as it was; `body` is of no use in either case.
pub fn audit_lines(body: &mut [u8], source: Option<&str>, lines: &mut Vec<u8>) -> Result<Events, Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let before = lines.len();
    lines.reserve(body.len() + body.len() / 8);
    let most = before.saturating_add(most_lines(body.len()));
    let mut made = Lines { bytes: lines, source, most, events: Events::default() };
    match read(body, &mut made) {
        Ok(()) => Ok(made.events),
        Err(invalid) => {
            lines.truncate(before);
            Err(invalid)
        }
    }
}

enum Kind {
    EventList,
    Event,
}

fn read(body: &mut [u8], lines: &mut Lines<'_>) -> Result<(), Invalid> {
    let mut kind = None;
    let mut version = None;
    let mut items = None;
    let mut json = Compactor::new(body);
    if !json.next_is(b'{')? {
        json.skip()?;
        json.finish()?;
        return Err(Invalid::NotAnEventList);
    }
    json.members(&[KIND, API_VERSION, ITEMS, SOURCE], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
            Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
            Some(ITEMS) => once(ITEMS, &mut items, read_items(json, lines)?)?,
            _ => json.skip()?,
        }
        Ok(lines.fate(name))
    })?;
    let utf8 = json.check_utf8();
    let length = match (json.finish(), &kind) {
        (Err(error), Some(Kind::Event)) if body.get(error.at) == Some(&b'{') => return Err(Invalid::SeveralEvents),
        (length, _) => length?,
    };
    let kind = kind.ok_or(Invalid::NotAnEventList)?;
    let () = version.ok_or(Invalid::EventListVersion)?;
    match (kind, items) {
        (Kind::EventList, Some(())) => Ok(utf8?),
        (Kind::EventList, None) => Err(Invalid::Items),
        (Kind::Event, None) => lines.push(body.get(..length).unwrap_or_default(), ["", ""], utf8),
        (Kind::Event, Some(())) => Err(Invalid::NotAnEventList),
    }
}

fn read_kind(json: &mut Compactor<'_>) -> Result<Kind, Invalid> {
    match json.one_of(&["EventList", "Event", "AdmissionReview"])? {
        Some("EventList") => Ok(Kind::EventList),
        Some("Event") => Ok(Kind::Event),
        Some(_) => Err(Invalid::ReviewForEventList),
        None => Err(Invalid::NotAnEventList),
    }
}

fn read_version(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    json.one_of(&["audit.k8s.io/v1"])?.map(|_| ()).ok_or(Invalid::EventListVersion)
}

/// Reads `items`, an array or null, as Go writes an empty list.
fn read_items(json: &mut Compactor<'_>, lines: &mut Lines<'_>) -> Result<(), Invalid> {
    if json.next_is(b'n')? {
        return Ok(json.skip()?);
    }
    if !json.next_is(b'[')? {
        return Err(Invalid::Items);
    }
    // What is not UTF-8 outside of the events is nobody's patch.
    json.check_utf8()?;
    json.elements(|json| read_item(json, lines))
}

fn read_item(json: &mut Compactor<'_>, lines: &mut Lines<'_>) -> Result<(), Invalid> {
    if !json.next_is(b'{')? {
        return Err(Invalid::Item);
    }
    let start = json.position();
    let mut missing = ["\"kind\":\"Event\",", "\"apiVersion\":\"audit.k8s.io/v1\","];
    let [kind, version] = &mut missing;
    json.members(&[KIND, API_VERSION, SOURCE], |json, name| -> Result<Fate, Invalid> {
        json.skip()?;
        match name {
            Some(KIND) => *kind = "",
            Some(API_VERSION) => *version = "",
            _ => {}
        }
        Ok(lines.fate(name))
    })?;
    let utf8 = json.check_utf8();
    lines.push(json.since(start), missing, utf8)
}

/// Where an event's line goes.
struct Lines<'a> {
    bytes: &'a mut Vec<u8>,
    source: Option<&'a str>,
    /// Greatest length that `bytes` may reach.
    most: usize,
    /// What was appended.
    events: Events,
}

impl Lines<'_> {
    /// Whether a top-level member of an event stays in its line.
    fn fate(&self, name: Option<&str>) -> Fate {
        if self.source.is_some() && name == Some(SOURCE) { Fate::Drop } else { Fate::Keep }
    }

    /// Appends the line of `event`, a compact object that lacks the members `missing`, mended if `utf8` is an error.
    fn push(&mut self, event: &[u8], missing: [&str; 2], utf8: Result<(), json::Error>) -> Result<(), Invalid> {
        let start = self.bytes.len();
        let added = ADDED + MAX_ESCAPE * self.source.map_or(0, str::len);
        self.make_room(added)?;
        self.bytes.push(b'{');
        for member in missing {
            self.bytes.extend_from_slice(member.as_bytes());
        }
        let members = event.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default();
        match utf8 {
            Ok(()) => {
                self.make_room(members.len() + added)?;
                self.bytes.extend_from_slice(members);
            }
            Err(_) => {
                for part in mended(members) {
                    self.make_room(part.len() + added)?;
                    self.bytes.extend_from_slice(part);
                }
                self.events.mended += 1;
            }
        }
        if members.is_empty() {
            // Takes the comma away that nothing follows.
            self.bytes.pop();
        }
        if let Some(source) = self.source {
            self.bytes.extend_from_slice(b",\"source\":");
            json::push_string(self.bytes, source);
        }
        self.bytes.extend_from_slice(b"}\n");
        self.events.count += 1;
        self.events.longest = self.events.longest.max(self.bytes.len() - start);
        Ok(())
    }

    /// Makes room for so many bytes; an error if they could be too many. What is not enough grows once, to the most
    /// that is allowed, and not to twice that, as a Vec by itself might.
    fn make_room(&mut self, more: usize) -> Result<(), Invalid> {
        let left = self.most.saturating_sub(self.bytes.len());
        if more > left {
            return Err(Invalid::ManySmallItems);
        }
        if more > self.bytes.capacity() - self.bytes.len() {
            self.bytes.reserve_exact(left);
        }
        Ok(())
    }
}

/// `bytes` with one U+FFFD in place of each run of bytes that are not UTF-8, in parts. One for each byte could make
/// three bytes of every one that came; this makes at most twice as many.
fn mended(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut in_run = false;
    bytes.utf8_chunks().flat_map(move |chunk| {
        let goes_on = in_run && chunk.valid().is_empty();
        in_run = !chunk.invalid().is_empty();
        let replacement = if in_run && !goes_on { "\u{fffd}" } else { "" };
        [chunk.valid().as_bytes(), replacement.as_bytes()]
    })
}

#[cfg(test)]
mod tests;
