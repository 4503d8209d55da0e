//! The command line's settings, as the operator is told them and as the rooms below want them.

use std::sync::Arc;

use crate::VERSION;
use crate::audit_log::{self, ChainSetting, SyncMode, Target};
use crate::cli::Config;
use crate::files::chain_key::ChainKeyFile;
use crate::observe::diagnostics::{Diagnostics, Value};
use crate::tls;

/// Says at the start what is set, and what an operator may not have meant.
pub(super) fn say(config: &Config, diagnostics: &Diagnostics) {
    let settings = config.settings();
    let mut fields: Vec<(&str, Value<'_>)> = vec![("version", VERSION.into())];
    fields.extend(settings.iter().map(|(name, value)| (*name, Value::from(value))));
    diagnostics.info("starting", &fields);
    for warning in config.warnings() {
        diagnostics.warn(warning, &[]);
    }
    for warning in config.unexpanded() {
        diagnostics.warn(&warning, &[]);
    }
}

pub(super) fn tls(config: &Config) -> tls::Settings {
    tls::Settings {
        certificate: config.cert_filename.clone(),
        key: config.cert_key_filename.clone(),
        client_ca: config.client_ca_filename.clone(),
    }
}

pub(super) fn log(config: &Config, chain_key: Option<Arc<ChainKeyFile>>) -> audit_log::Settings {
    let target = if config.audit_to_std_log { Target::Stdout } else { Target::File(config.logger_filename.clone()) };
    audit_log::Settings {
        target,
        max_size: config.logger_max_size,
        max_backups: usize::try_from(config.logger_max_backups).unwrap_or(0),
        max_age: config.logger_max_age,
        max_total_size: config.logger_max_total_size,
        sync: if config.logger_sync { SyncMode::Always } else { SyncMode::Never },
        file_mode: config.logger_file_mode,
        chain: match chain_key {
            _ if !config.chain => ChainSetting::Off,
            None => ChainSetting::Unsigned,
            Some(key) => ChainSetting::Signed(key),
        },
    }
}
