//! Calls that fail: a rotation, a write, a sync, a cut.

use super::*;

#[test]
fn a_failed_rotation_keeps_the_old_file_in_use_and_is_tried_again_later() {
    let mut place = Place::new();
    place.settings.max_size = 10;
    let log = place.open();
    log.append(b"12345678\n").unwrap();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Rename), nth: 1, times: 1, errno: 13, short: false }));
    log.append(b"abcdefgh\n").unwrap();
    log.append(b"ijklmnop\n").unwrap();
    assert_eq!(place.read_log(), "12345678\nabcdefgh\nijklmnop\n");
    assert_eq!(place.metrics.log_rotation_errors.value(), 1);
    assert!(place.rolled().is_empty());
    eventually("the rotation", || {
        log.append(b"12345678\n").unwrap();
        place.metrics.log_rotations.value() > 0
    });
}

#[test]
fn a_probe_ends_the_outage_without_traffic() {
    let place = Place::new();
    let log = place.open();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Write), nth: 1, times: 1, errno: 28, short: true }));
    log.append(b"fits not, but fits later\n").unwrap();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Write), nth: 1, times: 2, errno: 28, short: true }));
    let error = log.append(b"never fits\n").unwrap_err();
    assert_eq!(error.reason(), AppendFault::NoSpace);
    assert_eq!(place.read_log(), "fits not, but fits later\n");
    assert!(log.failing().is_some());
    eventually("the probe", || log.failing().is_none());
    assert_eq!(place.messages.count("would work again"), 1);
}

#[test]
fn a_failed_sync_fails_the_append_and_ends_the_use_of_the_file() {
    let mut place = Place::new();
    place.settings.sync = SyncMode::Always;
    let log = place.open();
    log.append(b"safe\n").unwrap();
    let before = fs::metadata(place.log()).unwrap().ino();
    place.fs.faults.set(Some(faults::Plan { call: Some(Call::Sync), nth: 1, times: 1, errno: 5, short: false }));
    assert_eq!(log.append(b"perhaps gone\n").unwrap_err().reason(), AppendFault::Sync);
    log.append(b"safe again\n").unwrap();
    assert_ne!(fs::metadata(place.log()).unwrap().ino(), before);
    assert_eq!(place.rolled(), ["safe\n"]);
    assert_eq!(place.read_log(), "safe again\n");
    assert_eq!(place.messages.count("append failed"), 1);
    assert_eq!(place.messages.count("append works again"), 1);
}

#[test]
fn a_file_whose_end_is_in_doubt_gets_a_successor_at_once_and_if_that_fails_likewise_after_a_pause() {
    for (sync, first) in [(SyncMode::Always, Fault::Fail(5)), (SyncMode::Never, Fault::Short)] {
        let mut paused = 0;
        for nth in 1..40 {
            let place = Place::in_memory();
            let rules = Rules { max_size: 0, sync, mode: 0o600 };
            let file = LogFile::open(place.fs.clone(), place.log(), rules, Arc::new(place.status())).unwrap();
            let mut writer = Writer::new(Sink::File(Box::new(file)), Arc::new(place.status()), None);
            writer.append(Lines::Plain(b"{\"one\":1}\n"), 1).unwrap();
            // What fails first is the write or its sync, and then all calls do: it cannot be cut off either.
            let mut failing_from = |call| {
                place.fs.faults.play(vec![(call, first.clone()), (call + 1, Fault::Crash)]);
                let outcome = writer.append(Lines::Plain(b"{\"two\":2}\n"), 1);
                place.fs.faults.play(Vec::new());
                outcome.is_err() && place.messages.count("will not be written any more") > 0
            };
            let written = if sync == SyncMode::Always { 2 } else { 1 };
            assert!(failing_from(written));
            let files = place.rolled().len();
            if failing_from(nth) && place.rolled().len() > files {
                let files = place.rolled().len();
                writer.append(Lines::Plain(b"{\"three\":3}\n"), 1).unwrap_err();
                assert_eq!(place.rolled().len(), files, "{nth}");
                paused += 1;
            }
        }
        assert!(paused > 0);
    }
}
