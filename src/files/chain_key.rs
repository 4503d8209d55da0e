//! The key that signs the chain: the file of `--chain-key-filename`, an Ed25519 key.
//!
//! What is signed, and when, is not known here.

use std::path::PathBuf;
use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::files::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

/// The flag that names the file.
const FLAG: &str = "--chain-key-filename";

/// An Ed25519 key (RFC 8032).
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        // An Ed25519 signature has 64 bytes.
        self.0.sign(message).as_ref().try_into().unwrap_or([0; 64])
    }

    /// The public key in hexadecimal digits, for messages.
    pub fn public(&self) -> String {
        self.0.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The key in use, read again when the file changes.
pub struct ChainKeyFile {
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    watched: Watched<Content, SigningKey>,
}

impl std::fmt::Debug for ChainKeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainKeyFile").finish_non_exhaustive()
    }
}

impl ChainKeyFile {
    /// Reads the file, and says the public key that belongs to it.
    ///
    /// # Errors
    /// [`Error`], which names flag and path, where it cannot be read or holds no Ed25519 key in PKCS#8 PEM.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let watched = Watched::load("chain key", move || Content::read(FLAG, &path), check)?;
        let file = Self { metrics, diagnostics, watched };
        file.say("chain key loaded", &file.current());
        Ok(file)
    }

    /// The key in use.
    pub fn current(&self) -> Arc<SigningKey> {
        self.watched.current()
    }

    /// Reads the file again, and uses the key if it has changed and is valid. To be called every few seconds.
    pub fn reload(&self) {
        let reloads = &self.metrics.certificate_reloads;
        if let Some(key) = self.watched.reload(|_, _| Ok(()), reloads, &self.diagnostics) {
            self.say("chain key reloaded", &key);
        }
    }

    fn say(&self, msg: &str, key: &SigningKey) {
        self.diagnostics.info(msg, &[("public_key", (&key.public()).into())]);
    }
}

fn check(content: &Content) -> Result<SigningKey, Error> {
    let wanted = "holds no Ed25519 key in PKCS#8 PEM (openssl genpkey -algorithm ed25519)";
    let mut rest = content.bytes.as_slice();
    loop {
        // The decoder's error is not shown: it quotes the line.
        match rustls_pemfile::read_one(&mut rest) {
            Ok(Some(rustls_pemfile::Item::Pkcs8Key(key))) => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
                return key.map(SigningKey).map_err(|_| content.unusable(wanted));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(content.unusable(wanted)),
        }
    }
}
