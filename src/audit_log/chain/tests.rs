//! The chain as the log writes it, judged by `verify`: nothing that happens to a disk or a process is called tampering.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::super::faults::{Fault, Plan};
use super::super::fs::Call;
use super::super::tests::{Place, eventually};
use super::super::{AuditLog, ChainSetting, SyncMode};
use super::format::{self, Id, Link, Mark, Origin, Point};
use crate::cli::Exit;
use crate::commands::verify;
use crate::observe::labels::AppendFault;

fn place() -> Place {
    let mut place = Place::in_memory();
    place.settings.chain = ChainSetting::Unsigned;
    place
}

/// All files of the log, in no particular order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// Verifies the log with the heads that its messages have said.
fn judged(place: &Place, more: &[&str]) -> (Exit, String) {
    let messages = place.root().join("messages");
    fs::write(&messages, place.messages.text()).unwrap();
    let mut words: Vec<OsString> = vec!["--anchors".into(), messages.into()];
    words.extend(more.iter().map(OsString::from));
    words.extend(files(&place.directory()).into_iter().map(OsString::from));
    let mut out = Vec::new();
    let exit = verify::run(words, &mut out);
    (exit, String::from_utf8(out).unwrap())
}

fn assert_proven(place: &Place) -> String {
    let (exit, text) = judged(place, &[]);
    assert_eq!(exit, Exit::Ok, "{text}");
    text
}

fn append(log: &AuditLog, numbers: std::ops::Range<u32>) {
    for number in numbers {
        log.append_one(format!("{{\"number\":{number}}}\n").as_bytes()).unwrap();
    }
}

fn contents(place: &Place) -> Vec<String> {
    let mut all = place.rolled();
    all.push(fs::read_to_string(place.log()).unwrap());
    all
}

fn links(text: &str) -> Vec<Link> {
    text.lines().map(|line| format::split(line.as_bytes()).unwrap().1).collect()
}

