//! Files that are read again while the program runs.
//!
//! Owns the watching of any file, the file of sources and the policy file. Must not know certificates, requests, or what
//! uses a file.

pub mod policy_file;
pub mod sources;
pub mod watched;
