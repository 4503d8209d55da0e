//! Certificate files -> the rustls configuration in use, kept up to date while the program runs.
//!
//! Certificate and key are one unit, the client CAs another: each is re-read by content, checked, and swapped in for new
//! connections, or reported and left. A broken CA file does not hold up a new certificate. Knows nothing of sockets.

pub mod expiry;
pub mod handshake_failure;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};

use crate::files::watched::{Content, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;
use crate::record::timestamp;
use expiry::Validity;

pub use crate::files::watched::{Error, Problem};

const CERTIFICATE_FLAG: &str = "--cert-filename";
const KEY_FLAG: &str = "--cert-key-filename";
const CLIENT_CA_FLAG: &str = "--client-ca-filename";

const DAY: i64 = 24 * 60 * 60;
/// Warnings are said this many days before the certificate expires.
const WARNING_DAYS: [i64; 3] = [30, 7, 1];

/// All that is said of PEM that cannot be decoded: rustls-pemfile's error shows the line, and where the line ends were
/// lost that is the key.
const DAMAGED_PEM: &str = "its PEM is damaged";

/// Which files to use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// PEM certificates, the server's own first (`--cert-filename`).
    pub certificate: PathBuf,
    /// Its key: PEM, PKCS#8, PKCS#1 or SEC1 (`--cert-key-filename`).
    pub key: PathBuf,
    /// PEM certificates of the CAs that sign client certificates, which are then required (`--client-ca-filename`).
    pub client_ca: Option<PathBuf>,
}

/// The configuration in use.
pub struct Tls {
    settings: Settings,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    config: RwLock<Arc<ServerConfig>>,
    /// `notAfter` of the certificate in use, for [`Tls::expired`].
    not_after: AtomicI64,
    state: Mutex<State>,
}

/// What [`Tls::reload`] compares with and builds from.
struct State {
    identity: Identity,
    identity_files: Watched<IdentityFiles>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    client_ca_file: Option<Watched<Content>>,
    /// Number of expiry warnings said about this certificate.
    warnings_said: usize,
}

/// A certificate chain with its key, checked.
#[derive(Clone)]
struct Identity {
    certified_key: Arc<CertifiedKey>,
    validity: Validity,
}

#[derive(Clone, PartialEq, Eq)]
struct IdentityFiles {
    certificate: Content,
    key: Content,
}

impl Tls {
    /// Reads and checks the files. An expired certificate is used all the same: an operator who restarts the program
    /// should not lose more than was lost already; it is said as an error, and [`Tls::expired`] is true.
    ///
    /// # Errors
    /// [`Error`], which names flag and path, where a file cannot be read or used.
    pub fn load(settings: Settings, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let identity_files = IdentityFiles::read(&settings)?;
        let identity = check_identity(&identity_files)?;
        let client_ca = match &settings.client_ca {
            Some(path) => {
                let content = Content::read(CLIENT_CA_FLAG, path)?;
                let verifier = check_client_ca(&content)?;
                Some((Watched::new("client CA", content), verifier))
            }
            None => None,
        };
        let (client_ca_file, verifier) = client_ca.unzip();
        let config = server_config(&identity, verifier.as_ref())
            .map_err(|error| identity_files.certificate.unusable(error.to_string()))?;
        let tls = Self {
            not_after: AtomicI64::new(identity.validity.not_after),
            config: RwLock::new(Arc::new(config)),
            state: Mutex::new(State {
                identity: identity.clone(),
                identity_files: Watched::new("certificate", identity_files),
                verifier,
                client_ca_file,
                warnings_said: 0,
            }),
            settings,
            metrics,
            diagnostics,
        };
        tls.announce_certificate("certificate loaded", identity.validity);
        if let Some(path) = &tls.settings.client_ca {
            tls.announce_client_ca("client CA loaded", path);
        }
        tls.warn_of_expiry(&mut tls.lock_state(), SystemTime::now());
        Ok(tls)
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; what has changed and is fit for use serves new connections from now on. An expired
    /// certificate is not fit. Says the expiry warnings that have become due. To be called every few seconds.
    pub fn reload(&self) {
        self.reload_at(SystemTime::now());
    }

    fn reload_at(&self, now: SystemTime) {
        let mut state = self.lock_state();
        let identity = state.identity_files.look(
            IdentityFiles::read(&self.settings),
            |files| {
                let identity = check_identity(files)?;
                if unix_seconds(now) > identity.validity.not_after {
                    let why = format!("expired at {}", rfc3339(identity.validity.not_after));
                    return Err(files.certificate.unusable(why));
                }
                Ok(identity)
            },
            &self.metrics.certificate_reloads,
            &self.diagnostics,
        );
        if let Some(identity) = &identity {
            state.identity = identity.clone();
            state.warnings_said = 0;
        }
        let verifier = match (&mut state.client_ca_file, &self.settings.client_ca) {
            (Some(file), Some(path)) => file.look(
                Content::read(CLIENT_CA_FLAG, path),
                check_client_ca,
                &self.metrics.certificate_reloads,
                &self.diagnostics,
            ),
            _ => None,
        };
        if let Some(verifier) = &verifier {
            state.verifier = Some(Arc::clone(verifier));
        }
        if identity.is_some() || verifier.is_some() {
            match server_config(&state.identity, state.verifier.as_ref()) {
                Ok(config) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                }
                // The versions and suites are the same as at the start, when it worked.
                Err(error) => {
                    let error = error.to_string();
                    let fields = [("error", (&error).into())];
                    self.diagnostics.error("TLS configuration refused", &fields);
                    return;
                }
            }
        }
        if let Some(identity) = identity {
            self.not_after.store(identity.validity.not_after, Relaxed);
            self.announce_certificate("certificate reloaded", identity.validity);
        }
        if let (Some(_), Some(path)) = (verifier, &self.settings.client_ca) {
            self.announce_client_ca("client CA reloaded", path);
        }
        self.warn_of_expiry(&mut state, now);
    }

