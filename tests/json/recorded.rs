//! The recorded requests of a real API server, through the same functions.

use super::*;

const ADMISSION: &[u8] = include_bytes!("../data/admission.jsonl");
const EVENT_LISTS: &[u8] = include_bytes!("../data/eventlist.jsonl");

pub(crate) fn bodies(packed: &'static [u8]) -> impl Iterator<Item = &'static [u8]> {
    packed.split_inclusive(|byte| *byte == b'\n')
}

pub(crate) fn all() -> Vec<&'static [u8]> {
    bodies(ADMISSION).chain(bodies(EVENT_LISTS)).collect()
}

#[test]
fn the_corpus_is_all_there() {
    assert_eq!(bodies(ADMISSION).count(), 285);
    assert_eq!(bodies(EVENT_LISTS).count(), 28);
}

#[test]
fn each_recorded_review_becomes_its_own_bytes_and_the_time() {
    for body in bodies(ADMISSION) {
        let wanted = [&body[..body.len() - 2], STAMP.as_bytes(), b"\n"].concat();
        let (line, reply) = audit_line(body).unwrap();
        assert_eq!(line, wanted);
        let (spread_line, spread_reply) = audit_line(&with_white_space(body)).unwrap();
        assert_eq!(spread_line, wanted);
        assert_eq!(spread_reply, reply);

        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
        let wanted = serde_json::json!({
            "apiVersion": asked["apiVersion"],
            "kind": "AdmissionReview",
            "response": {"uid": asked["request"]["uid"], "allowed": true},
        });
        assert_eq!(reply, wanted);
    }
}

#[test]
fn each_recorded_event_becomes_the_line_of_the_log_backend() {
    let mut events = 0;
    for body in bodies(EVENT_LISTS) {
        let mut wanted = Vec::new();
        for item in items(body) {
            wanted.extend_from_slice(b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",");
            wanted.extend_from_slice(&item[1..]);
            wanted.push(b'\n');
            events += 1;
        }
        assert_eq!(audit_lines(body).unwrap(), wanted);
        assert_eq!(audit_lines(&with_white_space(body)).unwrap(), wanted);
    }
    assert_eq!(events, 431);
}

/// The items of a compact EventList, cut out between brackets that are counted.
fn items(list: &[u8]) -> Vec<&[u8]> {
    let list = std::str::from_utf8(list).unwrap();
    let (_, rest) = list.split_once("\"items\":[").unwrap();
    let mut items = Vec::new();
    let (mut depth, mut start, mut in_string, mut escaped) = (0, 0, false, false);
    for (at, byte) in rest.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b'}' | b']' => {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                if depth == 0 {
                    items.push(&rest.as_bytes()[start..=at]);
                }
            }
            _ => {}
        }
    }
    items
}

#[test]
fn no_recorded_review_survives_the_loss_of_its_end() {
    for body in bodies(ADMISSION).take(20) {
        for end in 0..body.len() - 2 {
            assert!(audit_line(&body[..end]).is_err());
        }
    }
}
