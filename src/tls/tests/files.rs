//! What the files may hold, and how what they must not hold is named.

use super::*;

#[test]
fn pem_with_text_before_crlf_and_other_sections_is_read() {
    let authority = Authority::new("ca");
    let pair = authority.issue();
    let both = format!("Certificate:\r\n    Data:\n{}{}{}", pair.key, pair.certificate, authority.pem());
    let both = both.replace('\n', "\r\n");
    let tls = Files::new(&Pair { certificate: both.clone(), key: both }).load();
    let connection = handshake(&tls, client(&authority.pem(), &TLS13, None)).unwrap();
    assert_eq!(connection.client.peer_certificates().unwrap().len(), 2);
}

#[test]
fn every_file_that_cannot_be_used_is_named_with_its_flag_and_what_is_wrong() {
    let authority = Authority::new("ca");
    let good = authority.issue();
    let other = authority.issue();
    let cut = good.certificate.replace("-----END CERTIFICATE-----", "");
    let no_base64 = good.certificate.replacen("MII", "M!I", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let unsupported = "--cert-key-filename DIR/tls.key: the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, Ed25519)";
    let mismatch = "--cert-key-filename DIR/tls.key: the key does not belong to the certificate in DIR/tls.crt (the first one, if it holds several)";
    let encrypted = "--cert-key-filename DIR/tls.key: the private key is encrypted; it is needed without a passphrase";
    let ca_first = format!("{}{}", authority.pem(), good.certificate);
    for (certificate, key, expected) in [
        ("", &*good.key, "--cert-filename DIR/tls.crt: the file is empty"),
        ("hello\n", &*good.key, "--cert-filename DIR/tls.crt: holds no PEM block"),
        (
            &*good.key,
            &*good.certificate,
            "--cert-filename DIR/tls.crt: holds no CERTIFICATE, but PRIVATE KEY; is it the file of --cert-key-filename?",
        ),
        (request, &*good.key, "--cert-filename DIR/tls.crt: holds no CERTIFICATE, but CERTIFICATE REQUEST"),
        (&*cut, &*good.key, "--cert-filename DIR/tls.crt: line 1: BEGIN CERTIFICATE without its END"),
        (&*no_base64, &*good.key, "--cert-filename DIR/tls.crt: line 1: the CERTIFICATE is not base64"),
        (no_certificate, &*good.key, "--cert-filename DIR/tls.crt: not a DER certificate: Certificate"),
        (
            V1_CERTIFICATE,
            EC_KEY,
            "--cert-filename DIR/tls.crt: its first certificate cannot be used: UnsupportedCertVersion",
        ),
        (&*good.certificate, " \n", "--cert-key-filename DIR/tls.key: the file is empty"),
        (
            &*good.certificate,
            &*good.certificate,
            "--cert-key-filename DIR/tls.key: holds no PRIVATE KEY, but CERTIFICATE; is it the file of --cert-filename?",
        ),
        (&*good.certificate, request, "--cert-key-filename DIR/tls.key: holds no PRIVATE KEY, but CERTIFICATE REQUEST"),
        (&*good.certificate, no_key, unsupported),
        (P521.0, P521.1, unsupported),
        (EC_CERTIFICATE, ENCRYPTED_KEYS[0], encrypted),
        (EC_CERTIFICATE, ENCRYPTED_KEYS[1], encrypted),
        (&*good.certificate, &*other.key, mismatch),
        (&*good.certificate, RSA.1[0], mismatch),
        (&*ca_first, &*good.key, mismatch),
    ] {
        let pair = Pair { certificate: certificate.to_owned(), key: key.to_owned() };
        assert_eq!(Files::new(&pair).load_error(), expected);
    }
}

/// A decoder skips what it does not know, so each of these would silently load one certificate of two.
#[test]
fn a_file_with_one_damaged_block_of_two_is_refused_by_the_line() {
    let authority = Authority::new("ca");
    let pair = authority.issue();
    let first = authority.pem();
    let second = Authority::new("other").pem();
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let last = first.lines().count();
    let not_quite = |line: usize| {
        format!(
            "line {line} is not quite a PEM marker (-----BEGIN or -----END, a label, five dashes, from the line's \
             beginning to its end)"
        )
    };
    let relabelled = |label: &str| first.replace("CERTIFICATE", label);
    for (name, damaged, expected) in [
        (
            "a byte order mark",
            format!("\u{feff}{first}"),
            "begins with a byte order mark (BOM), which is no part of PEM: save it without".to_owned(),
        ),
        ("an indented marker", format!("  {first}"), not_quite(1)),
        ("four dashes", first.replacen('-', "", 1), not_quite(1)),
        ("a mistyped BEGIN", first.replace("BEGIN", "BEGN"), not_quite(1)),
        ("a small begin", first.replace("BEGIN", "begin"), not_quite(1)),
        ("no dashes", first.replace(begin, "BEGIN CERTIFICATE"), not_quite(1)),
        ("a dash of a word processor", first.replacen("-----", "\u{2014}-", 1), not_quite(1)),
        ("a quoted marker", first.replace(begin, &format!("> {begin}")), not_quite(1)),
        ("text behind the marker", first.replace(begin, &format!("{begin} # mine")), not_quite(1)),
        ("no line end", first.replace(&format!("{begin}\n"), begin), not_quite(1)),
        ("a mistyped END", first.replace("END ", "EDN "), not_quite(last)),
        ("no END", first.replace(&format!("{end}\n"), ""), "line 1: BEGIN CERTIFICATE without its END".to_owned()),
        (
            "no BEGIN",
            first.replace(&format!("{begin}\n"), "a CA\n"),
            "line 2: base64 outside of a PEM block".to_owned(),
        ),
        ("END only", format!("a CA\n{end}\n"), "line 2: END CERTIFICATE without its BEGIN".to_owned()),
        (
            "another END",
            first.replace("END CERTIFICATE", "END X509 CRL"),
            format!("line {last}: END X509 CRL after BEGIN CERTIFICATE of line 1"),
        ),
        (
            "OpenSSL's own format",
            relabelled("TRUSTED CERTIFICATE"),
            "line 1: a certificate under the label TRUSTED CERTIFICATE, OpenSSL's own; openssl x509 -in FILE writes a \
             CERTIFICATE"
                .to_owned(),
        ),
        (
            "a mistyped label",
            relabelled("CERTIFCATE"),
            "line 1: a certificate under the label CERTIFCATE instead of CERTIFICATE".to_owned(),
        ),
        ("not base64", first.replacen("MII", "M!I", 1), "line 1: the CERTIFICATE is not base64".to_owned()),
    ] {
        let both = format!("{damaged}{second}");
        let files = Files::new(&pair).with_client_ca(&both);
        assert_eq!(files.load_error(), format!("--client-ca-filename DIR/ca.crt: {expected}"), "{name}");
        let chain = Pair { certificate: both, key: pair.key.clone() };
        assert_eq!(Files::new(&chain).load_error(), format!("--cert-filename DIR/tls.crt: {expected}"), "{name}");
    }
}

#[test]
fn no_single_wrong_byte_in_a_marker_line_loses_a_certificate_in_silence() {
    let first = Authority::new("ca").pem();
    let second = Authority::new("other").pem();
    let (begin, rest) = first.split_once('\n').unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.crt");
    let loaded = |pem: &[u8]| {
        fs::write(&path, pem).unwrap();
        let content = Content::read("--client-ca-filename", &path).ok().unwrap();
        check_client_ca(&content).map(|verifier| verifier.root_hint_subjects().len())
    };
    let both = format!("{first}{second}");
    assert_eq!(loaded(both.as_bytes()).unwrap(), 2);
    let end = begin.len() + rest.trim_end().rfind('\n').unwrap() + 2;
    for position in (0..=begin.len()).chain(end..first.len()) {
        for byte in [b' ', b'-', b'X', b'x', b'\n', b'\r', 0, 0xff] {
            let mut changed = both.clone().into_bytes();
            changed[position] = byte;
            let mut longer = both.clone().into_bytes();
            longer.insert(position, byte);
            let mut shorter = both.clone().into_bytes();
            shorter.remove(position);
            for pem in [changed, longer, shorter] {
                let result = loaded(&pem);
                let text = String::from_utf8_lossy(&pem);
                assert!(result.is_err() || result.is_ok_and(|number| number == 2), "{position} {byte}: {text}");
            }
        }
    }
}

#[test]
fn what_is_no_pem_at_all_is_named_as_what_it_is() {
    let pair = Authority::new("ca").issue();
    let certificate = der(&pair.certificate);
    let utf_16 = |order: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
        format!("{mark}{}", pair.certificate).encode_utf16().flat_map(order).collect()
    };
    let utf_16_words = "is UTF-16 text, not PEM: save it as ASCII or UTF-8";
    // What base64 -d reads is what stands in a Secret's data.
    let base64 = b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJl".to_vec();
    for (bytes, expected) in [
        (certificate, "is DER, not PEM: openssl x509 or openssl pkey with -inform DER converts it"),
        (
            b"\x30\x2e\x02\x01\x00".to_vec(),
            "is DER, not PEM: openssl x509 or openssl pkey with -inform DER converts it",
        ),
        (
            b"\x30\x82\x03\xa5\x02\x01\x03\x30\x82".to_vec(),
            "is PKCS#12 (.p12, .pfx), not PEM: openssl pkcs12 -in FILE -nodes converts it",
        ),
        (utf_16(u16::to_le_bytes, "\u{feff}"), utf_16_words),
        (utf_16(u16::to_be_bytes, "\u{feff}"), utf_16_words),
        (utf_16(u16::to_le_bytes, ""), utf_16_words),
        (utf_16(u16::to_be_bytes, ""), utf_16_words),
        (base64, "is base64 of PEM, as in a Secret's data, not PEM: decode it once more"),
    ] {
        let files = Files::new(&pair);
        fs::write(&files.settings.certificate, &bytes).unwrap();
        assert_eq!(files.load_error(), format!("--cert-filename DIR/tls.crt: {expected}"));
        files.write(&pair);
        fs::write(&files.settings.key, &bytes).unwrap();
        assert_eq!(files.load_error(), format!("--cert-key-filename DIR/tls.key: {expected}"));
    }
}

