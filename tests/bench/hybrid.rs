//! X25519MLKEM768 as far as a client must have it to look like the API server.
//!
//! A Go client offers the hybrid group and, in a second share, x25519 alone. ring knows no ML-KEM, so a server built on
//! it takes the second share; but its cost includes reading the longer ClientHello. The ML-KEM key sent here is a valid
//! one of no secrecy whatever (the zero vector), which makes the generator's part nearly free.

use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup};

/// Bytes of an ML-KEM-768 encapsulation key.
const KEY: usize = 1184;

/// The group, to be put before [`X25519`].
#[derive(Debug)]
pub(crate) struct Hybrid;

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let x25519 = X25519.start()?;
        let mut share = vec![0; KEY];
        share.extend_from_slice(x25519.pub_key());
        Ok(Box::new(Started { x25519, share }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

struct Started {
    x25519: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Err(Error::General(String::from(
            "the server has ML-KEM, this client has not",
        )))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.x25519.group(), self.x25519.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.x25519.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
