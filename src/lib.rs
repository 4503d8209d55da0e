#![doc = include_str!("README.md")]
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