#[test]
fn text_and_blocks_of_other_kinds_around_the_certificates_are_no_fault() {
    let authority = Authority::new("ca");
    let pair = authority.issue();
    let others = "# \u{fc}ber CAs: openssl x509 --text -in begin.pem\n-- certificate of the CA\n==================\n---\nCertificate chain\n\
        \x20   localKeyID: 54 69 6D 65\n-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n\
        -----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let certificate = format!("{others}{}{others}{}{others}", pair.certificate, authority.pem());
    let key = format!("{others}{}{others}", pair.key);
    let files = Files::new(&Pair { certificate, key }).with_client_ca(&format!("{others}{}{others}", authority.pem()));
    let connection = handshake(&files.load(), client(&authority.pem(), &TLS13, Some(&pair))).unwrap();
    assert_eq!(connection.client.peer_certificates().unwrap().len(), 2);
}

#[test]
fn what_the_api_server_will_refuse_is_said_in_its_words() {
    let authority = Authority::new("ca");
    let key = || KeyPair::generate().unwrap();
    let warned = |error: &str| {
        vec![format!("warn the API server will refuse this certificate error=x509: {error} path=DIR/tls.crt")]
    };
    let said = |pair: &Pair| {
        let files = Files::new(pair);
        files.try_load().unwrap();
        files.said()[1..].to_vec()
    };
    let common_name = "certificate relies on legacy Common Name field, use SANs instead";
    assert_eq!(said(&authority.issue()), [""; 0]);
    assert_eq!(said(&authority.issue_with(&key(), |params| params.subject_alt_names.clear())), warned(common_name));
    let nameless = authority.issue_with(&key(), |params| {
        params.subject_alt_names.clear();
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    assert_eq!(said(&nameless), warned("certificate is not valid for any names"));
    let for_clients =
        authority.issue_with(&key(), |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(said(&for_clients), warned("certificate specifies an incompatible key usage"));
    let for_both = authority.issue_with(&key(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(said(&for_both), [""; 0]);
    let for_any =
        authority.issue_with(&key(), |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert_eq!(said(&for_any), [""; 0]);

    let good = authority.issue();
    let weak_above = Pair { certificate: format!("{}{REFUSED_CERTIFICATE}", good.certificate), key: good.key.clone() };
    assert_eq!(said(&weak_above), warned("cannot verify signature: insecure algorithm ECDSA-SHA1"));

    // At a reload too.
    let files = Files::new(&authority.issue());
    let tls = files.load();
    files.write(&for_clients);
    tls.reload();
    assert_eq!(files.said()[1..], warned("certificate specifies an incompatible key usage"));
}

#[test]
fn a_key_whose_line_ends_were_lost_is_not_shown() {
    let pair = Authority::new("ca").issue();
    let secret = pair.key.lines().nth(1).unwrap();
    for end in ["", " ", "\\n"] {
        let files = Files::new(&Pair { certificate: pair.certificate.clone(), key: pair.key.replace('\n', end) });
        let error = files.load_error();
        assert!(error.starts_with("--cert-key-filename DIR/tls.key: "));
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_is_named_with_its_flag() {
    let authority = Authority::new("ca");
    let pair = authority.issue();
    let missing = "No such file or directory (os error 2)";
    let files = Files::new(&pair).with_client_ca(&authority.pem());
    fs::remove_file(files.settings.client_ca.as_ref().unwrap()).unwrap();
    let expected = format!("--client-ca-filename DIR/ca.crt: {missing}");
    assert_eq!(files.load_error(), expected);
    fs::remove_file(&files.settings.key).unwrap();
    let expected = format!("--cert-key-filename DIR/tls.key: {missing}");
    assert_eq!(files.load_error(), expected);
    fs::remove_file(&files.settings.certificate).unwrap();
    let expected = format!("--cert-filename DIR/tls.crt: {missing}");
    assert_eq!(files.load_error(), expected);
}

#[test]
fn a_client_ca_file_without_a_ca_is_refused() {
    let authority = Authority::new("ca");
    let pair = authority.issue();
    for (pem, expected) in [
        ("", "the file is empty"),
        ("-----BEGIN CERTIFICATE-----\n", "line 1: BEGIN CERTIFICATE without its END"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 (line 1) is no CA's: invalid peer certificate: BadEncoding",
        ),
        (
            &format!("a CA\n{}and a leaf\n{}", authority.pem(), pair.certificate),
            &format!(
                "certificate 2 (line {}) is no CA's: its basicConstraints do not let it sign others",
                authority.pem().lines().count() + 3
            ),
        ),
    ] {
        let files = Files::new(&pair).with_client_ca(pem);
        assert_eq!(files.load_error(), format!("--client-ca-filename DIR/ca.crt: {expected}"));
    }
    // Of version 1, which has no extensions to say it in.
    assert!(Files::new(&pair).with_client_ca(V1_CERTIFICATE).try_load().is_ok());
}