    /// Whether the certificate in use has expired.
    pub fn expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) > self.not_after.load(Relaxed)
    }

    fn lock_state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By message and by metric.
    fn announce_certificate(&self, msg: &str, validity: Validity) {
        self.metrics.certificate_expiry.set(validity.not_after);
        let path = self.settings.certificate.to_string_lossy();
        let expires = rfc3339(validity.not_after);
        let fields = [("path", (&*path).into()), ("expires", (&expires).into())];
        self.diagnostics.info(msg, &fields);
    }

    fn announce_client_ca(&self, msg: &str, path: &Path) {
        let path = path.to_string_lossy();
        self.diagnostics.info(msg, &[("path", (&*path).into())]);
    }

    fn warn_of_expiry(&self, state: &mut State, now: SystemTime) {
        let validity = state.identity.validity;
        let now = unix_seconds(now);
        let due = warnings_due(validity, now);
        if due <= state.warnings_said {
            return;
        }
        state.warnings_said = due;
        let path = self.settings.certificate.to_string_lossy();
        let expires = rfc3339(validity.not_after);
        let fields = [("path", (&*path).into()), ("expires", (&expires).into())];
        if now > validity.not_after {
            self.diagnostics.error("certificate has expired", &fields);
        } else {
            self.diagnostics.warn("certificate expires soon", &fields);
        }
    }
}

/// How many warnings are due: one for each of [`WARNING_DAYS`] that is behind, and one more than all of these once the
/// certificate has expired. A certificate that is made for less than 30 days is not warned about from its first day.
fn warnings_due(validity: Validity, now: i64) -> usize {
    if now > validity.not_after {
        return WARNING_DAYS.len() + 1;
    }
    let left = validity.not_after.saturating_sub(now);
    let lifetime = validity.not_after.saturating_sub(validity.not_before);
    WARNING_DAYS.iter().filter(|days| left <= *days * DAY && *days * DAY < lifetime).count()
}

/// The provider is always passed on, never installed for the process: no global state.
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// TLS 1.2 and 1.3 with what the API server speaks, and nothing kept from one connection to the next: it never resumes a
/// session, so tickets and a session cache would be waste. Of the suites the client's first choice is taken: Go offers
/// AES-128-GCM first on hardware with AES and ChaCha20 first on hardware without, which is the cheapest for both.
fn server_config(
    identity: &Identity,
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let certified_key = Arc::clone(&identity.certified_key);
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified_key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

impl IdentityFiles {
    fn read(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            certificate: Content::read(CERTIFICATE_FLAG, &settings.certificate)?,
            key: Content::read(KEY_FLAG, &settings.key)?,
        })
    }
}

fn check_identity(files: &IdentityFiles) -> Result<Identity, Error> {
    let IdentityFiles { certificate, key } = files;
    let chain = certificates(certificate)?;
    let own = chain.first().ok_or_else(|| certificate.unusable("holds no PEM certificate"))?;
    let validity = expiry::validity(own).map_err(|error| certificate.unusable(error.to_string()))?;
    if is_encrypted(&key.bytes) {
        return Err(key.unusable("the private key is encrypted; it is needed without a passphrase"));
    }
    let key_der = rustls_pemfile::private_key(&mut key.bytes.as_slice())
        .map_err(|_| key.unusable(DAMAGED_PEM))?
        .ok_or_else(|| key.unusable("holds no PEM private key"))?;
    let signing_key = provider()
        .key_provider
        .load_private_key(key_der)
        .map_err(|_| {
            key.unusable("the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, Ed25519)")
        })?;
    let certified_key = CertifiedKey::new(chain, signing_key);
    match certified_key.keys_match() {
        Ok(()) => Ok(Identity { certified_key: Arc::new(certified_key), validity }),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(key.unusable(format!(
            "the key does not belong to the certificate in {} (the first one, if it holds several)",
            certificate.path.display()
        ))),
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(error))) => {
            Err(certificate.unusable(format!("its first certificate cannot be used: {error}")))
        }
        Err(error) => Err(certificate.unusable(error.to_string())),
    }
}

