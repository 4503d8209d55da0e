//! Appends that fail: what was refused and may have left bytes accuses nobody.

use super::*;
use crate::observe::labels::AppendFault;

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
