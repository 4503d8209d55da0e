//! What the tests of this room share: authorities, files, and handshakes in memory.

mod files;
mod handshakes;
mod reloads;

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
use crate::files::watched::testing::Messages;
use crate::files::watched::{Content, Error};
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
