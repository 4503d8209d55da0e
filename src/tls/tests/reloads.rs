//! What becomes of files that change, and of time that passes.

use super::*;

#[test]
fn a_certificate_that_is_not_valid_yet_is_not_taken_in_exchange_until_it_is() {
    let authority = Authority::new("ca");
    let first = authority.issue();
    let files = Files::new(&first);
    let tls = files.load();
    let second = authority.issue_until(NEW_YEAR, 90);
    let start = NEW_YEAR - 90 * DAY;
    files.write(&second);
    for seconds_left in [3, 2, 1] {
        tls.reload_at(at(start - seconds_left));
    }
    assert_eq!(
        files.said(),
        [
            "error certificate: reload failed, the old one stays in use error=--cert-filename DIR/tls.crt: not valid before 2999-10-03T00:00:00Z"
        ]
    );
    assert_eq!(served(&tls, &authority.pem()), der(&first.certificate));
    tls.reload_at(at(start));
    assert_eq!(files.said(), ["info certificate reloaded expires=3000-01-01T00:00:00Z path=DIR/tls.crt"]);
}

#[test]
fn a_certificate_that_is_not_valid_yet_at_the_start_is_used_and_said() {
    let files = Files::new(&Authority::new("ca").issue_until(NEW_YEAR, 90));
    assert!(!files.try_load().unwrap().expired(SystemTime::now()));
    assert_eq!(
        files.said(),
        [
            "info certificate loaded expires=3000-01-01T00:00:00Z path=DIR/tls.crt",
            "error certificate is not valid yet path=DIR/tls.crt valid_from=2999-10-03T00:00:00Z"
        ]
    );
}

#[test]
fn a_certificate_changed_in_place_serves_new_connections_and_old_ones_live_on() {
    let authority = Authority::new("ca");
    let (first, second) =
        (authority.issue_until(NEW_YEAR, MILLENNIUM), authority.issue_until(NEW_YEAR + DAY, MILLENNIUM));
    let files = Files::new(&first);
    let tls = files.try_load().unwrap();
    assert_eq!(files.said(), ["info certificate loaded expires=3000-01-01T00:00:00Z path=DIR/tls.crt"]);
    assert_eq!(files.metrics.certificate_expiry.value(), NEW_YEAR);
    let mut old = handshake(&tls, client(&authority.pem(), &TLS13, None)).unwrap();
    let now = at(NEW_YEAR - 100 * DAY);
    tls.reload_at(now);
    assert!(files.said().is_empty());

    files.write(&second);
    tls.reload_at(now);
    assert_eq!(files.said(), ["info certificate reloaded expires=3000-01-02T00:00:00Z path=DIR/tls.crt"]);
    assert_eq!(files.metrics.certificate_expiry.value(), NEW_YEAR + DAY);
    assert_eq!(files.reloads(), [1, 0]);
    assert!(!tls.expired(at(NEW_YEAR + DAY)));
    assert!(tls.expired(at(NEW_YEAR + DAY + 1)));
    assert!(old.carries_data());
    assert_eq!(old.certificate(), der(&first.certificate));
    assert_eq!(served(&tls, &authority.pem()), der(&second.certificate));
}

