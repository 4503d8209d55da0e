use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::{Date, Month, OffsetDateTime, Time};

use super::*;

const OPENSSL_RSA: &[u8] = include_bytes!("../../../tests/data/certificates/rsa.crt");
const OPENSSL_EC: &[u8] = include_bytes!("../../../tests/data/certificates/ec.crt");
const OPENSSL_REFUSED: &[u8] = include_bytes!("../../../tests/data/certificates/refused.crt");
const OPENSSL_V1: &[u8] = include_bytes!("../../../tests/data/certificates/v1.crt");

fn validity(certificate: &[u8]) -> Result<Validity, Malformed> {
    read(certificate).map(|certificate| certificate.validity)
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut element = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    element.extend(contents);
    element
}

/// As little of a certificate as the reader looks at.
fn certificate(not_before: &[u8], not_after: &[u8]) -> Vec<u8> {
    let to_be_signed = [
        tlv(EXPLICIT_VERSION, &tlv(INTEGER, &[2])),
        tlv(INTEGER, &[1; 20]),
        tlv(SEQUENCE, &[]),
        tlv(SEQUENCE, &[0x31; 200]),
        tlv(SEQUENCE, &[not_before, not_after].concat()),
    ];
    let signed = [tlv(SEQUENCE, &to_be_signed.concat()), tlv(SEQUENCE, &[]), tlv(BIT_STRING, &[0; 72])];
    tlv(SEQUENCE, &signed.concat())
}

fn not_after(tag: u8, text: &str) -> Result<i64, Malformed> {
    let not_before = tlv(UTC_TIME, b"700101000000Z");
    validity(&certificate(&not_before, &tlv(tag, text.as_bytes()))).map(|validity| validity.not_after)
}

#[test]
fn what_rcgen_was_told_is_what_is_read_in_any_century() {
    let key = rcgen::KeyPair::generate().unwrap();
    for text in [
        (1950, 1, 1, 0, 0, 0),
        (1969, 12, 31, 23, 59, 59),
        (1970, 1, 1, 0, 0, 0),
        (1999, 12, 31, 23, 59, 59),
        (2000, 2, 29, 12, 34, 56),
        (2026, 11, 20, 21, 34, 38),
        (2049, 12, 31, 23, 59, 59),
        (2050, 1, 1, 0, 0, 0),
        (2100, 2, 28, 23, 59, 59),
        (9999, 12, 31, 23, 59, 59),
    ] {
        let (year, month, day, hour, minute, second) = text;
        let date = Date::from_calendar_date(year, Month::try_from(month).unwrap(), day);
        let time = Time::from_hms(hour, minute, second).unwrap();
        let end = date.unwrap().with_time(time).assume_utc();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1950, 1, 1);
        params.not_after = end;
        let certificate = params.self_signed(&key).unwrap();
        let expected = Validity { not_before: -631_152_000, not_after: end.unix_timestamp() };
        assert_eq!(validity(certificate.der()), Ok(expected), "{end}");
    }
}

#[test]
fn certificates_made_by_openssl_are_read_as_openssl_reads_them() {
    for (pem, not_before, not_after) in [
        (OPENSSL_RSA, 1_795_218_720, 4_948_818_720),
        (OPENSSL_EC, 1_795_218_833, 4_948_818_833),
        (OPENSSL_V1, 1_795_218_367, 2_110_578_367),
    ] {
        let expected = Validity { not_before, not_after };
        assert_eq!(validity(&der(pem)), Ok(expected));
    }
}

#[test]
fn what_go_refuses_of_a_server_is_told_in_its_words() {
    let refused = read(&der(OPENSSL_REFUSED)).unwrap();
    assert_eq!(
        refused.refusals,
        [
            "x509: certificate relies on legacy Common Name field, use SANs instead",
            "x509: certificate specifies an incompatible key usage",
        ]
    );
    let weak = "x509: cannot verify signature: insecure algorithm ECDSA-SHA1";
    assert_eq!(refused.weak_signature.as_deref(), Some(weak));
    assert!(refused.is_leaf);
    assert!(!read(&der(OPENSSL_V1)).unwrap().is_leaf);
    assert!(read(&der(OPENSSL_RSA)).unwrap().is_leaf);
    // The algorithm's last digit makes it RSA with SHA-1; the names are its own.
    let rsa = der(OPENSSL_RSA);
    let sha_256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    let at = rsa.windows(9).position(|part| part == sha_256).unwrap();
    let mut changed = rsa.to_vec();
    changed[at + 8] = 0x05;
    let refusal =
        "x509: cannot verify signature: insecure algorithm SHA1-RSA (unless the caBundle holds this very certificate)";
    assert_eq!(read(&changed).unwrap().weak_signature.as_deref(), Some(refusal));
}