fn check_client_ca(content: &Content) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(content)?) {
        roots
            .add(certificate)
            .map_err(|error| content.unusable(format!("certificate {number} is no CA's: {error}")))?;
    }
    if roots.is_empty() {
        return Err(content.unusable("holds no PEM certificate"));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build();
    verifier.map_err(|error| content.unusable(error.to_string()))
}

fn certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, Error> {
    rustls_pemfile::certs(&mut content.bytes.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|_| content.unusable(DAMAGED_PEM))
}

/// PKCS#8 and OpenSSL's older way, both of which rustls-pemfile would call no key or bad base64.
fn is_encrypted(pem: &[u8]) -> bool {
    let markers: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    pem.split(|&byte| byte == b'\n').any(|line| markers.contains(&line.trim_ascii()))
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Whole seconds: `2027-01-01T00:00:00Z`.
fn rfc3339(unix_seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0));
    let text = timestamp::rfc3339(SystemTime::UNIX_EPOCH + since);
    let seconds = text.get(..19).unwrap_or_default();
    format!("{}Z", String::from_utf8_lossy(seconds))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rustls::client::Resumption;
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
    use rustls::{SupportedProtocolVersion, crypto::ring::cipher_suite};
    use tempfile::TempDir;
    use time::OffsetDateTime;

    use super::*;
    use crate::files::watched::testing::Messages;
    use crate::observe::labels::{HandshakeFault, Reload};
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
    const P521: (&str, &str) = (
        include_str!("../../tests/data/certificates/p521.crt"),
        include_str!("../../tests/data/certificates/p521.key"),
    );
    const V1_CERTIFICATE: &str = include_str!("../../tests/data/certificates/v1.crt");

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

    /// 3000-01-01T00:00:00Z: handshakes go by the real clock, which must not come near it.
    const NEW_YEAR: i64 = 32_503_680_000;
    /// Enough for a certificate that ends then to be valid now.
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

        /// Valid for this many days until then.
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
    fn the_suite_that_the_client_prefers_is_taken() {
        let authority = Authority::new("ca");
        let tls = Files::new(&authority.issue()).load();
        for first in [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256] {
            let mut provider = provider();
            provider.cipher_suites.retain(|suite| *suite != first);
            provider.cipher_suites.insert(0, first);
            let client = client_of(provider, &authority.pem(), &TLS13, None);
            let connection = handshake(&tls, client).unwrap();
            assert_eq!(connection.server.negotiated_cipher_suite(), Some(first));
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
        let unsupported = "--cert-key-filename DIR/tls.key: the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, Ed25519)";
        let mismatch = "--cert-key-filename DIR/tls.key: the key does not belong to the certificate in DIR/tls.crt (the first one, if it holds several)";
        let encrypted =
            "--cert-key-filename DIR/tls.key: the private key is encrypted; it is needed without a passphrase";
        let ca_first = format!("{}{}", authority.pem(), good.certificate);
        for (certificate, key, expected) in [
            ("", &*good.key, "--cert-filename DIR/tls.crt: holds no PEM certificate"),
            (&*good.key, &*good.key, "--cert-filename DIR/tls.crt: holds no PEM certificate"),
            (&*cut, &*good.key, "--cert-filename DIR/tls.crt: its PEM is damaged"),
            (&*no_base64, &*good.key, "--cert-filename DIR/tls.crt: its PEM is damaged"),
            (no_certificate, &*good.key, "--cert-filename DIR/tls.crt: not a DER certificate: Certificate"),
            (
                V1_CERTIFICATE,
                EC_KEY,
                "--cert-filename DIR/tls.crt: its first certificate cannot be used: UnsupportedCertVersion",
            ),
            (&*good.certificate, "", "--cert-key-filename DIR/tls.key: holds no PEM private key"),
            (&*good.certificate, &*good.certificate, "--cert-key-filename DIR/tls.key: holds no PEM private key"),
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
            ("", "--client-ca-filename DIR/ca.crt: holds no PEM certificate"),
            ("-----BEGIN CERTIFICATE-----\n", "--client-ca-filename DIR/ca.crt: its PEM is damaged"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "--client-ca-filename DIR/ca.crt: certificate 1 is no CA's: invalid peer certificate: BadEncoding",
            ),
        ] {
            let files = Files::new(&pair).with_client_ca(pem);
            assert_eq!(files.load_error(), expected);
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
        let failed =
            |why: &str| vec![format!("error certificate: reload failed, the old one stays in use error={why}")];
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
                "error client CA: reload failed, the old one stays in use error=--client-ca-filename DIR/ca.crt: holds no PEM certificate",
                "info certificate reloaded expires=4096-01-01T00:00:00Z path=DIR/tls.crt"
            ]
        );
        assert_eq!(files.reloads(), [3, 1]);
        let connection = handshake(&tls, client(&server_ca.pem(), &TLS13, Some(&new_client)));
        assert_eq!(connection.unwrap().certificate(), der(&renewed.certificate));
    }
}
