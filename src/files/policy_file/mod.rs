//! What is recorded: the file of `--policy-filename`, an audit Policy as kube-apiserver takes it.
//!
//! Owns the file, its YAML and what can be wrong with it. Must not know requests: a [`Policy`] comes out, and nothing
//! that a request brings is ever read by this code.

mod document;
mod yaml;

use std::fmt;
use std::path::Path;

use ring::digest::{SHA256, digest};

use crate::files::watched::{Content, Error};
use crate::files::watched_file::{FromFile, WatchedFile};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::instruments::CounterBy;
use crate::observe::labels::Reload;
use crate::observe::metrics::Metrics;
use crate::record::policy::Policy;

/// What is wrong, and where. Displays as `line 7: rules[0].level: ...`.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidPolicy {
    /// From 1.
    pub line: usize,
    /// The field, as in `rules[0].resources[1].group`; "" is the document itself.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

impl InvalidPolicy {
    /// Of the text, before it is known what its fields are.
    fn at(line: usize, what: impl Into<String>) -> Self {
        Self { line, path: String::new(), what: what.into() }
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, path, what } = self;
        match path.as_str() {
            "" => write!(f, "line {line}: {what}"),
            _ => write!(f, "line {line}: {path}: {what}"),
        }
    }
}

impl std::error::Error for InvalidPolicy {}

/// Reads a policy's text: one document of YAML or JSON, `apiVersion: audit.k8s.io/v1`, `kind: Policy`.
///
/// # Errors
/// [`InvalidPolicy`] with line and field for the first thing that is wrong.
pub fn parse(text: &[u8]) -> Result<Policy, InvalidPolicy> {
    let text = str::from_utf8(text).map_err(|error| {
        let line = 1 + text.iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count();
        InvalidPolicy::at(line, "not UTF-8")
    })?;
    document::policy(&yaml::read(text)?)
}

/// A policy, and the SHA-256 of the file that says it, as sha256sum(1) prints it.
#[derive(Debug)]
pub struct Loaded {
    /// What is recorded.
    pub policy: Policy,
    /// Of the file's bytes.
    pub sha256: String,
}

impl Loaded {
    /// The SHA-256 as a number that a metric can hold without rounding: its first 12 digits.
    fn hash(&self) -> i64 {
        self.sha256.get(..12).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default()
    }
}

/// The policy in use, read again when the file changes.
pub type PolicyFile = WatchedFile<Loaded>;

impl FromFile for Loaded {
    const FLAG: &'static str = "--policy-filename";
    const NAME: &'static str = "policy";
    const LOADED: &'static str = "policy loaded";
    const RELOADED: &'static str = "policy reloaded";

    fn check(content: &Content) -> Result<Self, Error> {
        let policy = parse(&content.bytes).map_err(|invalid| content.unusable(invalid.to_string()))?;
        let sha256 = digest(&SHA256, &content.bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { policy, sha256 })
    }

    /// Says the file's SHA-256: whoever changes what is recorded leaves a trace here.
    fn show(&self, msg: &str, path: &str, metrics: &Metrics, diagnostics: &Diagnostics) {
        metrics.policy_hash.set(self.hash());
        let rules = self.policy.rules.len();
        let fields = [("path", path.into()), ("rules", rules.into()), ("sha256", (&self.sha256).into())];
        diagnostics.info(msg, &fields);
    }

    fn count_start(metrics: &Metrics) {
        metrics.policy_reloads.increment(Reload::Success);
    }

    fn reloads(metrics: &Metrics) -> &CounterBy<Reload> {
        &metrics.policy_reloads
    }
}

/// Reads a policy for the `policy` command.
///
/// # Errors
/// [`Error`], which names path, line and field, where it cannot be read or used.
pub fn read(path: &Path) -> Result<Loaded, Error> {
    Loaded::check(&Content::read("the policy", path)?)
}

#[cfg(test)]
mod tests;
