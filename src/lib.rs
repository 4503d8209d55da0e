//! An audit log for Kubernetes clusters whose API server's own audit log is out of reach.
//!
//! The API server calls this program as a ValidatingWebhook for every create, update, delete and connect, or posts
//! EventLists to it as an audit webhook. Each AdmissionReview or event becomes one line of a file that is rolled by size.
//!
//! # A request's path
//! `server` accepts -> `transport` shakes hands -> `http` reads the head -> `routes` judges it -> `connection::body` reads
//! the body into memory from `bodies` -> `review` or `event_list` makes the line -> `audit_log` appends it -> the reply.
//! [`connection`] is that path from top to bottom. Nothing flows back, and "allowed" is written only after the append
//! returned `Ok`.
//!
//! # Rooms
//! | file | owns | must not know |
//! |---|---|---|
//! | main | the exit code | anything else |
//! | lib | this map, the wiring, start and drain | flag spellings |
//! | cli | flags, defaults, usage text | files, sockets |
//! | server | bind, accept, the thread pool | HTTP, JSON |
//! | roster | which connections exist, who makes room, who may be closed | HTTP, TLS |
//! | transport | bytes over TLS or TCP, each with a deadline | HTTP |
//! | service | what connections share, readiness | sockets |
//! | connection | one connection's life | file names, rotation |
//! | routes | which request is answered by what | sockets |
//! | http | bytes to heads and framing, response bytes | sockets, clocks |
//! | bodies | memory for request bodies | what they are |
//! | review, event_list | a body to audit lines | I/O, clocks |
//! | json | compaction and splicing of JSON bytes | what the JSON means |
//! | audit_log | append, group commit, rotation, recovery, retention | JSON, HTTP |
//! | tls, sources, watched | certificates and tokens, re-read when they change | HTTP |
//! | expiry | a certificate's notAfter | everything |
//! | handshake_failure | the words for a failed handshake | sockets |
//! | metrics, process | the counters and their text form | TLS, files |
//! | diagnostics | the program's own messages | audit data |
//! | timestamp | a time to bytes | everything |
//! | shutdown | signals | requests |
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

pub use commands::serve::{Server, main};

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
