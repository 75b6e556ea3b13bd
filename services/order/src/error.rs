//! What a caller of the order service can act on.

use mesh::{Code, ServiceError};
use storage::sqlx;
use types::{InvalidRequest, OrderUid, SourceRef, Violation};

/// A call that could not be answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong by itself.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// There is no such order.
    #[error("there is no order {0}")]
    OrderNotFound(OrderUid),
    /// No order has this record.
    #[error("no order has the record {0}")]
    SourceNotFound(SourceRef),
    /// The order is a part of another one.
    #[error("order {0} has become a part of order {1}: use that one")]
    OrderMerged(OrderUid, OrderUid),
    /// The order changed since the caller read it.
    #[error("order {0} has changed: read it again")]
    EtagMismatch(OrderUid),
    /// An order cannot be without records.
    #[error("{0} is the only record of its order, so that it stands alone already")]
    LastSource(SourceRef),
    /// The resume token is none of ours.
    #[error("the resume token is not one that this service returned: start without one")]
    ResumeTokenInvalid,
    /// A stored record cannot be read.
    #[error("a stored order cannot be read: {0}")]
    Corrupt(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The event log failed.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The caller went away in the middle of its stream.
    #[error("the stream of orders broke off: {0}")]
    StreamBroken(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_)
            | Self::ResumeTokenInvalid
            | Self::Storage(storage::Error::RequestIdReused(_)) => Code::InvalidArgument,
            Self::OrderNotFound(_) | Self::SourceNotFound(_) => Code::NotFound,
            Self::EtagMismatch(_) | Self::StreamBroken(_) => Code::Aborted,
            Self::OrderMerged(..) | Self::LastSource(_) => Code::FailedPrecondition,
            Self::Corrupt(_) | Self::Storage(_) => Code::Internal,
            Self::Events(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::OrderNotFound(_) | Self::SourceNotFound(_) => "ORDER_NOT_FOUND",
            Self::OrderMerged(..) => "ORDER_MERGED",
            Self::EtagMismatch(_) => "ETAG_MISMATCH",
            Self::LastSource(_) => "LAST_SOURCE",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::StreamBroken(_) => "STREAM_BROKEN",
            Self::Corrupt(_) => "CORRUPT",
            Self::Storage(storage::Error::RequestIdReused(_)) => "REQUEST_ID_REUSED",
            Self::Storage(_) => "STORAGE",
            Self::Events(error) => error.reason(),
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
