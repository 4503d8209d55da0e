//! Why the program cannot start.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::audit_log;
use crate::files::watched;

/// Why the program cannot start, with the flag and the path or address at fault.
#[derive(Debug)]
pub enum StartError {
    /// The certificate, its key, the client CA, the sources, the policy, or the chain's key.
    File(watched::Error),
    /// The audit log.
    Log(audit_log::OpenError),
    /// A port cannot be bound.
    Bind {
        /// The flag that sets the port.
        flag: &'static str,
        /// What was asked for.
        port: u16,
        /// The flag that sets the address, with what was asked for.
        address: Option<(&'static str, IpAddr)>,
        /// What the system said.
        error: io::Error,
    },
    /// No thread or no signal handler can be had.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Log(error) => write!(f, "--logger-filename {error}"),
            Self::Bind { flag, port, address, error } => {
                if let Some((flag, address)) = address {
                    write!(f, "{flag} {address}, ")?;
                }
                write!(f, "{flag} {port}: {error}")
            }
            Self::System(error) => write!(f, "the system refused a thread or a signal handler: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<watched::Error> for StartError {
    fn from(error: watched::Error) -> Self {
        Self::File(error)
    }
}
