//! The record of earlier runs: one line of JSON each in `tests/bench/history.jsonl`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kube_audit_rest::record::timestamp;
use serde_json::{Value, json};

/// A figure may grow by this factor before it counts as worse.
const TOLERANCE: f64 = 1.10;

/// What is kept of a run: names of figures (smaller is better) with ratios to the floor, and sizes.
pub(crate) type Kept = BTreeMap<String, f64>;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/history.jsonl")
}

/// Each figure as it was recorded last. Not every run holds them all.
pub(crate) fn last() -> io::Result<Kept> {
    let text = match fs::read_to_string(path()) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::new()),
        Err(error) => return Err(error),
    };
    let mut last = Kept::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        last.extend(serde_json::from_value::<Kept>(line["kept"].clone())?);
    }
    Ok(last)
}

/// Each figure that is worse than it was, in words.
pub(crate) fn worse(before: &Kept, now: &Kept) -> Vec<String> {
    now.iter()
        .filter_map(|(name, now)| {
            let before = before.get(name)?;
            (*now > before * TOLERANCE)
                .then(|| format!("{name}: {now:.3}, was {before:.3} ({:+.0} %)", (now / before - 1.0) * 100.0))
        })
        .collect()
}

/// Appends a run.
pub(crate) fn record(kept: &Kept, machine: &str) -> io::Result<()> {
    let now = timestamp::rfc3339(SystemTime::now());
    let date = String::from_utf8_lossy(now.get(..10).unwrap_or_default()).into_owned();
    let kept: BTreeMap<_, _> = kept.iter().map(|(name, figure)| (name, (figure * 1000.0).round() / 1000.0)).collect();
    let line = json!({ "date": date, "version": env!("CARGO_PKG_VERSION"), "machine": machine, "kept": kept });
    writeln!(OpenOptions::new().create(true).append(true).open(path())?, "{line}")
}
