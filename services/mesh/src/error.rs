//! Why a process does not start or stops serving.

use std::error::Error;

/// Why something does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or the usage is wrong, and nothing was started. The text says what to change.
    #[error("{0}")]
    Config(String),
    /// Something that starting needs failed.
    #[error("cannot {attempt}: {source}")]
    Failed {
        /// What was attempted, to be read after "cannot".
        attempt: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StartError {
    /// A mistake of whoever configured it; `message` says what to change.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// A failure of what was attempted; `attempt` reads after "cannot".
    pub fn failed(attempt: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { attempt: attempt.into(), source: source.into() }
    }
}

/// Why a server stopped serving before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the server stopped: {0}")]
pub struct ServeError(#[from] pub(crate) tonic::transport::Error);
