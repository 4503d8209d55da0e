//! The chain as the log writes it, judged by `verify`.

mod failures;
mod losses;
mod random;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::faults::{Fault, Plan};
use super::super::fs::Call;
use super::super::tests::{Place, eventually};
use super::super::{AuditLog, ChainSetting, SyncMode};
use super::format::{self, Id, Link, Mark, Origin};
use crate::cli::Exit;
use crate::commands::verify;

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
        log.append_one(&mut format!("{{\"number\":{number}}}\n").into_bytes()).unwrap();
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
                        log.append_one(&mut line.as_bytes().to_vec())
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
    log.append_one(&mut b"{\"b\":2}\n".to_vec()).unwrap();
    assert_eq!(log.head_due(|| true), None);
    assert_eq!(fs::read_to_string(place.log()).unwrap(), "{\"a\":1}\n{\"b\":2}\n");
    drop(log);
    assert_eq!(place.messages.count("chain"), 0);
}
