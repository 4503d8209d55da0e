//! Why the program cannot start.

use std::fmt;
use std::io;

use crate::audit_log::OpenError;
use crate::files::watched;

/// Why the program cannot start: one line that names the flag and the path or address at fault.
#[derive(Debug)]
pub struct StartError(pub(super) String);

impl StartError {
    /// No thread or no signal handler can be had.
    pub(super) fn system(error: io::Error) -> Self {
        Self(format!("the system refused a thread or a signal handler: {error}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<watched::Error> for StartError {
    fn from(error: watched::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self(format!("--logger-filename {error}"))
    }
}
