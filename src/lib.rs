//! An audit log for Kubernetes clusters whose API server's own audit log is out of reach.
//!
//! The API server calls this program as a ValidatingWebhook for every create, update, delete and connect, or posts
//! EventLists to it as an audit webhook. Each AdmissionReview or event becomes one line of a file that is rolled by size.
//!
//! # A request's path
//! `net::accept` accepts -> `net::transport` shakes hands -> `http` reads the head -> `serve::routes` judges it ->
//! `serve::body` reads the body into memory from `serve::memory` -> `record` makes the line -> `audit_log` appends it ->
//! `serve::reply` answers. [`serve::connection`] is that path from top to bottom. Nothing flows back, and "allowed" is
//! written only after the append returned `Ok`.
//!
//! # Rooms
//! Each imports only from those below it.
//!
//! | room | owns | must not know |
//! |---|---|---|
//! | `main`, `lib` | this map | anything else |
//! | `commands` | what the words of the command line do: opening, wiring, running, draining | how any of it works |
//! | `cli` | flags, defaults, usage text | files, sockets |
//! | `serve` | a request, from its head to the reply | file names, rotation, flags |
//! | `net` | sockets and TLS records: accepting, the roster of connections, bytes with deadlines | what a request is |
//! | `tls` | the certificate in use, handshake failures in words | sockets, HTTP |
//! | `http` | bytes to heads and framing, response bytes | sockets, clocks |
//! | `record` | bodies to audit lines | I/O |
//! | `files` | files that are re-read while the program runs | what they are for |
//! | `audit_log` | append, group commit, rotation, recovery, retention | JSON, HTTP |
//! | `observe` | metrics and the program's own messages | everything above |
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod audit_log;
pub mod cli;
pub mod commands;
pub mod files;
pub mod http;
pub mod net;
pub mod observe;
pub mod record;
pub mod serve;
pub mod tls;

pub use commands::serve::main;
pub use commands::server::Server;

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
