//! What the files must hold: a certificate chain with its key, and the CAs that sign client certificates.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};

use super::expiry::{self, Validity};
use crate::files::watched::{Content, Error};

/// All that is said of PEM that cannot be decoded: rustls-pemfile's error shows the line, and where the line ends were
/// lost that is the key.
const DAMAGED_PEM: &str = "its PEM is damaged";

/// The files of `--cert-filename` and `--cert-key-filename`.
#[derive(PartialEq, Eq)]
pub(super) struct IdentityFiles {
    pub(super) certificate: Content,
    pub(super) key: Content,
}

/// A certificate chain with its key, checked.
pub(super) struct Identity {
    certified_key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

/// Verifies client certificates against the CAs of `--client-ca-filename`.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

/// Reads chain and key, and checks that they can be used together. An expired certificate passes.
pub(super) fn check_identity(files: &IdentityFiles) -> Result<Identity, Error> {
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
    let signing_key = provider().key_provider.load_private_key(key_der).map_err(|_| {
        key.unusable(
            "the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, \
             Ed25519)",
        )
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

/// Reads the client CAs.
pub(super) fn check_client_ca(content: &Content) -> Result<Verifier, Error> {
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
    verifier.map(|verifier| verifier as Verifier).map_err(|error| content.unusable(error.to_string()))
}

/// The provider is always passed on, never installed for the process: no global state.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// TLS 1.2 and 1.3 with what the API server speaks, and nothing kept from one connection to the next: it never resumes a
/// session, so tickets and a session cache would be waste. Of the suites the client's first choice is taken: Go offers
/// AES-128-GCM first on hardware with AES and ChaCha20 first on hardware without, which is the cheapest for both.
pub(super) fn server_config(identity: &Identity, verifier: Option<&Verifier>) -> Result<ServerConfig, rustls::Error> {
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
