//! TLS records into a buffer that grows as needed.

use rustls::unbuffered::{EncodeError, EncryptError, InsufficientSizeError};

use super::Error;

/// Encodes behind the `used` bytes of `outgoing`, which grows as needed.
pub(super) fn encode(
    outgoing: &mut Vec<u8>,
    used: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<usize, Error> {
    grow_until(outgoing, used, |to| {
        encode(to).map_err(|error| match error {
            EncodeError::InsufficientSize(lack) => Some(lack),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Encrypts likewise.
pub(super) fn encrypt(
    outgoing: &mut Vec<u8>,
    used: usize,
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<usize, Error> {
    grow_until(outgoing, used, |to| {
        encrypt(to).map_err(|error| match error {
            EncryptError::InsufficientSize(lack) => Some(lack),
            EncryptError::EncryptExhausted => None,
        })
    })
}

fn grow_until(
    outgoing: &mut Vec<u8>,
    used: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<usize, Error> {
    loop {
        match fill(outgoing.get_mut(used..).unwrap_or_default()) {
            Ok(count) => return Ok(count),
            Err(Some(lack)) if used + lack.required_size > outgoing.len() => {
                outgoing.resize(used + lack.required_size, 0);
            }
            Err(_) => return Err(Error::Tls(rustls::Error::EncryptError)),
        }
    }
}
