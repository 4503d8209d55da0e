//! What the program tells of itself: metrics and messages.
//!
//! Owns the counters with their page, and the form and the way of every message. Must not know what is counted or said:
//! no request, no certificate, no file of the audit log.

pub mod diagnostics;
pub mod instruments;
pub mod labels;
pub mod message;
pub mod metrics;
pub mod outlet;
pub mod process;
