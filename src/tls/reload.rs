//! The TLS configuration in use, and what becomes of it when a file changes.
//!
//! Certificate and key are one unit, the client CAs another. Each is read again and, if its content has changed,
//! checked; then new connections use it, or the fault is reported and the old one kept. A broken CA file does not hold
//! up a new certificate.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;

use super::certificate::Validity;
use super::identity::{self, Identity, Verifier};
use crate::files::watched::{Content, Error, Watched};
use crate::observe::diagnostics::Diagnostics;
use crate::observe::message::date_time;
use crate::observe::metrics::Metrics;

const CERTIFICATE_FLAG: &str = "--cert-filename";
const KEY_FLAG: &str = "--cert-key-filename";
const CLIENT_CA_FLAG: &str = "--client-ca-filename";

const DAY: i64 = 24 * 60 * 60;
/// Warnings are said this many days before the certificate expires.
const WARNING_DAYS: [i64; 3] = [30, 7, 1];

/// Which files to use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// PEM certificates, the server's own first (`--cert-filename`).
    pub certificate: PathBuf,
    /// Its key: PEM, PKCS#8, PKCS#1 or SEC1 (`--cert-key-filename`).
    pub key: PathBuf,
    /// PEM certificates of the CAs that sign client certificates, which are then required (`--client-ca-filename`).
    pub client_ca: Option<PathBuf>,
}

/// The configuration in use.
pub struct Tls {
    settings: Settings,
    metrics: Arc<Metrics>,
    diagnostics: Arc<Diagnostics>,
    /// Of the certificate's file and the key's.
    identity: Watched<[Content; 2], Identity>,
    client_ca: Option<Watched<Content, Verifier>>,
    /// Made of the two above.
    config: RwLock<Arc<ServerConfig>>,
    /// Number of expiry warnings said about the certificate in use.
    warnings_said: AtomicUsize,
}

impl Tls {
    /// Reads and checks the files. A certificate that has expired or is not valid yet is used all the same, and that is
    /// said as an error: a program that does not start would record nothing. [`Tls::expired`] is then true of an
    /// expired one.
    ///
    /// # Errors
    /// [`Error`], which names flag and path, where a file cannot be read or used.
    pub fn load(settings: Settings, metrics: Arc<Metrics>, diagnostics: Arc<Diagnostics>) -> Result<Self, Error> {
        let (certificate, key) = (settings.certificate.clone(), settings.key.clone());
        let read = move || Ok([Content::read(CERTIFICATE_FLAG, &certificate)?, Content::read(KEY_FLAG, &key)?]);
        let identity = Watched::load("certificate", read, identity::check_identity)?;
        let client_ca = settings.client_ca.clone().map(|path| {
            Watched::load("client CA", move || Content::read(CLIENT_CA_FLAG, &path), identity::check_client_ca)
        });
        let client_ca = client_ca.transpose()?;
        let config = configuration(&identity, client_ca.as_ref()).map_err(|error| Error {
            flag: CERTIFICATE_FLAG,
            path: settings.certificate.clone(),
            problem: error.to_string(),
        })?;
        let tls = Self {
            settings,
            metrics,
            diagnostics,
            identity,
            client_ca,
            config: RwLock::new(Arc::new(config)),
            warnings_said: AtomicUsize::new(0),
        };
        let identity = tls.identity.current();
        tls.say_certificate("certificate loaded", &identity);
        if tls.client_ca.is_some() {
            tls.say_client_ca("client CA loaded");
        }
        let now = SystemTime::now();
        if unix_seconds(now) < identity.validity.not_before {
            let path = tls.settings.certificate.to_string_lossy();
            let from = format!("{}Z", date_time(identity.validity.not_before));
            let fields = [("path", (&*path).into()), ("valid_from", (&from).into())];
            tls.diagnostics.error("certificate is not valid yet", &fields);
        }
        tls.warn_of_expiry(identity.validity, now);
        Ok(tls)
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; what has changed and is fit for use serves new connections from now on. A certificate
    /// that has expired or is not valid yet is not fit. Says the expiry warnings that have become due. To be called
    /// every few seconds.
    pub fn reload(&self) {
        self.reload_at(SystemTime::now());
    }

    pub(super) fn reload_at(&self, now: SystemTime) {
        let reloads = &self.metrics.certificate_reloads;
        let seconds = unix_seconds(now);
        let valid_now = |[certificate, _]: &[Content; 2], identity: &Identity| match identity.validity {
            Validity { not_after: end, .. } if seconds > end => {
                Err(certificate.unusable(format!("expired at {}Z", date_time(end))))
            }
            Validity { not_before: start, .. } if seconds < start => {
                Err(certificate.unusable(format!("not valid before {}Z", date_time(start))))
            }
            _ => Ok(()),
        };
        let identity = self.identity.reload(valid_now, reloads, &self.diagnostics);
        let client_ca = self.client_ca.as_ref();
        let client_ca = client_ca.and_then(|file| file.reload(|_, _| Ok(()), reloads, &self.diagnostics));
        if identity.is_some() || client_ca.is_some() {
            match configuration(&self.identity, self.client_ca.as_ref()) {
                Ok(config) => *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config),
                // The versions and suites are the same as at the start, when it worked.
                Err(error) => {
                    let error = error.to_string();
                    return self.diagnostics.error("TLS configuration refused", &[("error", (&error).into())]);
                }
            }
        }
        if let Some(identity) = identity {
            self.say_certificate("certificate reloaded", &identity);
            self.warnings_said.store(0, Ordering::Relaxed);
        }
        if client_ca.is_some() {
            self.say_client_ca("client CA reloaded");
        }
        self.warn_of_expiry(self.identity.current().validity, now);
    }

