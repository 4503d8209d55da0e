//! A log that is moved, deleted or truncated, and a directory that is removed.

use super::*;

#[test]
fn a_log_that_was_moved_is_opened_anew_without_traffic() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    let began = Instant::now();
    fs::rename(place.log(), place.root().join("moved")).unwrap();
    eventually("a new file", || place.log().exists());
    assert!(began.elapsed() < Duration::from_secs(1));
    log.append(b"after\n").unwrap();
    assert_eq!(fs::read_to_string(place.root().join("moved")).unwrap(), "before\n");
    assert_eq!(place.read_log(), "after\n");
}

#[test]
fn sighup_opens_the_log_anew_before_the_next_line() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    fs::rename(place.log(), place.root().join("moved")).unwrap();
    log.reopen();
    log.append(b"after\n").unwrap();
    assert_eq!(fs::read_to_string(place.root().join("moved")).unwrap(), "before\n");
    assert_eq!(place.read_log(), "after\n");
    eventually("the reopen is counted", || place.metrics.log_reopens.value() == 1);
}

#[test]
fn a_line_is_acknowledged_in_a_file_with_a_name_however_often_the_log_is_deleted() {
    let place = Place::new();
    let log = place.open();
    for number in 0..100 {
        let line = format!("{number}\n");
        let _ = fs::remove_file(place.log());
        log.append(line.as_bytes()).unwrap();
        assert_eq!(place.read_log(), line);
    }
}

#[test]
fn a_line_that_is_truncated_away_before_it_is_acknowledged_is_written_again() {
    for call in 1..4 {
        for share in [0, 30, 100] {
            let place = Place::new();
            let file = file_of(&place);
            let mut writer = Writer::new(Sink::File(Box::new(file)), Arc::new(place.status()), None);
            writer.append(Lines::Plain(b"{\"one\":1}\n"), 1).unwrap();
            place.fs.faults.with_disk(|disk| disk.log = place.log());
            place.fs.faults.play(vec![(call, Fault::Truncate(share))]);
            writer.append(Lines::Plain(b"{\"two\":2}\n"), 1).unwrap();
            let text = place.read_log();
            // The third call, if there is one, comes after a truncation that was noticed.
            let expected = ["{\"two\":2}\n", "{\"one\":1}\n{\"two\":2}\n"];
            assert!(expected.contains(&text.as_str()), "{call} {share}: {text:?}");
        }
    }
}

#[test]
fn a_truncation_amid_a_short_write_costs_no_line_that_it_has_left_even_one_that_ends_like_the_new_one() {
    let (earlier, new) = (["{\"a\":1}", "{\"a\":\"x\",\"b\":22222}", "{\"c\":3}"], "{\"d\":\"zzzzzzz\",\"b\":22222}");
    for call in 1..10 {
        for share in 0..=100 {
            let place = Place::in_memory();
            let mut writer = Writer::new(Sink::File(Box::new(file_of(&place))), Arc::new(place.status()), None);
            writer.append(Lines::Plain((earlier.join("\n") + "\n").as_bytes()), 1).unwrap();
            place.fs.faults.with_disk(|disk| disk.log = place.log());
            place.fs.faults.play(vec![(1, Fault::Short), (call, Fault::Truncate(share))]);
            let acknowledged = writer.append(Lines::Plain(format!("{new}\n").as_bytes()), 1).is_ok();
            place.fs.faults.play(Vec::new());
            writer.append(Lines::Plain(b"{\"e\":5}\n"), 1).unwrap();
            let taken = place.fs.faults.with_disk(|disk| disk.taken.clone());
            let text = place.rolled().concat() + &place.read_log();
            let times = |line: &str| text.matches(&format!("{line}\n")).count();
            for line in earlier {
                assert_eq!(
                    times(line),
                    usize::from(!taken.contains(&line.to_owned())),
                    "{line} {call} {share}: {text}"
                );
            }
            assert_eq!(times(new), usize::from(acknowledged), "{call} {share}: {text}");
        }
    }
}

fn file_of(place: &Place) -> LogFile {
    let rules = Rules { max_size: 0, sync: SyncMode::Never, mode: 0o600 };
    LogFile::open(place.fs.clone(), place.log(), rules, Arc::new(place.status())).unwrap()
}

#[test]
fn a_directory_removed_and_made_again_is_locked_and_written_again() {
    let place = Place::new();
    let log = place.open();
    log.append(b"before\n").unwrap();
    fs::remove_dir_all(place.directory()).unwrap();
    eventually("a new file", || place.log().exists());
    log.append(b"after\n").unwrap();
    assert_eq!(place.read_log(), "after\n");
    assert!(matches!(place.try_open(), Err(OpenError::InUse { .. })));
}

#[test]
fn a_call_that_fails_as_the_lock_is_taken_again_keeps_appends_refused_no_longer_than_it_fails() {
    for nth in 1..=6 {
        let place = Place::new();
        let status = Arc::new(place.status());
        let rules = Rules { max_size: 0, sync: SyncMode::Never, mode: 0o600 };
        let mut log = LogFile::open(place.fs.clone(), place.log(), rules, Arc::clone(&status)).unwrap();
        log.append(Lines::Plain(b"{\"one\":1}\n"), None).unwrap();
        let lock = place.directory().join(".audit.log.lock");
        fs::remove_file(&lock).unwrap();
        let other = fs::File::create(&lock).unwrap();
        other.lock().unwrap();
        log.look();
        assert_eq!(log.append(Lines::Plain(b"{\"two\":2}\n"), None).unwrap_err().reason(), AppendFault::Lock);
        drop(other);
        place.fs.faults.set(Some(faults::Plan { call: Some(Call::Stat), nth, times: 1, errno: 5, short: false }));
        log.look();
        assert!(place.fs.faults.fired() || nth == 6, "{nth}");
        log.look();
        assert_eq!(status.failing(), None, "{nth}");
        log.append(Lines::Plain(b"{\"three\":3}\n"), None).unwrap();
        assert_eq!(place.read_log(), "{\"one\":1}\n{\"three\":3}\n");
    }
}

#[test]
fn copytruncate_leaves_no_hole() {
    let mut place = Place::new();
    place.settings.max_size = 100;
    let log = place.open();
    log.append(b"a line that was copied before the truncation\n").unwrap();
    fs::OpenOptions::new().write(true).open(place.log()).unwrap().set_len(0).unwrap();
    log.append(b"next\n").unwrap();
    assert_eq!(place.read_log(), "next\n");
    eventually("the size is known again", || place.metrics.log_file_bytes.value() == 5);
    // It would be rolled here if the length before the truncation still counted.
    log.append(&[&[b'x'; 94][..], b"\n"].concat()).unwrap();
    assert!(place.rolled().is_empty());
}
