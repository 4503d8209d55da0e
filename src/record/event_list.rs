//! An EventList of the audit webhook becomes one audit line for each of its events.
//!
//! Of the list only `kind`, `apiVersion` and `items` are looked into, of an event only which members it has. With a policy,
//! what its rules ask about is looked into as well.

use std::ops::Range;

use crate::record::Chained;
use crate::record::invalid::{Invalid, once};
use crate::record::json::{self, Compactor, Fate};
use crate::record::policy::cuts::{Cuts, Reduction, Walk};
use crate::record::policy::event_notes::{self, EventNotes, Lowered};
use crate::record::policy::{Decision, Level, Policy, Tally};

/// Lines may be this many bytes longer than twice their list. A batch of the API server has up to 400 events, to each of
/// which up to 140 bytes are added (see [`ADDED`]; a source's name has at most 63 bytes).
const SLACK: usize = 64 * 1024;

/// Most bytes that the lines of a list of `size` bytes may have together. In a list of millions of `{}`, what is added to
/// each would be many times what came; such a list is refused.
pub const fn most_lines(size: usize) -> usize {
    size.saturating_mul(2).saturating_add(SLACK)
}

/// Bytes of memory that a line takes beside its own where lines are chained: for its `chain` member and its digest.
const CHAINING: usize = 160;

/// Most lines that a list of `size` bytes may become where they are chained, so that chaining them takes no more memory
/// than the list itself. The shortest recorded Event of an API server has 794 bytes.
const fn most_chained(size: usize) -> usize {
    size.saturating_add(SLACK) / CHAINING
}

/// Bytes that a line has more than its event at most, apart from the name of the source.
const ADDED: usize = 64;

/// Bytes of a character's escape in a JSON string at most: `\u0000`.
const MAX_ESCAPE: usize = 6;

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const ITEMS: &str = "items";
const SOURCE: &str = "source";
const CHAIN: &str = "chain";

/// The lines that a list became.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Number of events.
    pub count: usize,
    /// Number of lines: one for each event that the policy does not leave out.
    pub lines: usize,
    /// Length of the longest of them in bytes, with its newline; 0 if there is none.
    pub longest: usize,
    /// Number of lines in which bytes that are not UTF-8 were replaced.
    pub mended: usize,
    /// Number of events at each level, with a policy.
    pub decisions: Tally,
    /// What the policy says of the last event.
    pub last: Option<Decision>,
}

/// Appends the audit lines of `body`, an EventList or a single Event of `audit.k8s.io/v1`, to `lines`.
///
/// A line is an event without white space between tokens. `"kind":"Event"` and `"apiVersion":"audit.k8s.io/v1"` stand
/// first where the event does not have them, as the API server's own log backend writes it. `"source"`, if one is given,
/// stands last, and an event's own top-level member of that name is left out; so is `chain` where the lines are going to
/// be [`Chained::Yes`]. Each line ends with `\n`.
///
/// In an event's strings each run of bytes that are not UTF-8 becomes one U+FFFD: the API server copies the body of a
/// PATCH into the event as it came, and a list with one such event must not be lost.
///
/// With a policy an event has a line only if its level is not None; what the policy leaves out is left out, and `level`
/// says so.
///
/// At most [`most_lines`] bytes are appended, and where lines are chained so few that chaining them takes no more memory
/// than the list did. After an error `lines` is as it was; `body` is of no use in either case.
pub fn audit_lines(
    body: &mut [u8],
    source: Option<&str>,
    policy: Option<&Policy>,
    chained: Chained,
    lines: &mut Vec<u8>,
) -> Result<Events, Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let before = lines.len();
    lines.reserve(body.len() + body.len() / 8);
    let most = before.saturating_add(most_lines(body.len()));
    let most_lines = if chained == Chained::Yes { most_chained(body.len()) } else { usize::MAX };
    let mut made = Lines { bytes: lines, source, policy, chained, most, most_lines, events: Events::default() };
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
    json.members(&[KIND, API_VERSION, ITEMS], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
            Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
            Some(ITEMS) => once(ITEMS, &mut items, read_items(json, lines)?)?,
            _ => json.skip()?,
        }
        Ok(Fate::Keep)
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
        // The body itself is the item. That it is one was known only at its end.
        (Kind::Event, None) => read_item(&mut Compactor::new(body.get_mut(..length).unwrap_or_default()), lines),
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
    // Bytes outside of the events that are not UTF-8 come from no client's PATCH: the list is refused.
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
    let mut notes = lines.policy.map(|_| EventNotes::new(start + 1, Walk::Note(Cuts::new())));
    let names = match lines.policy {
        None => event_notes::NAMES.get(..4).unwrap_or_default(),
        Some(_) => &event_notes::NAMES,
    };
    json.members(names, |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => *kind = "",
            Some(API_VERSION) => *version = "",
            _ => {}
        }
        let ours = match name {
            Some(SOURCE) => lines.source.is_some(),
            Some(CHAIN) => lines.chained == Chained::Yes,
            _ => false,
        };
        if ours {
            json.skip()?;
            return Ok(Fate::Drop);
        }
        match &mut notes {
            None => json.skip()?,
            Some(notes) => return Ok(notes.member(name, json)?),
        }
        Ok(Fate::Keep)
    })?;
    if let Some(notes) = &mut notes {
        notes.end();
    }
    let utf8 = json.check_utf8();
    let event = json.since(start);
    lines.events.count += 1;
    let (Some(policy), Some(notes)) = (lines.policy, notes) else {
        return lines.push([members_of(event), b"", b""], missing, utf8);
    };
    let (decision, lowered) = notes.decide(policy, event, start);
    lines.events.decisions.count(decision.level);
    lines.events.last = Some(decision);
    if decision.level == Level::None {
        return Ok(());
    }
    let (length, level) = reduce(event, start, &notes, &decision, lowered)?;
    let event = event.get(..length).unwrap_or_default();
    let parts = match level {
        None => [members_of(event), b"", b""],
        Some(level) => [
            event.get(1..level.start).unwrap_or_default(),
            decision.level.name().as_bytes(),
            event.get(level.end..length - 1).unwrap_or_default(),
        ],
    };
    lines.push(parts, missing, utf8)
}

