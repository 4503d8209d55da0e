//! Sockets and TLS records.

pub mod accept;
pub mod roster;
pub mod transport;