#[test]
fn a_line_says_its_number_and_the_hash_that_the_format_describes() {
    let place = place();
    let log = place.open();
    append(&log, 1..2);
    log.append(b"{\"number\":2}\n{\"number\":3}\n").unwrap();
    drop(log);
    let text = fs::read_to_string(place.log()).unwrap();
    let links = links(&text);
    let id = links[0].point.id;
    let sha256 = |parts: &[&[u8]]| -> [u8; 32] {
        ring::digest::digest(&ring::digest::SHA256, &parts.concat()).as_ref().try_into().unwrap()
    };
    let mut hash = sha256(&[b"kar-chain-1\n", id.as_str().as_bytes(), b"none"]);
    for (number, (line, link)) in (1_u64..).zip(text.lines().zip(&links)) {
        let content = format!("{{\"number\":{number}");
        let digest = sha256(&[content.as_bytes()]);
        let previous = hash;
        let kind = u8::from(number == 1);
        hash = sha256(&[b"kar-chain-1\n", &hash, id.as_str().as_bytes(), &number.to_be_bytes(), &[kind], &digest]);
        assert_eq!((link.point.id, link.point.sequence, link.point.hash), (id, number, hash));
        assert_eq!(link.mark, if number == 1 { Mark::Previous(previous) } else { Mark::Plain });
        assert!(line.starts_with(&format!("{content},\"chain\":\"{}/{number}/", id.as_str())), "{line}");
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(links.len(), 3);
    assert_eq!(place.metrics.chain_sequence.value(), 3);
    assert_eq!(place.metrics.log_bytes_written.value(), text.len() as u64);
}

#[test]
fn rotation_and_reopening_go_on_with_the_id_and_each_file_begins_with_a_marked_line() {
    let mut place = place();
    place.settings.max_size = 1000;
    let log = place.open();
    append(&log, 0..20);
    // Lines that must have a file of their own.
    log.append("{\"of\":\"a group\"}\n".repeat(30).as_bytes()).unwrap();
    fs::rename(place.log(), place.directory().join("moved.log")).unwrap();
    log.reopen();
    append(&log, 20..30);
    drop(log);
    let all = contents(&place);
    assert!(all.len() > 2);
    for text in &all {
        assert_ne!(links(text)[0].mark, Mark::Plain);
        assert!(text.len() <= 1000 || text.matches("a group").count() == 30);
    }
    let text = assert_proven(&place);
    assert!(text.contains("1 to 60, 60 lines, follows nothing"), "{text}");
}

#[test]
fn a_new_process_follows_the_last_line_that_it_finds() {
    let mut place = place();
    place.settings.max_size = 400;
    for run in 0..5 {
        append(&place.open(), run * 5..run * 5 + 5);
    }
    let text = assert_proven(&place);
    assert_eq!(text.matches("; followed by").count(), 4, "{text}");
}

#[test]
fn a_refused_append_that_was_cut_off_takes_its_numbers_back() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    for short in [false, true] {
        place.fs.faults.set(Some(Plan { call: Some(Call::Write), nth: 1, times: 2, errno: 28, short }));
        assert_eq!(log.append_one(b"{\"refused\":1}\n").unwrap_err().reason(), AppendFault::NoSpace);
        place.fs.faults.set(None);
        append(&log, 3..5);
    }
    drop(log);
    let links = links(&fs::read_to_string(place.log()).unwrap());
    assert_eq!(links.iter().map(|link| link.point.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_proven(&place);
}

#[test]
fn lines_that_could_not_be_cut_off_are_left_behind_and_nobody_is_accused() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    // The write is cut short, the rest fails, and so does the cut.
    place.fs.faults.play(vec![(1, Fault::Short), (2, Fault::Fail(5)), (3, Fault::Fail(5)), (4, Fault::Fail(5))]);
    log.append(b"{\"refused\":1}\n{\"refused\":2}\n{\"refused\":3}\n{\"refused\":4}\n").unwrap_err();
    place.fs.faults.play(Vec::new());
    eventually("a successor", || log.append_one(b"{\"next\":1}\n").is_ok());
    append(&log, 3..6);
    drop(log);
    // The torn end of the file that was left is what a restart cuts off.
    drop(place.open());
    let (exit, text) = judged(&place, &[]);
    assert!(text.contains("left behind: 4 to 5") || text.contains("left behind: 4 to 4"), "{text}");
    // Nothing covers what was left behind.
    assert_eq!(exit, Exit::Unproven, "{text}");
    assert_eq!(judged(&place, &["--max-unsigned=3"]).0, Exit::Ok);
}

#[test]
fn the_very_first_lines_that_could_not_be_cut_off_are_left_behind_too() {
    let place = place();
    let log = place.open();
    place.fs.faults.play(vec![(2, Fault::Fail(5)), (3, Fault::Fail(5)), (4, Fault::Fail(5))]);
    log.append_one(b"{\"refused\":1}\n").unwrap_err();
    place.fs.faults.play(Vec::new());
    eventually("a successor", || log.append_one(b"{\"next\":1}\n").is_ok());
    drop(log);
    let (exit, text) = judged(&place, &["--max-unsigned=1"]);
    assert_eq!(exit, Exit::Ok, "{text}");
    assert!(text.contains("left behind: 1 to 1"), "{text}");
    assert_eq!(judged(&place, &[]).0, Exit::Unproven);
}

#[test]
fn a_failed_sync_begins_another_id_since_a_power_cut_may_bring_the_lines_back() {
    let mut place = place();
    place.settings.sync = SyncMode::Always;
    let log = place.open();
    append(&log, 0..3);
    place.fs.faults.set(Some(Plan { call: Some(Call::Sync), nth: 1, times: 1, errno: 5, short: false }));
    log.append_one(b"{\"refused\":1}\n").unwrap_err();
    append(&log, 3..6);
    drop(log);
    let ids: std::collections::BTreeSet<Id> =
        contents(&place).iter().flat_map(|text| links(text)).map(|link| link.point.id).collect();
    assert_eq!(ids.len(), 2);
    assert_proven(&place);
}

#[test]
fn a_deleted_log_is_reported_as_the_gap_that_it_is() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    let head = log.head_due(|| true).unwrap();
    fs::remove_file(place.log()).unwrap();
    append(&log, 3..6);
    drop(log);
    let (exit, text) = judged(&place, &[&format!("--from={head}")]);
    assert_eq!(exit, Exit::Failed, "{text}");
    assert!(text.contains("--from: the line ") && text.contains("/3 is missing"), "{text}");
    assert_eq!(text.matches("missing").count(), 1, "{text}");
}

