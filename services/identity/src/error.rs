//! What a caller of the identity service can act on.

use mesh::{Code, ServiceError};
use types::{InvalidRequest, Violation};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be taken as it is.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// Nobody has this golden id, record or key.
    #[error("there is no person {0}")]
    IdentityNotFound(String),
    /// Somebody else changed the person meanwhile.
    #[error("{0} has changed since it was read: read it again")]
    EtagMismatch(String),
    /// The resume token is none of this stream's.
    #[error("the resume token was not made by this stream: begin without one")]
    ResumeTokenInvalid,
    /// The event log failed.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The database failed, or refuses a request id that was used before.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::InvalidRequest(_) | Self::ResumeTokenInvalid => Code::InvalidArgument,
            Self::Storage(storage::Error::RequestIdReused(_)) => Code::InvalidArgument,
            Self::IdentityNotFound(_) => Code::NotFound,
            Self::EtagMismatch(_) => Code::Aborted,
            Self::Storage(_) => Code::Internal,
            Self::Events(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "INVALID_REQUEST",
            Self::IdentityNotFound(_) => "IDENTITY_NOT_FOUND",
            Self::EtagMismatch(_) => "ETAG_MISMATCH",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::Storage(storage::Error::RequestIdReused(_)) => "REQUEST_ID_REUSED",
            Self::Events(error) => error.reason(),
            Self::Storage(_) => "STORAGE",
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::InvalidRequest(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
