//! The JSON pass beside serde_json's and a plain copy, in nanoseconds a byte: `cargo bench --bench json`.
//!
//! Each round measures all of them, one after the other, and the best round counts: a neighbour on the machine
//! disturbs a round, not the figure.
// One signature for all that is measured.
#![allow(clippy::ptr_arg)]

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use kube_audit_rest::record::json::Compactor;
use kube_audit_rest::record::{event_list, review};
use serde::de::IgnoredAny;

const ROUNDS: usize = 40;

fn main() {
    let admission: Vec<Vec<u8>> = lines(include_bytes!("../data/admission.jsonl"));
    let events: Vec<Vec<u8>> = lines(include_bytes!("../data/eventlist.jsonl"));
    let pretty = admission
        .iter()
        .map(|body| {
            let value: serde_json::Value = serde_json::from_slice(body).unwrap();
            serde_json::to_vec_pretty(&value).unwrap()
        })
        .collect();
    let of = |text: &str| vec![format!("[\"{}\"]", text.repeat(1 << 14)).into_bytes()];
    let sets: [(&str, Vec<Vec<u8>>); 7] = [
        ("AdmissionReviews", admission),
        ("the same, pretty", pretty),
        ("EventLists", events),
        ("long ASCII", of("Grumpy wizards make toxic brew for the evil queen. ")),
        ("escaped <", of("\\u003c\\u003c\\u003c\\u003c")),
        ("embedded JSON", of("{\\\"name\\\":\\\"value\\\",\\\"next\\\":1}\\n")),
        ("CJK", of("\u{77e5}\u{8005}\u{4e0d}\u{8a00}\u{ff0c}\u{8a00}\u{8005}\u{4e0d}\u{77e5}\u{3002}")),
    ];
    println!(
        "{:18} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}   ns/byte",
        "", "bytes", "ours", "serde_json", "ours to it", "copy", "lines"
    );
    for (name, bodies) in &sets {
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let mut best = [f64::MAX; 4];
        let mut buffer = Vec::with_capacity(1 << 20);
        let mut out = Vec::with_capacity(1 << 20);
        for _ in 0..ROUNDS {
            for (best, work) in best.iter_mut().zip([ours, theirs, copy, lines_of]) {
                let mut seconds = 0.0;
                for body in bodies {
                    buffer.clear();
                    out.clear();
                    buffer.extend_from_slice(body);
                    let start = Instant::now();
                    work(&mut buffer, body, &mut out);
                    seconds += start.elapsed().as_secs_f64();
                }
                *best = best.min(seconds);
            }
        }
        let [ours, theirs, copy, lines] = best.map(|seconds| seconds * 1e9 / bytes as f64);
        println!("{name:18} {bytes:9} {ours:10.3} {theirs:10.3} {:10.2} {copy:10.3} {lines:10.3}", ours / theirs);
    }
}

fn lines(packed: &[u8]) -> Vec<Vec<u8>> {
    packed.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn ours(buffer: &mut Vec<u8>, _: &[u8], _: &mut Vec<u8>) {
    let mut json = Compactor::new(black_box(buffer));
    json.skip().unwrap();
    black_box(json.finish().unwrap());
}

fn theirs(buffer: &mut Vec<u8>, _: &[u8], _: &mut Vec<u8>) {
    let text = std::str::from_utf8(black_box(buffer)).unwrap();
    black_box(serde_json::from_str::<IgnoredAny>(text).unwrap());
}

fn copy(buffer: &mut Vec<u8>, body: &[u8], _: &mut Vec<u8>) {
    black_box(buffer).copy_from_slice(black_box(body));
}

/// What becomes of a request, reply included; nothing, where the text is none.
fn lines_of(buffer: &mut Vec<u8>, body: &[u8], out: &mut Vec<u8>) {
    let made = if body.starts_with(b"{\"kind\":\"EventList\"") {
        event_list::audit_lines(black_box(buffer), None, None, kube_audit_rest::record::Chained::No, out).is_ok()
    } else {
        review::audit_line(
            black_box(buffer),
            SystemTime::UNIX_EPOCH,
            None,
            None,
            kube_audit_rest::record::Chained::No,
            out,
        )
        .is_ok()
    };
    black_box((made, out));
}
