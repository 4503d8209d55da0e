//! An AdmissionReview becomes its audit line and the reply that allows it.
//!
//! Only `kind`, `apiVersion` and `request.uid` are looked into; the rest is recorded as it is. With a policy, what its
//! rules ask about is looked into as well, and members are left out.

use std::ops::Range;
use std::time::SystemTime;

use crate::record::entry::{self, Entry};
use crate::record::invalid::{Invalid, once};
use crate::record::json::{self, Compactor, Fate};
use crate::record::policy::cuts::{Cuts, Reduction, Walk};
use crate::record::policy::review_notes::{self, RequestNotes};
use crate::record::policy::{Decision, Level, Policy};
use crate::record::{Chained, timestamp};

/// Bytes that [`audit_line`] adds to a body at most. A source's name has at most 63 bytes.
pub const ROOM: usize = 192;

/// Longest uid in bytes, its escapes as they are written. The API server's have 36 bytes. Without a limit the reply,
/// which repeats the uid, could be as large as the body.
const MAX_UID: usize = 4096;

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const REQUEST: &str = "request";
const UID: &str = "uid";
const TIMESTAMP: &str = "requestReceivedTimestamp";
const SOURCE: &str = "source";
const LEVEL: &str = "level";
const CHAIN: &str = "chain";

/// Turns `body`, an AdmissionReview of `admission.k8s.io/v1` or `v1beta1`, into its audit line, in place, and appends the
/// AdmissionReview that allows the request to `reply`.
///
/// The line is the body without white space between tokens. Its last member is `"requestReceivedTimestamp"` with the
/// time `received`, and before it stands `"source"`, if one is given; the body's own top-level members of these names
/// are left out. The line ends with `\n`. Nothing is allocated if `body` has [`ROOM`] bytes of spare capacity.
///
/// With a policy `"level"` stands before `source`, a `level` of the body's own is left out, and so is what the policy
/// leaves out. Returned is what the policy says; at level None `body` holds no line.
///
/// Where the line is going to be [`Chained::Yes`], a top-level `chain` of the body's own is left out.
///
/// After an error `body` is of no use, and `reply` is as it was.
pub fn audit_line(
    body: &mut Vec<u8>,
    received: SystemTime,
    source: Option<&str>,
    policy: Option<&Policy>,
    chained: Chained,
    reply: &mut Vec<u8>,
) -> Result<Option<Decision>, Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let mut notes = policy.map(|_| RequestNotes::new(Walk::Note(Cuts::new())));
    let ours = Ours { with_source: source.is_some(), chained };
    let review = read(body, ours, notes.as_mut())?;

    reply.extend_from_slice(b"{\"apiVersion\":\"");
    reply.extend_from_slice(review.version.as_bytes());
    reply.extend_from_slice(b"\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":");
    reply.extend_from_slice(body.get(review.uid).unwrap_or_default());
    reply.extend_from_slice(b",\"allowed\":true}}");

    let mut length = review.length;
    let mut decision = None;
    if let (Some(policy), Some(notes)) = (policy, &notes) {
        let text = body.get_mut(..length).unwrap_or_default();
        let (decided, reduction) = notes.decide(policy, text);
        decision = Some(decided);
        if decided.level == Level::None {
            return Ok(decision);
        }
        length = reduce(text, ours, notes, reduction)?;
    }

    // Our members take the place of the closing brace. A comma precedes them, since `kind` at least stands before.
    body.truncate(length - 1);
    if let Some(decision) = decision {
        body.extend_from_slice(b",\"level\":\"");
        body.extend_from_slice(decision.level.name().as_bytes());
        body.push(b'"');
    }
    if let Some(source) = source {
        body.extend_from_slice(b",\"source\":");
        json::push_string(body, source);
    }
    body.extend_from_slice(b",\"requestReceivedTimestamp\":\"");
    body.extend_from_slice(&timestamp::rfc3339(received));
    body.extend_from_slice(b"\"}\n");
    Ok(decision)
}

/// Adds an entry to the `auditAnnotations` of a reply that [`audit_line`] has made. An API server stores it in its own
/// audit log, under the webhook's name, a slash and `key` (admission.k8s.io/v1 and v1beta1, AdmissionResponse). Key and
/// value need no escapes.
pub fn annotate(reply: &mut Vec<u8>, key: &str, value: &str) {
    let end = b"}}";
    if reply.ends_with(end) {
        reply.truncate(reply.len() - end.len());
        for part in [",\"auditAnnotations\":{\"", key, "\":\"", value, "\"}}}"] {
            reply.extend_from_slice(part.as_bytes());
        }
    }
}