#[test]
fn no_prefix_of_a_certificate_is_a_certificate() {
    for pem in [OPENSSL_RSA, OPENSSL_EC, OPENSSL_V1] {
        let whole = der(pem);
        for length in 0..whole.len() {
            assert!(validity(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn no_single_changed_byte_makes_it_panic_nor_moves_the_end_unless_it_lies_in_the_time() {
    for pem in [OPENSSL_RSA, OPENSSL_EC, OPENSSL_V1] {
        let whole = der(pem);
        let right = validity(&whole).unwrap();
        let not_before = whole.windows(6).position(|bytes| bytes == b"261120").unwrap();
        let times = not_before..not_before + 13 + 2 + 15;
        for position in 0..whole.len() {
            let mut changed = whole.to_vec();
            for byte in 0..=u8::MAX {
                changed[position] = byte;
                let read = validity(&changed);
                assert!(times.contains(&position) || read.is_err() || read == Ok(right));
            }
        }
    }
}

#[test]
fn a_time_is_read_only_in_the_two_exact_forms() {
    assert_eq!(not_after(UTC_TIME, "491231235959Z"), Ok(2_524_607_999));
    assert_eq!(not_after(UTC_TIME, "500101000000Z"), Ok(-631_152_000));
    assert_eq!(not_after(GENERALIZED_TIME, "20500101000000Z"), Ok(2_524_608_000));
    assert_eq!(not_after(GENERALIZED_TIME, "20000229000000Z"), Ok(951_782_400));
    assert!(not_after(GENERALIZED_TIME, "00000101000000Z").is_ok());
    for text in [
        "",
        "Z",
        "4912312359Z",
        "491231235959",
        "491231235959z",
        "491231235959+0000",
        "491231235959ZZ",
        "491231235960Z",
        "491231236000Z",
        "491231240000Z",
        "490001000000Z",
        "491301000000Z",
        "490100000000Z",
        "490132000000Z",
        "490229000000Z",
        "49123123595 Z",
        "+91231235959Z",
        "4912312359५Z",
        "20491231235959Z",
    ] {
        assert_eq!(not_after(UTC_TIME, text), Err(Malformed("notAfter")), "{text}");
    }
    for text in [
        "491231235959Z",
        "20491231235959",
        "20491231235959.5Z",
        "20491231235959+00",
        "21000229000000Z",
        "2049123123595Z",
        "-2049123123595Z",
    ] {
        let read = not_after(GENERALIZED_TIME, text);
        assert_eq!(read, Err(Malformed("notAfter")), "{text}");
    }
    let no_time = not_after(0x16, "491231235959Z");
    assert_eq!(no_time, Err(Malformed("notAfter")));
}

#[test]
fn only_the_shortest_definite_form_of_a_length_is_taken() {
    for (bytes, length) in [
        (&[0x30, 0x00][..], Some(0)),
        (&[0x30, 0x02, 1, 2, 3], Some(2)),
        (&[0x30, 0x80, 0, 0], None),
        (&[0x30, 0x81, 0x02, 1, 2], None),
        (&[0x30, 0x82, 0x00, 0x80], None),
        (&[0x30, 0x84, 0, 0, 0, 1, 1], None),
        (&[0x30, 0x83, 0xff, 0xff, 0xff], None),
        (&[0x30, 0xff], None),
        (&[0x30], None),
        (&[], None),
    ] {
        let read = element(bytes).map(|(_, contents, _)| contents.len());
        assert_eq!(read, length, "{bytes:x?}");
    }
    let long = tlv(SEQUENCE, &[7; 300]);
    assert_eq!(element(&long).unwrap().1.len(), 300);
    let long = tlv(SEQUENCE, &[7; 128]);
    assert_eq!(element(&long).unwrap().1.len(), 128);
}

#[test]
fn bytes_too_many_are_refused_and_named() {
    let time = tlv(UTC_TIME, b"491231235959Z");
    let mut trailing = certificate(&time, &time);
    assert!(validity(&trailing).is_ok());
    trailing.push(0);
    assert_eq!(validity(&trailing).unwrap_err().to_string(), "not a DER certificate: bytes after the certificate");
    let third = certificate(&time, &[time.clone(), time.clone()].concat());
    assert_eq!(validity(&third), Err(Malformed("bytes after notAfter")));
}

proptest! {
    #[test]
    fn any_second_of_two_digit_years_is_read_back(seconds in -631_152_000_i64..2_524_608_000) {
        let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let text = format!(
            "{:02}{:02}{:02}{:02}{:02}{:02}Z",
            time.year() % 100, u8::from(time.month()), time.day(), time.hour(), time.minute(), time.second()
        );
        prop_assert_eq!(not_after(UTC_TIME, &text), Ok(seconds));
    }

    #[test]
    fn any_second_of_four_digit_years_is_read_back(seconds in -62_167_219_200_i64..253_402_300_800) {
        let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let text = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}Z",
            time.year(), u8::from(time.month()), time.day(), time.hour(), time.minute(), time.second()
        );
        prop_assert_eq!(not_after(GENERALIZED_TIME, &text), Ok(seconds));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = validity(&bytes);
    }

    #[test]
    fn no_bytes_for_times_make_it_panic(first in ".{0,20}", second in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = validity(&certificate(&tlv(UTC_TIME, first.as_bytes()), &second));
    }
}
