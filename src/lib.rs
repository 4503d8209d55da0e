//! A receiver for what the Kubernetes API server sends to webhooks.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod audit_log;
pub mod diagnostics;
pub mod metrics;
pub mod timestamp;

/// Runs the program.
pub fn main(_args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
