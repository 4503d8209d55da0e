//! The warm path from body to line allocates nothing. A test binary of its own: the counter counts all threads.

use std::alloc::System;
use std::time::SystemTime;

use kube_audit_rest::files::policy_file;
use kube_audit_rest::record::{event_list, review};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ADMISSION: &[u8] = include_bytes!("data/admission.jsonl");
const EVENT_LISTS: &[u8] = include_bytes!("data/eventlist.jsonl");

#[test]
fn recorded_requests_become_lines_without_an_allocation() {
    let longest_name = "a".repeat(63);
    let mut lines = Vec::with_capacity(2 * EVENT_LISTS.len());
    let mut reply = Vec::with_capacity(4096);
    let mut largest = Vec::with_capacity(1 << 20);
    let policy = include_bytes!("../k8s/base/policy.yaml");
    let policy = policy_file::parse(policy).unwrap();
    let everything = policy_file::parse(include_bytes!("../k8s/policies/everything/policy.yaml")).unwrap();
    for (source, policy) in [
        (None, None),
        (Some(longest_name.as_str()), None),
        (Some(longest_name.as_str()), Some(&policy)),
        // The longest level's name.
        (Some(longest_name.as_str()), Some(&everything)),
    ] {
        for body in ADMISSION.split_inclusive(|byte| *byte == b'\n') {
            let mut exact = Vec::with_capacity(body.len() + review::ROOM);
            assert_eq!(
                quietest(|| {
                    exact.clear();
                    exact.extend_from_slice(body);
                    reply.clear();
                    review::audit_line(
                        &mut exact,
                        SystemTime::now(),
                        source,
                        policy,
                        kube_audit_rest::record::Chained::No,
                        &mut reply,
                    )
                    .unwrap();
                }),
                (0, 0)
            );
        }
        for body in EVENT_LISTS.split_inclusive(|byte| *byte == b'\n') {
            assert_eq!(
                quietest(|| {
                    largest.clear();
                    largest.extend_from_slice(body);
                    lines.clear();
                    event_list::audit_lines(
                        &mut largest,
                        source,
                        policy,
                        kube_audit_rest::record::Chained::No,
                        &mut lines,
                    )
                    .unwrap();
                }),
                (0, 0)
            );
        }
    }
}

/// Allocations and reallocations, of a few tries in the quietest one: the harness's own thread allocates now and then.
fn quietest(mut work: impl FnMut()) -> (usize, usize) {
    let tries = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        (change.allocations, change.reallocations)
    });
    tries.min().unwrap_or_default()
}