/// A Secret volume: `tls.crt -> ..data/tls.crt`, `..data -> ..VERSION`, and an update swaps `..data`.
#[test]
fn a_secret_volume_that_swaps_its_symbolic_link_is_noticed() {
    let authority = Authority::new("ca");
    let pairs = [authority.issue(), authority.issue()];
    let mut files = Files::new(&pairs[0]);
    let volume = files.directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let publish = |version: &str, pair: &Pair| {
        fs::create_dir(volume.join(version)).unwrap();
        fs::write(volume.join(version).join("tls.crt"), &pair.certificate).unwrap();
        fs::write(volume.join(version).join("tls.key"), &pair.key).unwrap();
        symlink(version, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    publish("..1", &pairs[0]);
    files.settings.certificate = volume.join("tls.crt");
    files.settings.key = volume.join("tls.key");
    symlink("..data/tls.crt", &files.settings.certificate).unwrap();
    symlink("..data/tls.key", &files.settings.key).unwrap();
    let tls = files.load();
    assert_eq!(served(&tls, &authority.pem()), der(&pairs[0].certificate));
    publish("..2", &pairs[1]);
    fs::remove_dir_all(volume.join("..1")).unwrap();
    tls.reload();
    assert_eq!(served(&tls, &authority.pem()), der(&pairs[1].certificate));
    assert_eq!(files.reloads(), [1, 0]);
}

#[test]
fn a_certificate_whose_key_comes_a_look_later_raises_no_alarm() {
    let authority = Authority::new("ca");
    let (first, second) = (authority.issue(), authority.issue());
    let files = Files::new(&first);
    let tls = files.load();
    fs::write(&files.settings.certificate, &second.certificate).unwrap();
    tls.reload();
    assert!(files.said().is_empty());
    assert_eq!(served(&tls, &authority.pem()), der(&first.certificate));
    fs::write(&files.settings.key, &second.key).unwrap();
    tls.reload();
    assert_eq!(served(&tls, &authority.pem()), der(&second.certificate));
    assert_eq!(files.reloads(), [1, 0]);
}

#[test]
fn a_broken_update_is_said_once_and_the_old_certificate_kept() {
    let authority = Authority::new("ca");
    let first = authority.issue();
    let files = Files::new(&first);
    let tls = files.load();
    let failed = |why: &str| vec![format!("error certificate: reload failed, the old one stays in use error={why}")];
    fs::write(&files.settings.key, authority.issue().key).unwrap();
    tls.reload();
    tls.reload();
    assert_eq!(
        files.said(),
        failed(
            "--cert-key-filename DIR/tls.key: the key does not belong to the certificate in DIR/tls.crt (the first one, if it holds several)"
        )
    );
    tls.reload();
    assert!(files.said().is_empty());
    fs::remove_file(&files.settings.certificate).unwrap();
    tls.reload();
    assert_eq!(files.said(), failed("--cert-filename DIR/tls.crt: No such file or directory (os error 2)"));
    assert_eq!(files.reloads(), [0, 2]);
    assert_eq!(served(&tls, &authority.pem()), der(&first.certificate));
    files.write(&first);
    tls.reload();
    let again = "info certificate: the file holds again what is in use";
    assert_eq!(files.said(), [again]);
}

#[test]
fn an_expired_certificate_is_not_taken_in_exchange() {
    let authority = Authority::new("ca");
    let first = authority.issue();
    let files = Files::new(&first);
    let tls = files.load();
    files.write(&authority.issue_until(NEW_YEAR, 90));
    let now = at(NEW_YEAR + 1);
    tls.reload_at(now);
    tls.reload_at(now);
    assert_eq!(
        files.said(),
        [
            "error certificate: reload failed, the old one stays in use error=--cert-filename DIR/tls.crt: expired at 3000-01-01T00:00:00Z"
        ]
    );
    assert!(!tls.expired(now));
    assert_eq!(served(&tls, &authority.pem()), der(&first.certificate));
}

#[test]
fn an_expired_certificate_at_the_start_is_used_and_said() {
    let authority = Authority::new("ca");
    let files = Files::new(&authority.issue_until(1_500_000_000, 90));
    let tls = files.try_load().unwrap();
    assert_eq!(
        files.said(),
        [
            "info certificate loaded expires=2017-07-14T02:40:00Z path=DIR/tls.crt",
            "error certificate has expired expires=2017-07-14T02:40:00Z path=DIR/tls.crt"
        ]
    );
    assert!(tls.expired(SystemTime::now()));
}

#[test]
fn each_expiry_warning_is_said_once_and_again_for_the_next_certificate() {
    let authority = Authority::new("ca");
    let files = Files::new(&authority.issue_until(NEW_YEAR, 365));
    let tls = files.load();
    let soon = |end| format!("warn certificate expires soon expires={end} path=DIR/tls.crt");
    let first = soon("3000-01-01T00:00:00Z");
    for (seconds_left, said) in [
        (31 * DAY, None),
        (30 * DAY + 1, None),
        (30 * DAY, Some(&first)),
        (29 * DAY, None),
        (7 * DAY, Some(&first)),
        (2 * DAY, None),
        (DAY, Some(&first)),
        (0, None),
    ] {
        for said in [said, None] {
            tls.reload_at(at(NEW_YEAR - seconds_left));
            assert_eq!(files.said(), Vec::from_iter(said.cloned()), "{seconds_left}");
        }
    }
    tls.reload_at(at(NEW_YEAR + 1));
    tls.reload_at(at(NEW_YEAR + DAY));
    assert_eq!(files.said(), ["error certificate has expired expires=3000-01-01T00:00:00Z path=DIR/tls.crt"]);
    files.write(&authority.issue_until(NEW_YEAR + 20 * DAY, 365));
    tls.reload_at(at(NEW_YEAR + DAY));
    tls.reload_at(at(NEW_YEAR + DAY));
    assert_eq!(
        files.said(),
        ["info certificate reloaded expires=3000-01-21T00:00:00Z path=DIR/tls.crt", &soon("3000-01-21T00:00:00Z")]
    );
    assert!(!tls.expired(at(NEW_YEAR + DAY)));
}

#[test]
fn a_short_lived_certificate_is_not_warned_about_from_its_first_day() {
    let lifetime = |days| Validity { not_before: NEW_YEAR - days * DAY, not_after: NEW_YEAR };
    for (days, days_left, due) in [
        (1, 1, 0),
        (1, 0, 0),
        (2, 1, 1),
        (7, 7, 0),
        (7, 1, 1),
        (30, 30, 0),
        (30, 7, 1),
        (90, 30, 1),
        (90, 1, 3),
        (1, -1, 4),
        (90, -1, 4),
    ] {
        let now = NEW_YEAR - days_left * DAY;
        let said = warnings_due(lifetime(days), now);
        assert_eq!(said, due, "{days} days, {days_left} left");
    }
}

#[test]
fn a_new_client_ca_is_used_and_a_broken_one_does_not_hold_up_a_new_certificate() {
    let server_ca = Authority::new("server ca");
    let (old_ca, new_ca) = (Authority::new("old ca"), Authority::new("new ca"));
    let (old_client, new_client) = (old_ca.issue(), new_ca.issue());
    let files = Files::new(&server_ca.issue()).with_client_ca(&old_ca.pem());
    let tls = files.load();
    let accepts = |own| handshake(&tls, client(&server_ca.pem(), &TLS13, Some(own))).map(|_| ());
    assert!(accepts(&old_client).is_ok());
    assert!(accepts(&new_client).is_err());

    files.write_client_ca(&format!("{}{}", old_ca.pem(), new_ca.pem()));
    tls.reload();
    assert_eq!(files.said(), ["info client CA reloaded path=DIR/ca.crt"]);
    assert!(accepts(&old_client).is_ok());
    assert!(accepts(&new_client).is_ok());

    files.write_client_ca(&new_ca.pem());
    tls.reload();
    assert!(accepts(&old_client).is_err());
    files.said();

    files.write_client_ca("");
    tls.reload();
    let renewed = server_ca.issue();
    files.write(&renewed);
    tls.reload();
    assert_eq!(
        files.said(),
        [
            "error client CA: reload failed, the old one stays in use error=--client-ca-filename DIR/ca.crt: the file is empty",
            "info certificate reloaded expires=4096-01-01T00:00:00Z path=DIR/tls.crt"
        ]
    );
    assert_eq!(files.reloads(), [3, 1]);
    let connection = handshake(&tls, client(&server_ca.pem(), &TLS13, Some(&new_client)));
    assert_eq!(connection.unwrap().certificate(), der(&renewed.certificate));
}
