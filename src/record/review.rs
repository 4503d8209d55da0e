//! An AdmissionReview becomes its audit line and the reply that allows it.
//!
//! Only `kind`, `apiVersion` and `request.uid` are looked into; the rest is recorded as it is.

use std::ops::Range;
use std::time::SystemTime;

use crate::record::invalid::{Invalid, once};
use crate::record::json::{self, Compactor, Fate};
use crate::record::timestamp;

/// Bytes that [`audit_line`] adds to a body at most. A source's name has at most 63 bytes.
pub const ROOM: usize = 160;

/// Longest uid in bytes, its escapes as they are written. The API server's have 36 bytes. Without a limit the reply,
/// which repeats the uid, could be as large as the body.
const MAX_UID: usize = 4096;

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const REQUEST: &str = "request";
const UID: &str = "uid";
const TIMESTAMP: &str = "requestReceivedTimestamp";
const SOURCE: &str = "source";

/// Turns `body`, an AdmissionReview of `admission.k8s.io/v1` or `v1beta1`, into its audit line, in place, and appends the
/// AdmissionReview that allows the request to `reply`.
///
/// The line is the body without white space between tokens. Its last member is `"requestReceivedTimestamp"` with the
/// time `received`, and before it stands `"source"`, if one is given; the body's own top-level members of these names
/// are left out. The line ends with `\n`. Nothing is allocated if `body` has [`ROOM`] bytes of spare capacity.
///
/// After an error `body` is of no use, and `reply` is as it was.
pub fn audit_line(
    body: &mut Vec<u8>,
    received: SystemTime,
    source: Option<&str>,
    reply: &mut Vec<u8>,
) -> Result<(), Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let review = read(body, source.is_some())?;

    // Our members take the place of the closing brace. A comma precedes them, since `kind` at least stands before.
    body.truncate(review.length - 1);
    if let Some(source) = source {
        body.extend_from_slice(b",\"source\":");
        json::push_string(body, source);
    }
    body.extend_from_slice(b",\"requestReceivedTimestamp\":\"");
    body.extend_from_slice(&timestamp::rfc3339(received));
    body.extend_from_slice(b"\"}\n");

    let uid = body.get(review.uid);
    reply.extend_from_slice(b"{\"apiVersion\":\"");
    reply.extend_from_slice(review.version.as_bytes());
    reply.extend_from_slice(b"\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":");
    reply.extend_from_slice(uid.unwrap_or_default());
    reply.extend_from_slice(b",\"allowed\":true}}");
    Ok(())
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

fn read(body: &mut [u8], with_source: bool) -> Result<Review, Invalid> {
    let mut kind = None;
    let mut version = None;
    let mut request = None;
    let mut json = Compactor::new(body);
    if !json.next_is(b'{')? {
        json.skip()?;
        json.finish()?;
        return Err(Invalid::NotAReview);
    }
    json.members(&[KIND, API_VERSION, REQUEST, TIMESTAMP, SOURCE], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
            Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
            Some(REQUEST) => once(REQUEST, &mut request, read_request(json)?)?,
            _ => json.skip()?,
        }
        Ok(match name {
            Some(TIMESTAMP) => Fate::Drop,
            Some(SOURCE) if with_source => Fate::Drop,
            _ => Fate::Keep,
        })
    })?;
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
fn read_request(json: &mut Compactor<'_>) -> Result<Range<usize>, Invalid> {
    if !json.next_is(b'{')? {
        return Err(Invalid::Request);
    }
    let mut uid = None;
    json.members(&[UID], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(UID) => once("request.uid", &mut uid, read_uid(json)?)?,
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
    match uid.quoted().len() - 2 {
        0 => Err(Invalid::Uid),
        1..=MAX_UID => Ok(uid.position()..uid.position() + uid.quoted().len()),
        _ => Err(Invalid::LongUid),
    }
}

#[cfg(test)]
mod tests;
