//! What a caller of the inventory service can act on.

use mesh::{Code, ServiceError};
use storage::sqlx;
use types::{InvalidRequest, Violation};

use crate::domain::StockId;

/// A call that could not be answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong by itself.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The stock is not tracked.
    #[error("there is no stock of {} at {}: count it, and it is tracked", .0.sku, .0.location_id)]
    StockNotFound(StockId),
    /// The stock changed since the caller read it.
    #[error("the stock of {} at {} has changed: read it again", .0.sku, .0.location_id)]
    EtagMismatch(StockId),
    /// 64 bits cannot hold what would be on hand.
    #[error("the movements of {} at {} add up to more than 64 bits hold: count it first", .0.sku, .0.location_id)]
    OnHandOutOfRange(StockId),
    /// The resume token is none of ours.
    #[error("the resume token is not one that this service returned: start without one")]
    ResumeTokenInvalid,
    /// A stored row cannot be read.
    #[error("a stored movement cannot be read: {0}")]
    Corrupt(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The event log failed.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The caller went away in the middle of its stream.
    #[error("the stream of movements broke off: {0}")]
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
            Self::StockNotFound(_) => Code::NotFound,
            Self::EtagMismatch(_) | Self::StreamBroken(_) => Code::Aborted,
            Self::OnHandOutOfRange(_) => Code::FailedPrecondition,
            Self::Corrupt(_) | Self::Storage(_) | Self::Events(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::StockNotFound(_) => "STOCK_NOT_FOUND",
            Self::EtagMismatch(_) => "ETAG_MISMATCH",
            Self::OnHandOutOfRange(_) => "ON_HAND_OUT_OF_RANGE",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::StreamBroken(_) => "STREAM_BROKEN",
            Self::Corrupt(_) => "CORRUPT",
            Self::Storage(storage::Error::RequestIdReused(_)) => "REQUEST_ID_REUSED",
            Self::Storage(_) => "STORAGE",
            Self::Events(_) => "EVENTS",
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
