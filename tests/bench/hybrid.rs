//! X25519MLKEM768, as far as a client must have it to look like the API server.
//!
//! A Go client offers the hybrid group and, in a second share, x25519 alone. ring knows no ML-KEM, so a server built on
//! it takes the second share, and its cost is that of a longer ClientHello; the Go original takes the first.
//!
//! The key offered is a valid ML-KEM one of no secrecy whatever: with the zero vector for `t`, the message can be read
//! off the ciphertext (FIPS 203, algorithm 14: `v` is the message and a little noise). That makes the generator's part
//! nearly free, and needs no lattice arithmetic, only SHA-3.

use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// Bytes of an ML-KEM-768 encapsulation key, of a ciphertext, and of the part of it before `v`.
const KEY: usize = 1184;
const CIPHERTEXT: usize = 1088;
const BEFORE_V: usize = 960;

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
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, peer) = peer.split_at_checked(CIPHERTEXT).ok_or(PeerMisbehaved::InvalidKeyShare)?;
        let mut secret = decapsulate(ciphertext).to_vec();
        secret.extend_from_slice(self.x25519.complete(peer)?.secret_bytes());
        Ok(SharedSecret::from(secret))
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

/// The secret that was encapsulated to the zero key: `G(m || H(ek))`, its first half.
fn decapsulate(ciphertext: &[u8]) -> [u8; 32] {
    let mut message = [0; 64];
    let halves = ciphertext[BEFORE_V..].iter().flat_map(|byte| [byte & 15, byte >> 4]);
    for (bit, coefficient) in halves.enumerate() {
        // Four bits of a coefficient modulo 3329: a one was sent as its half, 8, a zero as 0.
        message[bit / 8] |= u8::from((5..=11).contains(&coefficient)) << (bit % 8);
    }
    message[32..].copy_from_slice(&sha3(&[0; KEY], 136)[..32]);
    let mut secret = [0; 32];
    secret.copy_from_slice(&sha3(&message, 72)[..32]);
    secret
}

/// SHA3-256 with a rate of 136 bytes (the first 32 bytes count), SHA3-512 with one of 72.
fn sha3(input: &[u8], rate: usize) -> [u8; 64] {
    let mut padded = input.to_vec();
    padded.push(0x06);
    padded.resize(padded.len().next_multiple_of(rate), 0);
    *padded.last_mut().expect("one block at least") |= 0x80;
    let mut state = [0_u64; 25];
    for block in padded.chunks(rate) {
        for (lane, bytes) in state.iter_mut().zip(block.as_chunks().0) {
            *lane ^= u64::from_le_bytes(*bytes);
        }
        keccak(&mut state);
    }
    let mut output = [0; 64];
    for (bytes, lane) in output.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = lane.to_le_bytes();
    }
    output
}

/// Keccak-f[1600] (FIPS 202, section 3.2).
fn keccak(state: &mut [u64; 25]) {
    let mut shift_register = 1_u8;
    for _ in 0..24 {
        let column = |state: &[u64; 25], x: usize| (0..5).fold(0, |sum, y| sum ^ state[x % 5 + 5 * y]);
        let columns: [u64; 5] = std::array::from_fn(|x| column(state, x));
        for (at, lane) in state.iter_mut().enumerate() {
            *lane ^= columns[(at + 4) % 5] ^ columns[(at + 1) % 5].rotate_left(1);
        }
        let (mut x, mut y, mut moved) = (1, 0, state[1]);
        for step in 0..24 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let rotated = moved.rotate_left((step + 1) * (step + 2) / 2 % 64);
            moved = std::mem::replace(&mut state[x + 5 * y], rotated);
        }
        for row in state.as_chunks_mut::<5>().0 {
            let before = *row;
            for x in 0..5 {
                row[x] ^= !before[(x + 1) % 5] & before[(x + 2) % 5];
            }
        }
        for bit in [0, 1, 3, 7, 15, 31, 63] {
            state[0] ^= u64::from(shift_register & 1) << bit;
            shift_register = shift_register << 1 ^ if shift_register & 0x80 == 0 { 0 } else { 0x71 };
        }
    }
}
