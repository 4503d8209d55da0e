//! The JSON pass and what stands on it, held against serde_json and against compaction done another way.

mod cases;
mod properties;
mod recorded;
#[path = "../common/replaced.rs"]
mod replaced;

use std::time::{Duration, SystemTime};

use kube_audit_rest::record::invalid::Invalid;
use kube_audit_rest::record::json::{Compactor, Error};
use kube_audit_rest::record::{event_list, review};
use replaced::replaced;
use serde::de::IgnoredAny;

/// What our pass makes of a text.
fn compact(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut text = text.to_vec();
    let mut json = Compactor::new(&mut text);
    json.skip()?;
    let length = json.finish()?;
    text.truncate(length);
    Ok(text)
}

/// serde_json's verdict. Without the first line it would not look at the bytes of strings that it ignores.
fn serde_takes(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// White space taken out of valid JSON byte by byte.
fn without_white_space(text: &[u8]) -> Vec<u8> {
    let mut in_string = false;
    let mut escaped = false;
    let mut kept = text.to_vec();
    kept.retain(|byte| {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            true
        } else {
            in_string = *byte == b'"';
            !b" \t\r\n".contains(byte)
        }
    });
    kept
}

/// White space put before and after every token of compact JSON.
fn with_white_space(text: &[u8]) -> Vec<u8> {
    let mut spaces = [" ", "", "\n  ", "\t", "\r\n", "          "].iter().cycle();
    let mut in_string = false;
    let mut escaped = false;
    let mut spread = Vec::new();
    for byte in text {
        let structural = !in_string && b"{}[],:".contains(byte);
        if structural {
            spread.extend_from_slice(spaces.next().unwrap().as_bytes());
        }
        spread.push(*byte);
        if structural {
            spread.extend_from_slice(spaces.next().unwrap().as_bytes());
        }
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else {
            in_string = *byte == b'"';
        }
    }
    spread
}

const STAMP: &str = r#","requestReceivedTimestamp":"2026-11-20T21:34:38.123456789Z"}"#;

/// An AdmissionReview's line and reply, taken at the time of [`STAMP`].
fn audit_line(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Invalid> {
    let received = SystemTime::UNIX_EPOCH + Duration::new(1_795_210_478, 123_456_789);
    let mut line = body.to_vec();
    let mut reply = Vec::new();
    review::audit_line(&mut line, received, None, None, kube_audit_rest::record::Chained::No, &mut reply)?;
    Ok((line, reply))
}

/// An EventList's lines.
fn audit_lines(body: &[u8]) -> Result<Vec<u8>, Invalid> {
    let mut lines = Vec::new();
    let events =
        event_list::audit_lines(&mut body.to_vec(), None, None, kube_audit_rest::record::Chained::No, &mut lines)?;
    let count = events.count;
    assert_eq!(count, lines.iter().filter(|byte| **byte == b'\n').count());
    Ok(lines)
}

/// An AdmissionReview around a value, as text.
fn review_of(object: &[u8]) -> Vec<u8> {
    let before = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","object":"#;
    [before, object, b"}}"].concat()
}

/// An EventList of one event around a value, as text.
fn list_of(object: &[u8]) -> Vec<u8> {
    let before = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"requestObject":"#;
    [before, object, b"}]}"].concat()
}
