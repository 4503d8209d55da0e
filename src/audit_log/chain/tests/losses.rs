//! Lines that somebody or a power cut takes away: they are missed, and nothing else is.

use super::*;

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
