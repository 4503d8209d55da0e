//! Files that are read again while the program runs.

pub mod sources;
pub mod watched;
