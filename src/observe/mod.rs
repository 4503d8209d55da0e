//! What the program tells of itself: metrics and messages.

pub mod diagnostics;
pub mod instruments;
pub mod labels;
pub mod metrics;
pub mod process;
