use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring::cipher_suite};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, SupportedProtocolVersion,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::certificate::Validity;
use super::identity::{check_client_ca, provider};
use super::reload::warnings_due;
use super::*;
use crate::files::watched::Content;
use crate::files::watched::testing::Messages;
use crate::observe::labels::{HandshakeFault, Reload};
use crate::observe::metrics::Metrics;
use crate::tls::handshake_failure::HandshakeFailure;

const RSA: (&str, [&str; 2]) = (
    include_str!("../../tests/data/certificates/rsa.crt"),
    [
        include_str!("../../tests/data/certificates/rsa.pkcs1.key"),
        include_str!("../../tests/data/certificates/rsa.pkcs8.key"),
    ],
);
const EC_CERTIFICATE: &str = include_str!("../../tests/data/certificates/ec.crt");
const EC_KEY: &str = include_str!("../../tests/data/certificates/ec.sec1.key");
const ENCRYPTED_KEYS: [&str; 2] = [
    include_str!("../../tests/data/certificates/ec.encrypted-pkcs8.key"),
    include_str!("../../tests/data/certificates/ec.encrypted-sec1.key"),
];
const P521: (&str, &str) =
    (include_str!("../../tests/data/certificates/p521.crt"), include_str!("../../tests/data/certificates/p521.key"));
const REFUSED_CERTIFICATE: &str = include_str!("../../tests/data/certificates/refused.crt");
const V1_CERTIFICATE: &str = include_str!("../../tests/data/certificates/v1.crt");

const DAY: i64 = 24 * 60 * 60;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// 3000-01-01T00:00:00Z: handshakes go by the real clock, which must not come near it.
const NEW_YEAR: i64 = 32_503_680_000;
/// In days. A certificate that ends at [`NEW_YEAR`] and is valid for so long is valid now.
const MILLENNIUM: i64 = 365_000;

fn at(unix_seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds.try_into().unwrap())
}

/// A certificate and its key, PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self) -> Pair {
        self.issue_with(&KeyPair::generate().unwrap(), |_| ())
    }

    /// A certificate that is valid for so many days, until `not_after`.
    fn issue_until(&self, not_after: i64, days: i64) -> Pair {
        self.issue_with(&KeyPair::generate().unwrap(), |params| {
            let end = OffsetDateTime::from_unix_timestamp(not_after).unwrap();
            params.not_before = end - time::Duration::days(days);
            params.not_after = end;
        })
    }

    fn issue_with(&self, key: &KeyPair, change: impl Fn(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["server.test".to_owned()]).unwrap();
        change(&mut params);
        Pair { certificate: params.signed_by(key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// A directory with the files, and a [`Tls`] of them once loaded.
struct Files {
    directory: TempDir,
    settings: Settings,
    metrics: Arc<Metrics>,
    messages: Messages,
}

impl Files {
    fn new(pair: &Pair) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
            client_ca: None,
        };
        let files = Self { directory, settings, metrics: Arc::new(Metrics::new()), messages: Messages::default() };
        files.write(pair);
        files
    }

    fn with_client_ca(mut self, pem: &str) -> Self {
        let path = self.directory.path().join("ca.crt");
        fs::write(&path, pem).unwrap();
        self.settings.client_ca = Some(path);
        self
    }

    fn write(&self, pair: &Pair) {
        fs::write(&self.settings.certificate, &pair.certificate).unwrap();
        fs::write(&self.settings.key, &pair.key).unwrap();
    }

    fn write_client_ca(&self, pem: &str) {
        fs::write(self.settings.client_ca.as_ref().unwrap(), pem).unwrap();
    }

    fn try_load(&self) -> Result<Tls, Error> {
        let diagnostics = self.messages.diagnostics();
        Tls::load(self.settings.clone(), self.metrics.clone(), diagnostics)
    }

    fn load(&self) -> Tls {
        let tls = self.try_load().unwrap();
        self.messages.take();
        tls
    }

    /// The directory's path is cut out.
    fn load_error(&self) -> String {
        self.plain(&self.try_load().err().unwrap().to_string())
    }

    fn said(&self) -> Vec<String> {
        let messages = self.messages.take();
        messages.iter().map(|said| self.plain(said)).collect()
    }

    fn plain(&self, text: &str) -> String {
        text.replace(self.directory.path().to_str().unwrap(), "DIR")
    }

    /// Successes and failures.
    fn reloads(&self) -> Vec<u64> {
        let reloads = &self.metrics.certificate_reloads;
        vec![reloads.value(Reload::Success), reloads.value(Reload::Failure)]
    }
}

fn client(roots: &str, version: &'static SupportedProtocolVersion, own: Option<&Pair>) -> ClientConfig {
    client_of(provider(), roots, version, own)
}

fn client_of(
    provider: CryptoProvider,
    roots: &str,
    version: &'static SupportedProtocolVersion,
    own: Option<&Pair>,
) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add(der(roots).into()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(store);
    match own {
        Some(Pair { certificate, key }) => {
            let chain = vec![der(certificate).into()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

struct Connection {
    client: ClientConnection,
    server: ServerConnection,
}

/// What the server makes of a handshake in memory. What the client makes of it does not matter: it tells the server
/// by an alert.
fn handshake(tls: &Tls, client: ClientConfig) -> Result<Connection, rustls::Error> {
    let name = "server.test".try_into().unwrap();
    let mut connection = Connection {
        client: ClientConnection::new(Arc::new(client), name).unwrap(),
        server: ServerConnection::new(tls.config()).unwrap(),
    };
    while connection.client.wants_write() || connection.server.wants_write() {
        connection.exchange()?;
    }
    assert!(!connection.server.is_handshaking());
    Ok(connection)
}

impl Connection {
    fn exchange(&mut self) -> Result<(), rustls::Error> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.server.read_tls(&mut rest).unwrap();
            self.server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            let _ = self.client.process_new_packets();
        }
        Ok(())
    }

    fn certificate(&self) -> Vec<u8> {
        self.client.peer_certificates().unwrap()[0].to_vec()
    }

    fn carries_data(&mut self) -> bool {
        self.client.writer().write_all(b"ping").unwrap();
        self.exchange().unwrap();
        let mut read = [0; 4];
        self.server.reader().read_exact(&mut read).unwrap();
        &read == b"ping"
    }
}

fn served(tls: &Tls, roots: &str) -> Vec<u8> {
    handshake(tls, client(roots, &TLS13, None)).unwrap().certificate()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn failure(tls: &Tls, client: ClientConfig) -> (HandshakeFault, String) {
    let error = handshake(tls, client).err().unwrap();
    let HandshakeFailure { reason, words } = HandshakeFailure::from_tls(&error);
    (reason, words.into_owned())
}

fn failure_at_bytes(tls: &Tls, mut bytes: &[u8]) -> (HandshakeFault, String) {
    let mut server = ServerConnection::new(tls.config()).unwrap();
    server.read_tls(&mut bytes).unwrap();
    let error = server.process_new_packets().unwrap_err();
    let HandshakeFailure { reason, words } = HandshakeFailure::from_tls(&error);
    (reason, words.into_owned())
}

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
