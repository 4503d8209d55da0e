//! What is recorded: the file of `--policy-filename`, an audit Policy as kube-apiserver takes it.
//!
//! This module owns the file, its YAML and what can be wrong with it. It must not know requests: what comes out is a
//! [`Policy`], and nothing that a request brings is ever read by this code.

mod document;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::digest::{SHA256, digest};

pub use document::Invalid;

use crate::files::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::metrics::Metrics;
use crate::record::policy::Policy;

/// The flag that names the file.
const FLAG: &str = "--policy-filename";

/// Reads a policy's text: one document of YAML or JSON, `apiVersion: audit.k8s.io/v1`, `kind: Policy`.
///
/// # Errors
/// [`Invalid`] with line and field for the first thing that is wrong.
pub fn parse(text: &[u8]) -> Result<Policy, Invalid> {
    let text = str::from_utf8(text).map_err(|error| Invalid {
        line: 1 + text.iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count(),
        path: String::new(),
        what: "not UTF-8".to_owned(),
    })?;
    document::policy(&yaml::read(text)?)
}

/// The policy in use, read again when the file changes.
pub struct PolicyFile {
    path: PathBuf,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    policy: RwLock<Arc<Policy>>,
    watched: Mutex<Watched<Content>>,
}

impl PolicyFile {
    /// Reads the file, and says so with its SHA-256: whoever changes what is recorded leaves a trace here.
    ///
    /// # Errors
    /// [`Error`], which names flag, path, line and field, where it cannot be read or used.
    pub fn load(path: PathBuf, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let content = Content::read(FLAG, &path)?;
        let policy = check(&content)?;
        say("policy loaded", &content, &policy, &diagnostics);
        Ok(Self {
            path,
            metrics,
            diagnostics,
            policy: RwLock::new(Arc::new(policy)),
            watched: Mutex::new(Watched::new("policy", content)),
        })
    }

    /// The policy in use.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, and uses it if it has changed and is valid. To be called every few seconds.
    pub fn reload(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Content::read(FLAG, &self.path);
        let reloaded = watched.look(
            found,
            |content| check(content).map(|policy| (policy, content.clone())),
            &self.metrics.policy_reloads,
            &self.diagnostics,
        );
        if let Some((policy, content)) = reloaded {
            say("policy reloaded", &content, &policy, &self.diagnostics);
            *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        }
    }
}

fn check(content: &Content) -> Result<Policy, Error> {
    parse(&content.bytes).map_err(|invalid| content.unusable(invalid.to_string()))
}

fn say(msg: &str, content: &Content, policy: &Policy, diagnostics: &Diagnostics) {
    let path = content.path.to_string_lossy();
    let sha256 = sha256(&content.bytes);
    let fields = [("path", (&*path).into()), ("rules", policy.rules.len().into()), ("sha256", (&sha256).into())];
    diagnostics.info(msg, &fields);
}

/// The SHA-256 of a file's bytes, as sha256sum(1) prints it.
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a policy for a look at it.
///
/// # Errors
/// As [`PolicyFile::load`]'s, but for the flag, which is not there.
pub fn read(path: &Path) -> Result<(Policy, String), Error> {
    let content = Content::read("policy", path)?;
    Ok((check(&content)?, sha256(&content.bytes)))
}

#[cfg(test)]
mod tests;
