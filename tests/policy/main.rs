//! A policy: what is left out of lines, held against serde_json; the program with a policy, tried as its users would.

#[path = "../common/mod.rs"]
mod common;
mod lines;
mod properties;
mod running;

use std::time::{Duration, SystemTime};

use kube_audit_rest::files::policy_file;
use kube_audit_rest::record::policy::{Level, Policy};
use kube_audit_rest::record::{event_list, review};

/// A policy with these rules.
fn policy(rules: &str) -> Policy {
    policy_file::parse(text(rules).as_bytes()).unwrap()
}

/// Its file.
fn text(rules: &str) -> String {
    format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")
}

const STAMP: &str = r#","requestReceivedTimestamp":"2026-11-20T21:34:38.123456789Z"}"#;

/// A review's line by the policy, without its newline; none at level None.
fn line(body: &[u8], source: Option<&str>, policy: &Policy) -> Option<Vec<u8>> {
    let received = SystemTime::UNIX_EPOCH + Duration::new(1_795_210_478, 123_456_789);
    let (mut line, mut reply) = (body.to_vec(), Vec::new());
    let decision =
        review::audit_line(&mut line, received, source, Some(policy), kube_audit_rest::record::Chained::No, &mut reply)
            .unwrap();
    assert!(reply.ends_with(b",\"allowed\":true}}"), "the reply is as ever");
    if decision.unwrap().level == Level::None {
        return None;
    }
    assert_eq!(line.pop(), Some(b'\n'));
    Some(line)
}

/// The lines of an EventList by the policy.
fn lines(body: &[u8], source: Option<&str>, policy: &Policy) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let events = event_list::audit_lines(
        &mut body.to_vec(),
        source,
        Some(policy),
        kube_audit_rest::record::Chained::No,
        &mut lines,
    )
    .unwrap();
    let lines: Vec<_> =
        lines.split_inclusive(|byte| *byte == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect();
    assert_eq!(events.lines, lines.len());
    assert_eq!(events.longest, lines.iter().map(|line| line.len() + 1).max().unwrap_or(0));
    assert_eq!(events.decisions.iter().map(|(_, count)| count).sum::<u64>(), events.count as u64);
    lines
}

fn list_of(items: &str) -> String {
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#)
}
