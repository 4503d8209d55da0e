//! What the program tells of itself: metrics and messages.
//!
//! Owns the metrics and their page, how messages look and get to standard error, and how text that others chose is shown
//! in them. Must not know what is counted or said: no request, no certificate, no file of the audit log.

pub mod diagnostics;
pub mod instruments;
pub mod labels;
pub mod message;
pub mod metrics;
pub mod outlet;
pub mod process;
pub(crate) mod visible;
