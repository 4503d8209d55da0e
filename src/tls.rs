//! Certificate files -> the rustls configuration in use, kept up to date while the program runs.
//!
//! Certificate and key are one unit, the client CAs another: each is re-read by content, checked, and swapped in for new
//! connections, or reported and left. A broken CA file does not hold up a new certificate. Knows nothing of sockets.

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
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use crate::diagnostics::Diagnostics;
use crate::expiry::{self, Validity};
use crate::metrics::Metrics;
use crate::timestamp;
use crate::watched::{Content, Watched};

pub use crate::watched::{Error, Problem};

const CERTIFICATE_FLAG: &str = "--cert-filename";
const KEY_FLAG: &str = "--cert-key-filename";
const CLIENT_CA_FLAG: &str = "--client-ca-filename";

const DAY: i64 = 24 * 60 * 60;
/// Warnings are said this many days before the certificate expires.
const WARNING_DAYS: [i64; 3] = [30, 7, 1];

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
    pub fn load(
        settings: Settings,
        metrics: Arc<Metrics>,
        diagnostics: Arc<Diagnostics>,
    ) -> Result<Self, Error> {
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
        tls.say_certificate("certificate loaded", identity.validity);
        if let Some(path) = &tls.settings.client_ca {
            tls.say_client_ca("client CA loaded", path);
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
            &self.metrics,
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
                &self.metrics,
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
            self.say_certificate("certificate reloaded", identity.validity);
        }
        if let (Some(_), Some(path)) = (verifier, &self.settings.client_ca) {
            self.say_client_ca("client CA reloaded", path);
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

    fn say_certificate(&self, msg: &str, validity: Validity) {
        self.metrics.certificate_expiry.set(validity.not_after);
        let path = self.settings.certificate.to_string_lossy();
        let expires = rfc3339(validity.not_after);
        let fields = [("path", (&*path).into()), ("expires", (&expires).into())];
        self.diagnostics.info(msg, &fields);
    }

    fn say_client_ca(&self, msg: &str, path: &Path) {
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
    WARNING_DAYS
        .iter()
        .filter(|days| left <= *days * DAY && *days * DAY < lifetime)
        .count()
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
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?;
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
    let own = chain
        .first()
        .ok_or_else(|| certificate.unusable("holds no PEM certificate"))?;
    let validity =
        expiry::validity(own).map_err(|error| certificate.unusable(error.to_string()))?;
    let key_der = rustls_pemfile::private_key(&mut key.bytes.as_slice());
    if is_encrypted(&key.bytes) {
        return Err(key.unusable("the private key is encrypted; it is needed without a passphrase"));
    }
    let key_der = key_der
        .map_err(|error| key.unusable(format!("not PEM: {error}")))?
        .ok_or_else(|| key.unusable("holds no PEM private key"))?;
    let signing_key = provider()
        .key_provider
        .load_private_key(key_der)
        .map_err(|_| {
            key.unusable("the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, Ed25519)")
        })?;
    let certified_key = CertifiedKey::new(chain, signing_key);
    match certified_key.keys_match() {
        Ok(()) => Ok(Identity {
            certified_key: Arc::new(certified_key),
            validity,
        }),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(key.unusable(format!(
                "the key does not belong to the certificate in {} (the first one, if it holds several)",
                certificate.path.display()
            )))
        }
        Err(error) => Err(certificate.unusable(error.to_string())),
    }
}

fn check_client_ca(content: &Content) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(content)?) {
        roots.add(certificate).map_err(|error| {
            content.unusable(format!("certificate {number} is no CA's: {error}"))
        })?;
    }
    if roots.is_empty() {
        return Err(content.unusable("holds no PEM certificate"));
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build();
    verifier.map_err(|error| content.unusable(error.to_string()))
}

fn certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, Error> {
    rustls_pemfile::certs(&mut content.bytes.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| content.unusable(format!("not PEM: {error}")))
}

/// PKCS#8 and OpenSSL's older way, both of which rustls-pemfile would call no key or bad base64.
fn is_encrypted(pem: &[u8]) -> bool {
    let markers: [&[u8]; 2] = [
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
        b"Proc-Type: 4,ENCRYPTED",
    ];
    pem.split(|&byte| byte == b'\n')
        .any(|line| markers.contains(&line.trim_ascii()))
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Whole seconds: `2027-01-01T00:00:00Z`.
fn rfc3339(unix_seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0));
    let text = timestamp::rfc3339(SystemTime::UNIX_EPOCH + since);
    let seconds = text.get(..19).unwrap_or_default();
    format!("{}Z", String::from_utf8_lossy(seconds))
}