    /// Whether the certificate in use has expired.
    pub fn expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) > self.identity.current().validity.not_after
    }

    /// Says it by message and by metric, with what an API server will refuse.
    fn say_certificate(&self, msg: &str, identity: &Identity) {
        self.metrics.certificate_expiry.set(identity.validity.not_after);
        let path = self.settings.certificate.to_string_lossy();
        let expires = format!("{}Z", date_time(identity.validity.not_after));
        self.diagnostics.info(msg, &[("path", (&*path).into()), ("expires", (&expires).into())]);
        for refusal in &identity.refusals {
            let fields = [("path", (&*path).into()), ("error", refusal.into())];
            self.diagnostics.warn("the API server will refuse this certificate", &fields);
        }
    }

    fn say_client_ca(&self, msg: &str) {
        let path = self.settings.client_ca.as_deref().unwrap_or("".as_ref()).to_string_lossy();
        self.diagnostics.info(msg, &[("path", (&*path).into())]);
    }

    fn warn_of_expiry(&self, validity: Validity, now: SystemTime) {
        let now = unix_seconds(now);
        let due = warnings_due(validity, now);
        if due <= self.warnings_said.fetch_max(due, Ordering::Relaxed) {
            return;
        }
        let path = self.settings.certificate.to_string_lossy();
        let expires = format!("{}Z", date_time(validity.not_after));
        let fields = [("path", (&*path).into()), ("expires", (&expires).into())];
        if now > validity.not_after {
            self.diagnostics.error("certificate has expired", &fields);
        } else {
            self.diagnostics.warn("certificate expires soon", &fields);
        }
    }
}

fn configuration(
    identity: &Watched<[Content; 2], Identity>,
    client_ca: Option<&Watched<Content, Verifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = client_ca.map(Watched::current);
    identity::server_config(&identity.current(), verifier.as_deref())
}

/// How many warnings are due: one for each of [`WARNING_DAYS`] that has begun, and one more once the certificate has
/// expired. A warning that would be due from a short-lived certificate's first day on is left out.
pub(super) fn warnings_due(validity: Validity, now: i64) -> usize {
    if now > validity.not_after {
        return WARNING_DAYS.len() + 1;
    }
    let left = validity.not_after.saturating_sub(now);
    let lifetime = validity.not_after.saturating_sub(validity.not_before);
    WARNING_DAYS.iter().filter(|days| left <= *days * DAY && *days * DAY < lifetime).count()
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
