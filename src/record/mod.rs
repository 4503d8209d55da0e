//! Bodies to lines, and lines back to what they say.

pub mod entry;
pub mod event;
pub mod event_list;
pub mod invalid;
pub mod json;
pub mod review;
pub mod timestamp;
