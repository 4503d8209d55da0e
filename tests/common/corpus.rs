//! Bodies recorded from a real API server, each with its trailing newline.

use std::fs;
use std::path::Path;

/// AdmissionReviews.
pub fn reviews() -> Vec<Vec<u8>> {
    bodies("admission.jsonl")
}

/// EventLists.
pub fn event_lists() -> Vec<Vec<u8>> {
    bodies("eventlist.jsonl")
}

/// AdmissionReviews that the recording lacks, written from the API's definitions.
pub fn review_shapes() -> Vec<Vec<u8>> {
    bodies("admission-shapes.jsonl")
}

/// EventLists that the recording lacks.
pub fn event_list_shapes() -> Vec<Vec<u8>> {
    bodies("eventlist-shapes.jsonl")
}

fn bodies(name: &str) -> Vec<Vec<u8>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The quickstart is a package of its own, beside the data.
    let data = if package.ends_with("tests/examples") { "../data" } else { "tests/data" };
    let path = package.join(data).join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bodies: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    assert!(!bodies.is_empty(), "{} is empty", path.display());
    bodies
}

/// A small review with this uid, compact, without a newline.
pub fn review(uid: &str) -> Vec<u8> {
    let uid = serde_json::Value::from(uid);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":{uid},"operation":"CREATE"}}}}"#
    )
    .into_bytes()
}

/// A review of about so many bytes.
pub fn large_review(uid: &str, size: usize) -> Vec<u8> {
    let padding = "x".repeat(size);
    let uid = serde_json::Value::from(uid);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":{uid},"object":"{padding}"}}}}"#
    )
    .into_bytes()
}

/// A small EventList with one event for each id.
pub fn event_list(ids: &[&str]) -> Vec<u8> {
    let events: Vec<String> = ids.iter().map(|id| format!(r#"{{"level":"Metadata","auditID":"{id}"}}"#)).collect();
    let events = events.join(",");
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{events}]}}"#).into_bytes()
}

/// The uid of a review, found as plain text.
pub fn uid(review: &[u8]) -> String {
    const BEFORE: &[u8] = br#""request":{"uid":""#;
    let at = review.windows(BEFORE.len()).position(|window| window == BEFORE).expect("a review with its uid first");
    let uid = review[at + BEFORE.len()..].split(|byte| *byte == b'"').next().expect("a uid");
    String::from_utf8(uid.to_vec()).expect("a uid in UTF-8")
}
