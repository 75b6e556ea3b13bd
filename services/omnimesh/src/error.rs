//! How a command ends when it does not end well.

use std::{fmt, process::ExitCode};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: nothing was started.
    Usage(anyhow::Error),
    /// Something ran and failed.
    Failed(anyhow::Error),
    /// The command ran and found something that wants a person: what it is.
    Unsound(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Unsound(_) => ExitCode::from(1),
        }
    }

    /// Nothing was started, because of `error`.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The chain in one line: what failed, then why.
            Self::Usage(error) | Self::Failed(error) => write!(f, "{error:#}"),
            Self::Unsound(finding) => f.write_str(finding),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
