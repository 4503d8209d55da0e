//! Every byte of a chain, flipped; and IDs that are gone.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::anchors::Anchors;
use super::chains::Chains;
use super::files::{self, Place};
use super::options::Order;
use super::proof::Keys;
use super::{Named, Report, conclusion};
use crate::audit_log::chain::format::{self, Id, Link, Mark, Origin, Point};
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
            Err(unread) => named.fault(place, unread.why()),
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

/// The only line of an ID, and its place.
fn only_line(id: u8, origin: Origin) -> (Vec<u8>, Point) {
    let id = Id::new([id; 8]);
    let mut line = b"{\"kind\":\"AdmissionReview\"".to_vec();
    let previous = format::first_hash(id, &origin);
    let mark = Mark::Previous(previous);
    let hash = format::next_hash(&previous, id, 1, &mark, &format::digest_of(&line));
    let point = Point { id, sequence: 1, hash };
    format::push(&mut line, &Link { point, mark, origin: Some(origin) });
    (line, point)
}

#[test]
fn an_id_that_is_gone_is_told_once_although_several_follow_it() {
    let (first, first_point) = only_line(1, Origin::Nothing);
    let (gone, gone_point) = only_line(2, Origin::After(first_point));
    // A request that was refused and could not be cut off, and what was written instead: both follow the same line.
    let (refused, _) = only_line(3, Origin::After(gone_point));
    let (last, _) = only_line(4, Origin::After(gone_point));
    for (lines, faults) in [
        ([&first, &gone, &refused, &last].as_slice(), 0),
        (&[&first, &refused, &last], 1),
        (&[&first, &last], 1),
        // Retention may have deleted what was before.
        (&[&refused, &last], 0),
    ] {
        let (keys, mut report) = (Keys::read(&[]).unwrap(), Report::new(std::io::sink()));
        let anchors = Anchors::read(&[], &keys, &mut report).unwrap();
        let mut chains = Chains::new(&keys, &anchors, Order::Written);
        let bytes = lines.iter().flat_map(|line| line.iter().copied()).collect::<Vec<_>>();
        assert_eq!(feed(&mut chains, &bytes), 0);
        conclusion::gaps(&chains, &mut Named { report: &mut report, inputs: &[] });
        assert_eq!(report.faults, faults, "{} lines", lines.len());
    }
}