#[test]
fn lines_written_to_a_file_that_was_deleted_meanwhile_come_again_under_another_id() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    // Deleted just before the write; the file is looked at after it.
    place.fs.faults.with_disk(|disk| disk.log = place.log());
    place.fs.faults.play(vec![(1, Fault::Delete)]);
    append(&log, 3..4);
    place.fs.faults.play(Vec::new());
    append(&log, 4..6);
    drop(log);
    let links = links(&fs::read_to_string(place.log()).unwrap());
    assert!(matches!(links[0].origin, Some(Origin::After(point)) if point.sequence == 3), "{links:?}");
    assert_eq!(links.len(), 3);
    // Whoever had the deleted file open may have shipped its lines.
}

#[test]
fn a_truncated_log_goes_on_with_a_marked_line_and_its_lines_are_missed() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    let copied = fs::read(place.log()).unwrap();
    fs::File::options().write(true).open(place.log()).unwrap().set_len(0).unwrap();
    eventually("the watcher to see it", || place.metrics.log_file_bytes.value() == 0);
    append(&log, 3..6);
    drop(log);
    let (exit, text) = judged(&place, &["--expect", &first_place(&copied)]);
    assert_eq!(exit, Exit::Failed, "{text}");
    fs::write(place.directory().join("copied.log"), copied).unwrap();
    assert_proven(&place);
}

fn first_place(log: &[u8]) -> String {
    let point = links(str::from_utf8(log).unwrap())[0].point;
    format!("{}/{}", point.id.as_str(), point.sequence)
}

#[test]
fn a_log_put_back_to_yesterday_shows_what_was_lost_before_the_restart() {
    let place = place();
    append(&place.open(), 0..3);
    let yesterday = fs::read(place.log()).unwrap();
    append(&place.open(), 3..6);
    fs::write(place.log(), &yesterday).unwrap();
    append(&place.open(), 6..9);
    let (exit, text) = judged(&place, &[]);
    // The head of the second process is of an ID that is gone altogether.
    assert_eq!(exit, Exit::Unproven, "{text}");
    assert!(text.contains("were kept, and no line of it is here"), "{text}");
}

#[test]
fn a_power_cut_behind_a_head_that_was_kept_is_called_that() {
    let place = place();
    append(&place.open(), 0..6);
    let text = fs::read_to_string(place.log()).unwrap();
    let kept: String = text.split_inclusive('\n').take(3).collect();
    fs::write(place.log(), kept + "{\"torn\":").unwrap();
    append(&place.open(), 6..9);
    let (exit, text) = judged(&place, &[]);
    assert_eq!(exit, Exit::Failed, "{text}");
    assert!(text.contains("/6 is missing: it was lost before a restart (a power cut"), "{text}");
    assert_eq!(text.matches("is missing").count(), 1, "{text}");
}

#[test]
fn heads_are_said_at_the_end_and_after_a_rotation_and_given_to_a_reply_once_a_second() {
    let mut place = place();
    place.settings.max_size = 300;
    let log = place.open();
    assert_eq!(log.head_due(|| true), None);
    append(&log, 0..5);
    eventually("the head after a rotation", || place.messages.count("\"msg\":\"chain head\"") > 0);
    assert_eq!(log.head_due(|| false), None);
    let head = log.head_due(|| true).unwrap();
    let (point, signature) = format::parse_head(head.as_bytes()).unwrap();
    assert_eq!((point.sequence, signature), (5, None));
    assert_eq!(log.head_due(|| true), None);
    drop(log);
    assert_eq!(place.messages.count("\"msg\":\"chain begun\""), 1);
    assert_proven(&place);
}

#[test]
fn many_threads_make_one_chain() {
    let mut place = place();
    place.settings.max_size = 20_000;
    let log = place.open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..200 {
                    let line = format!("{{\"thread\":{thread},\"number\":{number}}}\n");
                    if number % 3 == 0 {
                        log.append(line.repeat(3).as_bytes())
                    } else {
                        log.append_one(line.as_bytes())
                    }
                    .unwrap();
                }
            });
        }
    });
    drop(log);
    let text = assert_proven(&place);
    let lines = 8 * (133 + 67 * 3);
    assert!(text.contains(&format!("1 to {lines}, {lines} lines")), "{text}");
}

