//! What is recorded: the file of `--policy-filename`, an audit Policy as kube-apiserver takes it.
//!
//! Owns the file, its YAML and what can be wrong with it. Must not know requests: a [`Policy`] comes out, and nothing
//! that a request brings is ever read by this code.

mod document;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::files::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::labels::Reload;
use crate::observe::metrics::Metrics;
use crate::record::policy::Policy;

/// The flag that names the file.
const FLAG: &str = "--policy-filename";

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
pub struct PolicyFile {
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    watched: Watched<Content, Loaded>,
    path: PathBuf,
}

impl PolicyFile {
    /// Reads the file, and says so with its SHA-256: whoever changes what is recorded leaves a trace here.
    ///
    /// # Errors
    /// [`Error`], which names flag, path, line and field, where it cannot be read or used.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let read = {
            let path = path.clone();
            move || Content::read(FLAG, &path)
        };
        let watched = Watched::load("policy", read, check)?;
        let file = Self { metrics, diagnostics, watched, path };
        file.metrics.policy_reloads.increment(Reload::Success);
        file.tell("policy loaded", &file.current());
        Ok(file)
    }

    /// The policy in use.
    pub fn current(&self) -> Arc<Loaded> {
        self.watched.current()
    }

    /// Reads the file again, and uses it if it has changed and is valid. To be called every few seconds.
    pub fn reload(&self) {
        if let Some(loaded) = self.watched.reload(|_, _| Ok(()), &self.metrics.policy_reloads, &self.diagnostics) {
            self.tell("policy reloaded", &loaded);
        }
    }

    fn tell(&self, msg: &str, loaded: &Loaded) {
        self.metrics.policy_hash.set(loaded.hash());
        let path = self.path.to_string_lossy();
        let rules = loaded.policy.rules.len();
        let fields = [("path", (&*path).into()), ("rules", rules.into()), ("sha256", (&loaded.sha256).into())];
        self.diagnostics.info(msg, &fields);
    }
}

/// Reads a policy for the `policy` command.
///
/// # Errors
/// As those of [`PolicyFile::load`], without the flag.
pub fn read(path: &Path) -> Result<Loaded, Error> {
    check(&Content::read("the policy", path)?)
}

fn check(content: &Content) -> Result<Loaded, Error> {
    let policy = parse(&content.bytes).map_err(|invalid| content.unusable(invalid.to_string()))?;
    let sha256 = digest(&SHA256, &content.bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Loaded { policy, sha256 })
}

#[cfg(test)]
mod tests;
