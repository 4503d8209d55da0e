//! Certificate files -> the TLS configuration in use, kept up to date while the program runs.
//!
//! Owns what a certificate, its key and the client CAs must be, when they come into use, and the words for a failed
//! handshake.
//! Must not know sockets or requests.

pub mod certificate;
pub mod handshake_failure;
mod identity;
mod pem;
mod reload;

pub use reload::{Settings, Tls};

#[cfg(test)]
mod tests;