#[test]
fn without_the_flag_lines_stay_as_they_are() {
    let place = Place::new();
    let log = place.open();
    log.append(b"{\"a\":1}\n").unwrap();
    log.append_one(b"{\"b\":2}\n").unwrap();
    assert_eq!(log.head_due(|| true), None);
    assert_eq!(fs::read_to_string(place.log()).unwrap(), "{\"a\":1}\n{\"b\":2}\n");
    drop(log);
    assert_eq!(place.messages.count("chain"), 0);
}

fn point() -> impl Strategy<Value = Point> {
    (any::<[u8; 8]>(), 1_u64.., any::<[u8; 32]>()).prop_map(|(id, sequence, hash)| Point {
        id: Id::new(id),
        sequence,
        hash,
    })
}

fn link() -> impl Strategy<Value = Link> {
    let signature = prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| <[u8; 64]>::try_from(bytes).unwrap());
    let mark = prop_oneof![
        Just(Mark::Plain),
        any::<[u8; 32]>().prop_map(Mark::Previous),
        (any::<[u8; 32]>(), signature).prop_map(|(previous, signature)| Mark::Signed(previous, signature)),
    ];
    let origin =
        prop_oneof![Just(None), Just(Some(Origin::Nothing)), point().prop_map(|point| Some(Origin::After(point)))];
    (point(), mark, origin).prop_map(|(point, mark, origin)| Link { point, mark, origin })
}

proptest! {
    #[test]
    fn a_link_is_read_back_as_it_was_written_and_in_no_other_spelling(link in link(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut line = b"{\"a\":\"b\"".to_vec();
        format::push(&mut line, &link);
        prop_assert!(line.len() < 8 + format::LONGEST);
        prop_assert_eq!(line.pop(), Some(b'\n'));
        prop_assert_eq!(format::split(&line), Some((&b"{\"a\":\"b\""[..], link)));
        let at = at.index(line.len());
        line[at] ^= 1_u8 << bit;
        if let Some((content, changed)) = format::split(&line) {
            let same = content == b"{\"a\":\"b\"" && changed == link;
            prop_assert!(!same);
        }
    }
}

/// Appends, failures and restarts in any order: what was acknowledged is there, and nobody is accused.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Fail(Call, u32, bool),
    Restart,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop::sample::select(vec![Call::Write, Call::SetLen, Call::Rename, Call::Open, Call::Stat, Call::Sync]);
    prop_oneof![
        4 => (1..6_usize).prop_map(Step::Append),
        2 => (call, 1..4_u32, any::<bool>()).prop_map(|(call, nth, short)| Step::Fail(call, nth, short)),
        1 => Just(Step::Restart),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_fails_and_restarts_nothing_is_called_changed(steps in prop::collection::vec(step(), 1..25), sync in any::<bool>()) {
        let mut place = place();
        place.settings.max_size = 1500;
        place.settings.sync = if sync { SyncMode::Always } else { SyncMode::Never };
        let mut log = Some(place.open());
        let mut number = 0;
        for step in steps {
            match step {
                Step::Append(count) => {
                    let lines: String = (0..count).map(|_| { number += 1; format!("{{\"number\":{number}}}\n") }).collect();
                    let _ = log.as_ref().unwrap().append(lines.as_bytes());
                    place.fs.faults.set(None);
                }
                Step::Fail(call, nth, short) => {
                    place.fs.faults.set(Some(Plan { call: Some(call), nth, times: 2, errno: 5, short }));
                }
                Step::Restart => {
                    place.fs.faults.set(None);
                    drop(log.take());
                    log = Some(place.open());
                }
                Step::Reopen => log.as_ref().unwrap().reopen(),
            }
        }
        place.fs.faults.set(None);
        // So that the last line is acknowledged and its head said.
        let began = std::time::Instant::now();
        while log.as_ref().unwrap().append_one(b"{\"last\":1}\n").is_err() {
            prop_assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(log.take());
        // A restart cuts off what is torn.
        drop(place.open());
        let (exit, text) = judged(&place, &["--max-unsigned=100"]);
        prop_assert_eq!(exit, Exit::Ok, "{}", text);
    }
}
