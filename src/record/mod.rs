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
