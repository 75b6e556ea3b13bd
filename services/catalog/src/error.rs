//! What a caller of the catalog service can act on.

use mesh::{Code, ServiceError};
use storage::sqlx;
use types::{InvalidRequest, Sku, Violation};

use crate::domain::CategoryId;

/// A call that could not be answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong by itself.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// There is no such product.
    #[error("there is no product {0}: import it first")]
    ProductNotFound(Sku),
    /// There is no such category.
    #[error("there is no category {0}: list its parent to see which there are")]
    CategoryNotFound(CategoryId),
    /// The product changed since the caller read it.
    #[error("product {0} has changed: read it again")]
    EtagMismatch(Sku),
    /// The resume token is none of ours.
    #[error("the resume token is not one that this service returned: start without one")]
    ResumeTokenInvalid,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The event log failed.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The caller went away in the middle of its stream.
    #[error("the stream of products broke off: {0}")]
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
            Self::ProductNotFound(_) | Self::CategoryNotFound(_) => Code::NotFound,
            Self::EtagMismatch(_) | Self::StreamBroken(_) => Code::Aborted,
            Self::Storage(_) => Code::Internal,
            Self::Events(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::ProductNotFound(_) => "PRODUCT_NOT_FOUND",
            Self::CategoryNotFound(_) => "CATEGORY_NOT_FOUND",
            Self::EtagMismatch(_) => "ETAG_MISMATCH",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::StreamBroken(_) => "STREAM_BROKEN",
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
