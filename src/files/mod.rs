//! Files that are read again while the program runs.
//!
//! Owns the watching of any file, and the files of sources, policy and chain key. Must not know certificates, requests,
//! or what uses a file.

pub mod chain_key;
pub mod policy_file;
pub mod sources;
pub mod watched;
mod watched_file;

/// Whether `name` is a DNS name (a subdomain in the words of RFC 1123) of at most `longest` bytes.
fn is_dns_name(name: &str, longest: usize) -> bool {
    let alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(alphanumeric)
            && label.ends_with(alphanumeric)
            && label.chars().all(|character| alphanumeric(character) || character == '-')
    };
    name.len() <= longest && name.split('.').all(label)
}
