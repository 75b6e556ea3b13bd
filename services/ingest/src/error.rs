//! What can go wrong with ingest.

use mesh::{Code, PeerError, ServiceError};
use types::{InvalidRequest, Violation};

/// Why a call or a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source's definition is wrong; the text says where and what.
    #[error("{0}")]
    Definition(String),
    /// The request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// No such source is defined.
    #[error("there is no source `{0}`")]
    SourceNotFound(String),
    /// No such record is quarantined.
    #[error("there is no quarantined record `{0}`: it may have been taken in meanwhile")]
    RecordNotFound(String),
    /// The record is as bad as before.
    #[error("the record is still bad: {0}")]
    RecordStillBad(String),
    /// A run over the source is under way.
    #[error("a run over `{0}` is under way: wait for its end")]
    RunInProgress(String),
    /// The source's folder or database cannot be read.
    #[error("cannot read {place}: {reason}; check that it is there and readable")]
    SourceUnreadable {
        /// The folder, file, database or table.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A domain failed.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The event log failed.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Landed records cannot be written or read back.
    #[error("landed records cannot be coded: {0}")]
    Coding(#[from] arrow::error::ArrowError),
    /// A part of a run died.
    #[error("a part of the run ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Storage(storage::Error::RequestIdReused(_)) => Code::InvalidArgument,
            Self::Events(error) => error.code(),
            Self::SourceNotFound(_) | Self::RecordNotFound(_) => Code::NotFound,
            // Not UNAVAILABLE: the caller, an operator, has to see the path.
            Self::RecordStillBad(_) | Self::SourceUnreadable { .. } => Code::FailedPrecondition,
            Self::RunInProgress(_) => Code::Aborted,
            Self::Peer(error) => error.code_for_caller(),
            Self::Definition(_) | Self::Storage(_) | Self::Coding(_) | Self::Task(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Definition(_) => "DEFINITION_INVALID",
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::SourceNotFound(_) => "SOURCE_NOT_FOUND",
            Self::RecordNotFound(_) => "RECORD_NOT_FOUND",
            Self::RecordStillBad(_) => "RECORD_STILL_BAD",
            Self::RunInProgress(_) => "RUN_IN_PROGRESS",
            Self::SourceUnreadable { .. } => "SOURCE_UNREADABLE",
            Self::Peer(_) => "PEER_FAILED",
            Self::Events(events::Error::CursorInvalid(_)) => "RESUME_TOKEN_INVALID",
            Self::Events(error) => error.reason(),
            Self::Storage(storage::Error::RequestIdReused(_)) => "REQUEST_ID_REUSED",
            Self::Storage(_) => "STORAGE",
            Self::Coding(_) => "CODING",
            Self::Task(_) => "TASK",
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
