//! Files that are read again while the program runs.
//!
//! Owns the watching of any file, and the files of sources, policy and chain key. Must not know certificates, requests, or what uses a file.

pub mod chain_key;
pub mod policy_file;
pub mod sources;
pub mod watched;
