//! Bodies to lines.

pub mod event_list;
pub mod invalid;
pub mod json;
pub mod policy;
pub mod review;
pub mod timestamp;
