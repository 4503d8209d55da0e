//! The key that signs the chain: the file of `--chain-key-filename`, an Ed25519 key.
//!
//! What is signed, and when, is not known here.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::files::watched::{Content, Error};
use crate::files::watched_file::{FromFile, WatchedFile};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;

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
pub type ChainKeyFile = WatchedFile<SigningKey>;

impl FromFile for SigningKey {
    const FLAG: &'static str = "--chain-key-filename";
    const NAME: &'static str = "chain key";
    const LOADED: &'static str = "chain key loaded";
    const RELOADED: &'static str = "chain key reloaded";

    /// Takes the first key in PKCS#8 PEM.
    fn check(content: &Content) -> Result<Self, Error> {
        let wanted = "holds no Ed25519 key in PKCS#8 PEM (openssl genpkey -algorithm ed25519)";
        let mut rest = content.bytes.as_slice();
        loop {
            // The decoder's error is not shown: it quotes the line.
            match rustls_pemfile::read_one(&mut rest) {
                Ok(Some(rustls_pemfile::Item::Pkcs8Key(key))) => {
                    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
                    return key.map(Self).map_err(|_| content.unusable(wanted));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(content.unusable(wanted)),
            }
        }
    }

    /// Says the public key that belongs to it.
    fn show(&self, msg: &str, _path: &str, _metrics: &Metrics, diagnostics: &Diagnostics) {
        diagnostics.info(msg, &[("public_key", (&self.public()).into())]);
    }
}
