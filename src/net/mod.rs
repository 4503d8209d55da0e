//! Sockets and TLS records: ports are bound, connections accepted, kept in a roster and served by a pool of threads.
//! It must not know what a request is: it is handed what serves a connection.

pub mod accept;
pub mod connection;
mod pool;
pub mod roster;
pub mod transport;
