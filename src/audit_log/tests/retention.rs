//! Which rolled files are deleted, and when.

use super::*;

#[test]
fn only_as_many_backups_are_kept_as_asked_for_the_newest() {
    for (max, expected) in [
        (1, vec!["4444444\n"]),
        (3, vec!["2222222\n", "3333333\n", "4444444\n"]),
        (0, vec!["0000000\n", "1111111\n", "2222222\n", "3333333\n", "4444444\n"]),
    ] {
        let mut place = Place::new();
        place.settings.max_size = 10;
        place.settings.max_backups = max;
        let log = place.open();
        fs::write(place.directory().join("audit-2026.log"), "not a backup").unwrap();
        for digit in 0..6 {
            let line = format!("{}\n", digit.to_string().repeat(7));
            log.append(line.as_bytes()).unwrap();
        }
        eventually("old backups are gone", || place.rolled() == expected);
        eventually("they are counted", || place.metrics.log_backups.value() == i64::try_from(expected.len()).unwrap());
        assert!(place.directory().join("audit-2026.log").exists());
    }
}

#[test]
fn backups_over_the_limits_are_deleted_at_start_by_the_time_in_their_names() {
    let mut place = Place::new();
    place.settings.max_backups = 3;
    place.settings.max_age = Duration::from_secs(24 * 3600);
    fs::create_dir_all(place.directory()).unwrap();
    // The oldest was touched last.
    for name in [
        "audit-2036-01-01T00-00-00.000-10.log",
        "audit-2036-01-01T00-00-00.000-9.log",
        "audit-2036-01-01T00-00-00.000.log",
        "audit-2020-01-01T00-00-00.000.log",
    ] {
        fs::write(place.directory().join(name), name).unwrap();
    }
    let _log = place.open();
    eventually("the oldest is gone", || place.rolled().len() == 3);
    assert!(!place.directory().join("audit-2020-01-01T00-00-00.000.log").exists());
}

#[test]
fn a_backup_older_than_the_maximum_age_is_deleted() {
    let mut place = Place::new();
    place.settings.max_age = Duration::from_secs(24 * 3600);
    fs::create_dir_all(place.directory()).unwrap();
    fs::write(place.directory().join("audit-2020-01-01T00-00-00.000.log"), "old").unwrap();
    fs::write(place.directory().join("audit-2036-01-01T00-00-00.000.log"), "new").unwrap();
    let _log = place.open();
    eventually("the old one is gone", || place.rolled() == ["new"]);
}

#[test]
fn no_rolled_file_is_overwritten_even_if_the_clock_is_set_back() {
    // The second leaves no greater number.
    for name in ["audit-2096-01-01T00-00-00.000.log", "audit-2096-01-01T00-00-00.000-4294967295.log"] {
        let mut place = Place::new();
        place.settings.max_size = 10;
        place.settings.max_backups = 2;
        fs::create_dir_all(place.directory()).unwrap();
        fs::write(place.directory().join(name), "from the future").unwrap();
        let log = place.open();
        log.append(b"11111111\n").unwrap();
        log.append(b"22222222\n").unwrap();
        assert_eq!(place.rolled(), ["from the future", "11111111\n"]);
        log.append(b"33333333\n").unwrap();
        eventually("the newest are kept", || place.rolled() == ["11111111\n", "22222222\n"]);
    }
}

#[test]
fn a_rolled_file_that_cannot_be_deleted_is_said_once_until_that_changes() {
    let mut place = Place::new();
    place.settings.max_backups = 1;
    fs::create_dir_all(place.directory()).unwrap();
    for day in 1..=3 {
        fs::write(place.directory().join(format!("audit-2026-01-0{day}T00-00-00.000.log")), "{}\n").unwrap();
    }
    let refused = |errno| faults::Plan { call: Some(Call::Unlink), nth: 1, times: u32::MAX, errno, short: false };
    place.fs.faults.set(Some(refused(13)));
    let _log = place.open();
    // Two at once. That is tried every second, while no line tells its time.
    eventually("some tries", || place.metrics.log_retention_errors.value() >= 4);
    assert_eq!(place.messages.count("cannot delete a rolled file"), 1);
    place.fs.faults.set(Some(refused(30)));
    eventually("another error", || place.messages.count("cannot delete a rolled file") == 2);
    place.fs.faults.set(None);
    eventually("they are gone", || place.rolled().len() == 1);
}

#[test]
fn an_empty_rolled_file_counts_like_any_other() {
    let mut place = Place::new();
    place.settings.max_backups = 1;
    fs::create_dir_all(place.directory()).unwrap();
    fs::write(place.directory().join("audit-2026-01-01T00-00-00.000.log"), "{}\n").unwrap();
    fs::write(place.directory().join("audit-2026-01-02T00-00-00.000.log"), "").unwrap();
    let _log = place.open();
    eventually("the older is gone", || place.rolled() == [""]);
}
