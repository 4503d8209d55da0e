//! What the files must hold: a certificate chain with its key, and the CAs that sign client certificates.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};

use super::certificate::{self, Validity};
use super::pem::{self, Block};
use crate::files::watched::{Content, Error};

/// The labels of private keys: PKCS#8, PKCS#1, SEC1, and PKCS#8 with a passphrase.
const KEYS: [&str; 4] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];

/// A certificate chain with its key, checked.
pub(super) struct Identity {
    certified_key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
    /// Why an API server will refuse the chain, in the API server's words.
    pub(super) refusals: Vec<String>,
}

/// Verifies client certificates against the CAs of `--client-ca-filename`.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

/// Reads chain and key, and checks that they can be used together. An expired certificate passes.
pub(super) fn check_identity([certificate, key]: &[Content; 2]) -> Result<Identity, Error> {
    let chain = certificates(certificate)?;
    let own = chain.first().ok_or_else(|| certificate.unusable("holds no certificate"))?;
    let read = certificate::read(&own.der).map_err(|error| certificate.unusable(error.to_string()))?;
    let mut refusals: Vec<String> = read.refusals.iter().map(|refusal| (*refusal).to_owned()).collect();
    refusals.extend(chain.iter().filter_map(|certificate| certificate::read(&certificate.der).ok()?.weak_signature));
    let key_der = private_key(key)?;
    let signing_key = provider().key_provider.load_private_key(key_der).map_err(|_| {
        key.unusable(
            "the private key is damaged or not of a supported kind (RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, \
             Ed25519)",
        )
    })?;
    let chain = chain.into_iter().map(|certificate| certificate.der).collect();
    let certified_key = CertifiedKey::new(chain, signing_key);
    match certified_key.keys_match() {
        Ok(()) => Ok(Identity { certified_key: Arc::new(certified_key), validity: read.validity, refusals }),
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
    for (number, Located { line, der }) in (1..).zip(certificates(content)?) {
        let no_ca = |why: &str| content.unusable(format!("certificate {number} (line {line}) is no CA's: {why}"));
        // Otherwise whoever has that certificate's key could sign client certificates.
        if certificate::read(&der).is_ok_and(|certificate| certificate.is_leaf) {
            return Err(no_ca("its basicConstraints do not let it sign others"));
        }
        roots.add(der).map_err(|error| no_ca(&error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build();
    verifier.map(|verifier| verifier as Verifier).map_err(|error| content.unusable(error.to_string()))
}

/// The provider is always passed on, never installed for the process: no global state.
///
/// The suites stand in our order of preference: AES-128-GCM is the one that RFC 8446 demands, what the API server asks
/// for itself, and the cheapest on processors with instructions for AES.
pub(super) fn provider() -> CryptoProvider {
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider { cipher_suites, ..rustls::crypto::ring::default_provider() }
}

/// TLS 1.2 and 1.3, with ALPN `http/1.1`. Nothing is kept from one connection to the next: the API server never resumes
/// a session, so tickets and a session cache would be waste. Of the suites that the client offers, the first in our
/// order is taken.
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
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A certificate and the line of the file at which it begins.
struct Located {
    line: usize,
    der: CertificateDer<'static>,
}

/// The certificates of a file, at least one.
fn certificates(content: &Content) -> Result<Vec<Located>, Error> {
    let blocks = pem::blocks(content)?;
    if let Some(why) = blocks.iter().find_map(Block::mislabelled_certificate) {
        return Err(content.unusable(why));
    }
    let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
    let certificates: Vec<Located> = certificates
        .map(|block| Ok(Located { line: block.line, der: der(content, block)?.into() }))
        .collect::<Result<_, Error>>()?;
    if certificates.is_empty() {
        let swapped = blocks.iter().any(|block| KEYS.contains(&block.label));
        let advice = if swapped { "; is it the file of --cert-key-filename?" } else { "" };
        return Err(content.unusable(format!("holds no CERTIFICATE, but {}{advice}", labels(&blocks))));
    }
    Ok(certificates)
}

/// The file's first private key.
fn private_key(content: &Content) -> Result<PrivateKeyDer<'static>, Error> {
    let blocks = pem::blocks(content)?;
    let Some(block) = blocks.iter().find(|block| KEYS.contains(&block.label)) else {
        let swapped = blocks.iter().any(|block| block.label == "CERTIFICATE");
        let advice = if swapped { "; is it the file of --cert-filename?" } else { "" };
        return Err(content.unusable(format!("holds no PRIVATE KEY, but {}{advice}", labels(&blocks))));
    };
    if block.is_encrypted() {
        return Err(content.unusable("the private key is encrypted; it is needed without a passphrase"));
    }
    let der = der(content, block)?;
    Ok(match block.label {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    })
}

fn der(content: &Content, block: &Block<'_>) -> Result<Vec<u8>, Error> {
    let damaged = || content.unusable(format!("line {}: the {} is not base64", block.line, block.label));
    block.der().ok_or_else(damaged)
}

fn labels(blocks: &[Block<'_>]) -> String {
    let labels: Vec<&str> = blocks.iter().map(|block| block.label).collect();
    labels.join(", ")
}
