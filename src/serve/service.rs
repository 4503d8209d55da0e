//! What all connections share, and whether requests should come here at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::audit_log::AuditLog;
use crate::files::policy_file::PolicyFile;
use crate::files::sources::SourcesFile;
use crate::net::transport::Windows;
use crate::observe::diagnostics::{Diagnostics, RateLimit};
use crate::observe::instruments::Counter;
use crate::observe::metrics::Metrics;
use crate::serve::memory::Memory;
use crate::tls::Tls;

/// What all connections share.
pub struct Service {
    /// Where lines go.
    pub log: AuditLog,
    /// Memory for request bodies.
    pub memory: Arc<Memory>,
    /// Large receive buffers.
    pub windows: Arc<Windows>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The program's own messages.
    pub diagnostics: Arc<Diagnostics>,
    /// The certificate in use.
    pub tls: Arc<Tls>,
    /// Who may write; `None`: whoever can connect.
    pub sources: Option<Arc<SourcesFile>>,
    /// What is recorded, and how much of it; `None`: everything.
    pub policy: Option<Arc<PolicyFile>>,
    /// Bytes of the largest body.
    pub max_request: usize,
    /// Every reply says `Connection: close`, and the service is not ready.
    pub draining: AtomicBool,
    /// Requests recorded, answered or not.
    pub recorded_requests: Counter,
    /// Keeps a flood of failing handshakes out of the messages.
    pub handshake_messages: RateLimit,
    /// Keeps a flood of refused requests out of the messages.
    pub refused_messages: RateLimit,
    /// Keeps a flood of mended events out of the messages.
    pub mended_messages: RateLimit,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Service {
    /// One line for each reason why requests should go elsewhere.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("draining: this process is about to end".to_owned());
        }
        reasons.extend(self.log.failing());
        if self.tls.expired(SystemTime::now()) {
            reasons.push("the certificate has expired".to_owned());
        }
        reasons
    }
}
