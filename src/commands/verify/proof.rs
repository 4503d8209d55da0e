//! Public keys, and the signatures that they prove.

use std::path::{Path, PathBuf};

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::audit_log::chain::format::{Point, Signature};
use crate::observe::visible::printable;

/// An Ed25519 SubjectPublicKeyInfo (RFC 8410) up to the key.
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public keys that were given.
#[derive(Debug)]
pub(super) struct Keys(Vec<Vec<u8>>);

/// What a signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Proven,
    /// None of the keys has made it.
    Wrong,
    /// There is no key to check it with.
    NoKey,
}

impl Keys {
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for path in paths {
            let failed = |why: &str| format!("--key {}: {why}", printable(path.as_os_str()));
            let before = keys.len();
            keys.extend(read(path).map_err(|why| failed(&why))?);
            if keys.len() == before {
                return Err(failed("holds no Ed25519 public key in PEM (openssl pkey -pubout)"));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn check(&self, point: &Point, signature: &Signature) -> Verdict {
        if self.0.is_empty() {
            return Verdict::NoKey;
        }
        let message = point.signed_bytes();
        let proves = |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(&message, signature).is_ok();
        if self.0.iter().any(proves) { Verdict::Proven } else { Verdict::Wrong }
    }

    /// In hexadecimal digits, as the program's messages name them.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut rest = text.as_slice();
    let mut keys = Vec::new();
    while let Some(item) = rustls_pemfile::read_one(&mut rest).map_err(|_| "is not PEM".to_owned())? {
        if let rustls_pemfile::Item::SubjectPublicKeyInfo(info) = item {
            keys.extend(info.strip_prefix(&PREFIX).filter(|key| key.len() == 32).map(<[u8]>::to_vec));
        }
    }
    Ok(keys)
}
