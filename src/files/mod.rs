//! Files that are read again while the program runs.

pub mod policy_file;
pub mod sources;
pub mod watched;
