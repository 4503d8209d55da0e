//! What is agreed on in a handshake, and what is said when it fails.

use super::*;

#[test]
fn tls_1_2_and_1_3_are_spoken_with_every_kind_of_key_that_the_usage_names() {
    let authority = Authority::new("ca");
    let mut pairs = vec![];
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        pairs.push((authority.issue_with(&key, |_| ()), authority.pem()));
    }
    for key in RSA.1 {
        let pair = Pair { certificate: RSA.0.to_owned(), key: key.to_owned() };
        pairs.push((pair, RSA.0.to_owned()));
    }
    let pair = Pair { certificate: EC_CERTIFICATE.to_owned(), key: EC_KEY.to_owned() };
    pairs.push((pair, EC_CERTIFICATE.to_owned()));
    for (pair, roots) in pairs {
        let tls = Files::new(&pair).load();
        for version in VERSIONS {
            let connection = handshake(&tls, client(&roots, version, None)).unwrap();
            let spoken = connection.server.protocol_version();
            assert_eq!(spoken, Some(version.version));
        }
    }
}

#[test]
fn http_1_1_is_the_only_protocol_agreed_on() {
    let authority = Authority::new("ca");
    let tls = Files::new(&authority.issue()).load();
    for version in VERSIONS {
        let offer = |protocols: &[&str]| {
            let mut client = client(&authority.pem(), version, None);
            client.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
            client
        };
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"]] {
            let connection = handshake(&tls, offer(protocols)).unwrap();
            let agreed = connection.server.alpn_protocol();
            assert_eq!(agreed, Some(&b"http/1.1"[..]));
        }
        let connection = handshake(&tls, offer(&[])).unwrap();
        assert_eq!(connection.server.alpn_protocol(), None);
        for protocols in [&["h2"][..], &["http/1.0"]] {
            let words = "tls: client requested unsupported application protocols".to_owned();
            assert_eq!(failure(&tls, offer(protocols)), (HandshakeFault::NoApplicationProtocol, words));
        }
    }
}

#[test]
fn no_session_is_ever_resumed_and_no_ticket_sent() {
    let authority = Authority::new("ca");
    let tls = Files::new(&authority.issue()).load();
    for version in VERSIONS {
        let mut client = client(&authority.pem(), version, None);
        client.resumption = Resumption::in_memory_sessions(8);
        client.enable_early_data = true;
        for _ in 0..2 {
            let connection = handshake(&tls, client.clone()).unwrap();
            assert_eq!(connection.client.tls13_tickets_received(), 0);
            let kind = connection.server.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn our_first_suite_is_taken_whatever_the_client_prefers() {
    let authority = Authority::new("ca");
    let tls = Files::new(&authority.issue()).load();
    for first in [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256] {
        let mut provider = provider();
        provider.cipher_suites.retain(|suite| *suite != first);
        provider.cipher_suites.insert(0, first);
        let client = client_of(provider, &authority.pem(), &TLS13, None);
        let connection = handshake(&tls, client).unwrap();
        let taken = connection.server.negotiated_cipher_suite();
        assert_eq!(taken, Some(cipher_suite::TLS13_AES_128_GCM_SHA256));
    }
}

#[test]
fn a_client_certificate_is_required_once_a_client_ca_is_given() {
    let (server_ca, client_ca) = (Authority::new("server ca"), Authority::new("client ca"));
    let files = Files::new(&server_ca.issue()).with_client_ca(&client_ca.pem());
    let tls = files.load();
    let issue = |change: fn(&mut CertificateParams)| client_ca.issue_with(&KeyPair::generate().unwrap(), change);
    let good = issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let expired = issue(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let future = issue(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let for_servers = issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let stranger = Authority::new("stranger").issue();
    let ca_made_anew = Authority::new("client ca").issue();
    for version in VERSIONS {
        let client = |own| client(&server_ca.pem(), version, own);
        let connection = handshake(&tls, client(Some(&good))).unwrap();
        assert_eq!(connection.server.peer_certificates().unwrap().len(), 1);
        for (own, reason, words) in [
            (Some(&stranger), HandshakeFault::UnknownCa, "certificate signed by unknown authority"),
            (
                Some(&ca_made_anew),
                HandshakeFault::UnknownCa,
                "certificate signed by unknown authority (possibly because of a bad signature)",
            ),
            (Some(&expired), HandshakeFault::CertificateExpired, "certificate has expired or is not yet valid"),
            (Some(&future), HandshakeFault::CertificateExpired, "certificate has expired or is not yet valid"),
            (
                Some(&for_servers),
                HandshakeFault::UnsupportedCertificate,
                "certificate specifies an incompatible key usage",
            ),
        ] {
            let words = format!("tls: failed to verify certificate: x509: {words}");
            assert_eq!(failure(&tls, client(own)), (reason, words));
        }
        let words = "tls: client didn't provide a certificate".to_owned();
        assert_eq!(failure(&tls, client(None)), (HandshakeFault::CertificateRequired, words));
    }
}

#[test]
fn what_a_client_dislikes_is_told_in_the_words_of_its_alert() {
    let authority = Authority::new("ca");
    let good = Files::new(&authority.issue()).load();
    let expired = Files::new(&authority.issue_until(1_500_000_000, 90)).load();
    let stranger = Authority::new("stranger");
    for version in VERSIONS {
        let unknown = client(&stranger.pem(), version, None);
        let words = "remote error: tls: unknown certificate authority".to_owned();
        assert_eq!(failure(&good, unknown), (HandshakeFault::UnknownCa, words));
        let trusting = client(&authority.pem(), version, None);
        let words = "remote error: tls: expired certificate".to_owned();
        assert_eq!(failure(&expired, trusting), (HandshakeFault::CertificateExpired, words));
    }
}

#[test]
fn what_does_not_speak_our_tls_is_told_apart() {
    let authority = Authority::new("ca");
    let tls = Files::new(&authority.issue()).load();
    let not_tls = (HandshakeFault::NotTls, "tls: first record does not look like a TLS handshake".to_owned());
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", b"\x16\x20\x00\x00\x01\x01"] {
        assert_eq!(failure_at_bytes(&tls, bytes), not_tls, "{bytes:?}");
    }
    let (reason, _) = failure_at_bytes(&tls, b"\x16\x03\x01\xff\xff\x01");
    assert_eq!(reason, HandshakeFault::DecodeError);
    let (reason, _) = failure_at_bytes(&tls, b"\x17\x03\x03\x00\x01\x00");
    assert_eq!(reason, HandshakeFault::UnexpectedMessage);

    // A ClientHello of TLS 1.1: version, random, no session, one suite, no compression, supported groups and
    // signature algorithms.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    hello.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let words = "tls: client offered only unsupported versions".to_owned();
    assert_eq!(failure_at_bytes(&tls, &record), (HandshakeFault::ProtocolVersion, words));
}
