//! Request bodies become audit lines, and audit lines are read again.
//!
//! Owns what a line holds: which bytes of a body stay, which are left out, and which members are ours. Must not know
//! files, sockets or HTTP, and never reads the clock: times are handed in.

pub mod entry;
pub mod event;
pub mod event_list;
pub mod invalid;
pub mod json;
pub mod policy;
pub mod review;
pub mod timestamp;

/// Whether the audit log adds a `chain` member to the end of each line (`--chain`), so that a client's own must not stand
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chained {
    /// It does.
    Yes,
    /// Lines stay as they are.
    No,
}