/// What stands between the braces of an object.
fn members_of(object: &[u8]) -> &[u8] {
    object.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default()
}

/// Takes out of `event` what is left out. Returns its new length and, if its `level` is to be replaced, where that stands
/// in what is left. `offset` is where `event` begins, in the positions that were noted.
fn reduce(
    event: &mut [u8],
    offset: usize,
    notes: &EventNotes,
    decision: &Decision,
    lowered: Lowered,
) -> Result<(usize, Option<Range<usize>>), Invalid> {
    let reduction = Reduction::of(decision);
    if !reduction.is_any() {
        return Ok((event.len(), None));
    }
    let Some(cuts) = notes.walk.noted() else {
        let mut notes = EventNotes::new(1, Walk::Drop(reduction));
        let mut json = Compactor::new(event);
        json.members(&event_notes::NAMES, |json, name| -> Result<Fate, Invalid> { Ok(notes.member(name, json)?) })?;
        let level = notes.level().filter(|_| lowered == Lowered::Yes);
        // Bytes that are not UTF-8 were seen by the first reading, and are mended.
        let _ = json.check_utf8();
        return Ok((json.finish()?, level));
    };
    let level = notes.level().filter(|_| lowered == Lowered::Yes).map(|level| {
        let gone = cuts.of(reduction).take_while(|range| range.end <= level.start);
        let gone = offset + gone.map(|range| range.len()).sum::<usize>();
        level.start - gone..level.end - gone
    });
    Ok((cuts.apply(reduction, event, offset), level))
}

/// Where an event's line goes.
struct Lines<'a> {
    bytes: &'a mut Vec<u8>,
    source: Option<&'a str>,
    policy: Option<&'a Policy>,
    chained: Chained,
    /// Greatest length that `bytes` may reach.
    most: usize,
    /// Greatest number of lines.
    most_lines: usize,
    /// What was appended.
    events: Events,
}

impl Lines<'_> {
    /// Appends the line of an event whose members are `parts`, one behind the other, and which lacks the members
    /// `missing`; mended if `utf8` is an error.
    fn push(&mut self, parts: [&[u8]; 3], missing: [&str; 2], utf8: Result<(), json::Error>) -> Result<(), Invalid> {
        if self.events.lines == self.most_lines {
            return Err(Invalid::ManySmallItems);
        }
        let start = self.bytes.len();
        let added = ADDED + MAX_ESCAPE * self.source.map_or(0, str::len);
        self.make_room(added)?;
        self.bytes.push(b'{');
        for member in missing {
            self.bytes.extend_from_slice(member.as_bytes());
        }
        // The policy may have left out the bytes that are not UTF-8.
        let mends = utf8.is_err() && parts.iter().any(|part| str::from_utf8(part).is_err());
        self.events.mended += usize::from(mends);
        for part in parts {
            if mends {
                for part in mended(part) {
                    self.make_room(part.len() + added)?;
                    self.bytes.extend_from_slice(part);
                }
            } else {
                self.make_room(part.len() + added)?;
                self.bytes.extend_from_slice(part);
            }
        }
        if self.bytes.ends_with(b",") {
            // The event has no member behind the missing ones.
            self.bytes.pop();
        }
        if let Some(source) = self.source {
            self.bytes.extend_from_slice(b",\"source\":");
            json::push_string(self.bytes, source);
        }
        self.bytes.extend_from_slice(b"}\n");
        self.events.lines += 1;
        self.events.longest = self.events.longest.max(self.bytes.len() - start);
        Ok(())
    }

    /// Makes room for `more` bytes, or returns an error if `bytes` could then grow past `most`. A capacity that does not
    /// suffice grows once, to `most`: a Vec that grows by itself doubles, and could reach twice that.
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
