//! What can go wrong with the lake.

use std::path::PathBuf;

use arrow::error::ArrowError;

use mesh::{Code, ServiceError};
use types::{InvalidRequest, Violation};

use crate::TableName;

/// A lake that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that the lake's readers could not rely on.
    #[error("`{name}` is no name for a {layer} table: {rule}")]
    Name {
        /// The layer it was meant for.
        layer: &'static str,
        /// The name.
        name: String,
        /// What it should be like.
        rule: &'static str,
    },
    /// A directory or file of the lake cannot be used.
    #[error("the lake cannot use {}: {source}; check its permissions and the free space on its disk", path.display())]
    Files {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Lance refused to read or write a table.
    #[error(
        "lake table {table} could not be {action}: {source}; it goes on by itself once the cause is gone"
    )]
    Table {
        /// The table.
        table: TableName,
        /// What was tried, as a participle.
        action: &'static str,
        /// What Lance says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An erasure has changed a table since it was opened for writing.
    #[error("lake table {table} was changed by an erasure; it is opened anew by itself")]
    Erased {
        /// The table.
        table: TableName,
    },
    /// An erasure did not come to its end.
    #[error("the erasure is not finished: {0}; erase the same keys again, it goes on where it stopped")]
    Erasure(String),
    /// A table is needed that is not there.
    #[error("lake table {table} does not exist yet; it is made when its first rows come")]
    Missing {
        /// The table.
        table: TableName,
    },
    /// There is no such table, or no such version of it.
    #[error("the lake has no {what}; `omnimesh lake status` lists what it has")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The request is wrong by itself.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A table was computed wrongly, or is described wrongly.
    #[error("lake table {table} is not published: {reason}")]
    Definition {
        /// The table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A query failed.
    #[error("the query failed: {}", .0.strip_backtrace().lines().next().unwrap_or_default())]
    Query(#[from] datafusion::error::DataFusionError),
    /// An event does not make rows.
    #[error("event {id} makes no rows: {reason}")]
    Event {
        /// The event.
        id: String,
        /// Why not.
        reason: String,
    },
    /// Columns of a table do not fit together.
    #[error("rows do not form a batch: {0}")]
    Arrow(#[from] ArrowError),
    /// Events could not be understood.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The producer of events failed.
    #[error(transparent)]
    Peer(#[from] mesh::PeerError),
    /// The producer ended a stream that has no end.
    #[error("the domain {0} ended its stream of events")]
    StreamEnded(&'static str),
    /// Work on another thread was cut short.
    #[error("work on a table was cut short: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Name { .. } | Self::Invalid(_) | Self::Query(_) => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::Missing { .. } | Self::Definition { .. } => Code::FailedPrecondition,
            Self::Erased { .. } => Code::Unavailable,
            Self::Events(error) => error.code(),
            Self::Peer(error) => error.code_for_caller(),
            Self::StreamEnded(_) => Code::Unavailable,
            Self::Files { .. }
            | Self::Table { .. }
            | Self::Event { .. }
            | Self::Erasure(_)
            | Self::Arrow(_)
            | Self::Interrupted(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::Invalid(_) => "INVALID_REQUEST",
            Self::Query(_) => "QUERY_FAILED",
            Self::NotFound { .. } => "DATASET_NOT_FOUND",
            Self::Missing { .. } => "DATASET_MISSING",
            Self::Definition { .. } => "DATASET_DEFINITION",
            Self::Erased { .. } => "DATASET_CHANGED",
            Self::Erasure(_) => "ERASURE_UNFINISHED",
            Self::Events(error) => error.reason(),
            Self::Peer(_) | Self::StreamEnded(_) => "PEER",
            Self::Files { .. } => "FILES",
            Self::Table { .. } => "TABLE",
            Self::Event { .. } => "EVENT",
            Self::Arrow(_) => "ROWS",
            Self::Interrupted(_) => "INTERRUPTED",
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
