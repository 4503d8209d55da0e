//! Appends that fail: what was refused and may have left bytes accuses nobody.

use std::sync::Arc;
use std::thread;

use super::super::SIGN_AFTER;
use super::*;
use crate::files::chain_key::ChainKeyFile;
use crate::observe::diagnostics::{Diagnostics, Format};
use crate::observe::labels::AppendFault;

/// The private key of RFC 8410, section 10.3.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

#[test]
fn a_refused_append_that_was_cut_off_takes_its_numbers_back() {
    let place = place();
    let log = place.open();
    append(&log, 0..3);
    for short in [false, true] {
        place.fs.faults.set(Some(Plan { call: Some(Call::Write), nth: 1, times: 2, errno: 28, short }));
        assert_eq!(log.append_one(&mut b"{\"refused\":1}\n".to_vec()).unwrap_err().reason(), AppendFault::NoSpace);
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
    eventually("a successor", || log.append_one(&mut b"{\"next\":1}\n".to_vec()).is_ok());
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
    log.append_one(&mut b"{\"refused\":1}\n".to_vec()).unwrap_err();
    place.fs.faults.play(Vec::new());
    eventually("a successor", || log.append_one(&mut b"{\"next\":1}\n".to_vec()).is_ok());
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
    log.append_one(&mut b"{\"refused\":1}\n".to_vec()).unwrap_err();
    append(&log, 3..6);
    drop(log);
    let ids: std::collections::BTreeSet<Id> =
        contents(&place).iter().flat_map(|text| links(text)).map(|link| link.point.id).collect();
    assert_eq!(ids.len(), 2);
    assert_proven(&place);
}

/// Half of it goes in and is cut off; then all of it goes in.
#[test]
fn a_line_that_is_written_again_is_signed_again() {
    let mut place = place();
    let path = place.root().join("key.pem");
    fs::write(&path, KEY).unwrap();
    let diagnostics = Arc::new(Diagnostics::to_sink(Format::Json, Box::new(place.messages.clone())));
    let key = ChainKeyFile::load(path, Arc::clone(&place.metrics), diagnostics).unwrap();
    place.settings.chain = ChainSetting::Signed(Arc::new(key));
    let log = place.open();
    append(&log, 0..1);
    // The next signature is due.
    thread::sleep(SIGN_AFTER);
    place.fs.faults.set(Some(Plan { call: Some(Call::Write), nth: 1, times: 1, errno: 28, short: true }));
    append(&log, 1..2);
    assert!(place.fs.faults.fired());
    drop(log);
    let links = links(&fs::read_to_string(place.log()).unwrap());
    assert!(matches!(links[..], [_, Link { mark: Mark::Signed(..), .. }]), "{links:?}");
}
