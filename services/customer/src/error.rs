//! What a caller of the customer service can act on.

use mesh::{Code, PeerError, ServiceError};
use types::{InvalidRequest, Violation};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be taken as it is.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// There is no such customer.
    #[error("there is no customer {0}")]
    CustomerNotFound(String),
    /// Somebody else changed the customer meanwhile.
    #[error("{0} has changed since it was read: read it again")]
    EtagMismatch(String),
    /// The resume token is none of this stream's.
    #[error("the resume token was not made by this stream: begin without one")]
    ResumeTokenInvalid,
    /// A person's change came in a form that cannot be read.
    #[error("an identity cannot be read: {0}")]
    IdentityInvalid(InvalidRequest),
    /// Another service failed.
    #[error(transparent)]
    Peer(#[from] PeerError),
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
            Self::CustomerNotFound(_) => Code::NotFound,
            Self::EtagMismatch(_) => Code::Aborted,
            Self::Peer(peer) => peer.code_for_caller(),
            Self::IdentityInvalid(_) | Self::Storage(_) => Code::Internal,
            Self::Events(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "INVALID_REQUEST",
            Self::CustomerNotFound(_) => "CUSTOMER_NOT_FOUND",
            Self::EtagMismatch(_) => "ETAG_MISMATCH",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::Storage(storage::Error::RequestIdReused(_)) => "REQUEST_ID_REUSED",
            Self::IdentityInvalid(_) => "IDENTITY_INVALID",
            Self::Peer(_) => "PEER_UNAVAILABLE",
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