/// Whether a line is of a deletecollection: a DELETE without a name. The API server sends one for each object, all within
/// one request of its own, and complains about each annotation but the first.
pub fn is_of_collection(line: &[u8]) -> bool {
    match entry::read(line) {
        Ok(Entry::Review(review)) => review.name.is_none() && review.operation.is_some_and(|done| done.is("DELETE")),
        _ => false,
    }
}

/// Takes out of a compacted body what is left out, and returns its new length.
fn reduce(text: &mut [u8], ours: Ours, notes: &RequestNotes, reduction: Reduction) -> Result<usize, Invalid> {
    match notes.walk.noted() {
        _ if !reduction.is_any() => Ok(text.len()),
        Some(cuts) => Ok(cuts.apply(reduction, text, 0)),
        None => Ok(read(text, ours, Some(&mut RequestNotes::new(Walk::Drop(reduction))))?.length),
    }
}

/// Which members are ours, beside the timestamp.
#[derive(Clone, Copy)]
struct Ours {
    with_source: bool,
    chained: Chained,
}

/// What was found in a body.
struct Review {
    /// Length of the compacted body.
    length: usize,
    /// `apiVersion`.
    version: &'static str,
    /// Where the uid stands in the compacted body, quotes included. It goes into the reply as it is written.
    uid: Range<usize>,
}

/// Reads and compacts a body; leaves out its own members of those names that are to be added.
fn read(body: &mut [u8], ours: Ours, mut notes: Option<&mut RequestNotes>) -> Result<Review, Invalid> {
    let mut kind = None;
    let mut version = None;
    let mut request = None;
    let mut json = Compactor::new(body);
    if !json.next_is(b'{')? {
        json.skip()?;
        json.finish()?;
        return Err(Invalid::NotAReview);
    }
    let with_policy = notes.is_some();
    json.members(
        &[KIND, API_VERSION, REQUEST, TIMESTAMP, SOURCE, LEVEL, CHAIN],
        |json, name| -> Result<Fate, Invalid> {
            match name {
                Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
                Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
                Some(REQUEST) => once(REQUEST, &mut request, read_request(json, notes.as_deref_mut())?)?,
                _ => json.skip()?,
            }
            Ok(match name {
                Some(TIMESTAMP) => Fate::Drop,
                Some(SOURCE) if ours.with_source => Fate::Drop,
                Some(LEVEL) if with_policy => Fate::Drop,
                Some(CHAIN) if ours.chained == Chained::Yes => Fate::Drop,
                _ => Fate::Keep,
            })
        },
    )?;
    let length = json.finish()?;
    let () = kind.ok_or(Invalid::NotAReview)?;
    let version = version.ok_or(Invalid::ReviewVersion)?;
    let uid = request.ok_or(Invalid::Request)?;
    Ok(Review { length, version, uid })
}

fn read_kind(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    match json.one_of(&["AdmissionReview", "EventList"])? {
        Some("AdmissionReview") => Ok(()),
        Some(_) => Err(Invalid::EventListForReview),
        None => Err(Invalid::NotAReview),
    }
}

fn read_version(json: &mut Compactor<'_>) -> Result<&'static str, Invalid> {
    json.one_of(&["admission.k8s.io/v1", "admission.k8s.io/v1beta1"])?.ok_or(Invalid::ReviewVersion)
}

/// Where `request.uid` stands in the compacted body.
fn read_request(json: &mut Compactor<'_>, mut notes: Option<&mut RequestNotes>) -> Result<Range<usize>, Invalid> {
    if !json.next_is(b'{')? {
        return Err(Invalid::Request);
    }
    let mut uid = None;
    let names = match notes {
        None => review_notes::NAMES.get(..1).unwrap_or_default(),
        Some(_) => &review_notes::NAMES,
    };
    json.members(names, |json, name| -> Result<Fate, Invalid> {
        match (name, &mut notes) {
            (Some(UID), _) => once("request.uid", &mut uid, read_uid(json)?)?,
            (Some(name), Some(notes)) => notes.member(name, json)?,
            _ => json.skip()?,
        }
        Ok(Fate::Keep)
    })?;
    uid.ok_or(Invalid::Uid)
}

fn read_uid(json: &mut Compactor<'_>) -> Result<Range<usize>, Invalid> {
    if !json.next_is(b'"')? {
        return Err(Invalid::Uid);
    }
    let uid = json.string()?;
    match uid.len() - 2 {
        0 => Err(Invalid::Uid),
        1..=MAX_UID => Ok(uid),
        _ => Err(Invalid::LongUid),
    }
}

#[cfg(test)]
mod tests;
