//! Every byte of a chain, flipped.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::anchors::Anchors;
use super::chains::Chains;
use super::files::{self, Place};
use super::options::Order;
use super::proof::Keys;
use super::{Named, Report};
use crate::audit_log::{ChainSetting, OpenedLog, Settings, SyncMode, Target};
use crate::commands::lines::Line;
use crate::observe::diagnostics::{Diagnostics, Format};
use crate::observe::metrics::Metrics;

/// The lines of a log of 10,000 lines that was rolled five times.
fn lines(directory: &Path) -> Vec<Vec<u8>> {
    let settings = Settings {
        target: Target::File(directory.join("audit.log")),
        max_size: 330_000,
        max_backups: 0,
        max_age: Duration::ZERO,
        max_total_size: 0,
        sync: SyncMode::Never,
        file_mode: 0o600,
        chain: ChainSetting::Unsigned,
    };
    let diagnostics = Arc::new(Diagnostics::to_sink(Format::Json, Box::new(std::io::sink())));
    let opened = OpenedLog::open(settings, Arc::new(Metrics::new()), diagnostics);
    let log = opened.unwrap().start().unwrap();
    for number in 0..10_000 {
        let line = format!(
            "{{\"kind\":\"AdmissionReview\",\"request\":{{\"uid\":\"{number}\",\"object\":\"{}\"}}}}\n",
            "x".repeat(number % 100)
        );
        log.append_one(&mut line.as_bytes().to_vec()).unwrap();
    }
    drop(log);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    assert_eq!(paths.len(), 6);
    let all = paths.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>().concat();
    all.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn feed(chains: &mut Chains<'_>, bytes: &[u8]) -> u64 {
    let mut report = Report::new(std::io::sink());
    let mut named = Named { report: &mut report, inputs: &[] };
    let place = Place { file: 0, line: 1 };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match files::read(Line::Whole(line)) {
            Ok(seen) => chains.line(place, &seen, &mut named),
            Err(why) => named.fault(place, why),
        }
    }
    report.faults
}

/// Flips a bit of every byte of every `step`-th line; each must be found in that line or the next. Returns how many.
fn flip(step: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let lines = lines(directory.path());
    let (keys, mut report) = (Keys::read(&[]).unwrap(), Report::new(std::io::sink()));
    let anchors = Anchors::read(&[], &keys, &mut report).unwrap();
    let mut chains = Chains::new(&keys, &anchors, Order::Written);
    let mut flipped = 0;
    for (number, line) in lines.iter().enumerate() {
        let next = lines.get(number + 1).map(Vec::as_slice).unwrap_or_default();
        let context = if number % step == 0 { line.len() } else { 0 };
        for at in 0..context {
            let mut changed = [line, next].concat();
            changed[at] ^= 1 << (at % 8);
            assert_ne!(
                feed(&mut chains.clone(), &changed),
                0,
                "line {number}, byte {at}: {:?}",
                String::from_utf8_lossy(&changed)
            );
            flipped += 1;
        }
        assert_eq!(feed(&mut chains, line), 0, "line {number}");
    }
    flipped
}

#[test]
fn a_flipped_byte_anywhere_in_a_line_is_found() {
    assert!(flip(199) > 5_000);
}

#[test]
#[ignore = "takes minutes: every byte of 10,000 lines"]
fn a_flipped_byte_anywhere_in_ten_thousand_lines_is_found() {
    println!("{} flips, all found", flip(1));
}
