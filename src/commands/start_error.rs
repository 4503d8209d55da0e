//! Why the program cannot start.

use std::fmt;
use std::io;

use crate::audit_log::OpenError;
use crate::files::watched;

/// Why the program does not serve.
#[derive(Debug)]
pub enum StartError {
    /// It was told to end while it waited for the reader of the log.
    GivenUp,
    /// It cannot: one line that names the flag and the path or address at fault.
    Failed(String),
}

impl StartError {
    /// No thread or no signal handler can be had.
    pub(super) fn system(error: io::Error) -> Self {
        Self::Failed(format!("the system refused a thread or a signal handler: {error}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenUp => f.write_str("told to end before it served"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

impl From<watched::Error> for StartError {
    fn from(error: watched::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::GivenUp => Self::GivenUp,
            error => Self::Failed(format!("--logger-filename {error}")),
        }
    }
}
