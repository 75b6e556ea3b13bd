//! What a caller is told of a query that was not answered.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use mesh::{Code, ServiceError, status};
use tonic::Status;

use crate::{Error, TableName};

/// Why a query is not answered, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Sql(String),
    #[error(
        "the query's text has {found} words and signs, more than {most}; put long lists into a table to join with"
    )]
    Long { found: usize, most: usize },
    #[error("only queries are answered here (SELECT, EXPLAIN, SHOW, DESCRIBE): {0}")]
    NotAQuery(String),
    #[error("{0}")]
    Parameters(String),
    #[error("the header omnimesh-tag is not text")]
    Header,
    #[error("lake table {table} has no tag `{tag}`; `omnimesh lake status` names the tags")]
    NoTag { table: TableName, tag: String },
    #[error("version {version} of lake table {table} is gone; run the query again for the newest")]
    Gone { table: TableName, version: u64 },
    #[error("this is no ticket or statement of this lake; ask for a new one")]
    Ticket,
    #[error("there is no action {0}")]
    Action(String),
    #[error("the query does not run here: it has ended, or another replica runs it")]
    NotRunning,
    #[error("the query was cancelled")]
    Cancelled,
    #[error("the answer has more than {0} rows (lake.query_rows); aggregate, filter or LIMIT it")]
    Rows(u64),
    #[error(
        "the query took longer than {0} seconds (lake.query_seconds); filter or aggregate more, or read faster"
    )]
    Time(u64),
    #[error(
        "the query needs more memory than there is for queries (lake.query_mib); read fewer columns, or \
             filter before it sorts, joins and groups"
    )]
    Memory,
    #[error(transparent)]
    Lake(#[from] Error),
}

impl Failure {
    /// A failure of what the caller wrote, or of what ran it.
    pub(super) fn of_query(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory,
            DataFusionError::ArrowError(cause, _)
                if matches!(**cause, ArrowError::ExternalError(_) | ArrowError::IoError(..)) =>
            {
                Self::Lake(error.into())
            }
            root @ (DataFusionError::ArrowError(..)
            | DataFusionError::SQL(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Plan(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Execution(_)) => Self::Sql(one_line(&root.strip_backtrace())),
            _ => Self::Lake(error.into()),
        }
    }
}

/// What a planner says may go over several lines; a status is one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl ServiceError for Failure {
    fn code(&self) -> Code {
        match self {
            Self::Sql(_)
            | Self::Long { .. }
            | Self::NotAQuery(_)
            | Self::Parameters(_)
            | Self::Header
            | Self::Ticket => Code::InvalidArgument,
            Self::NoTag { .. } | Self::NotRunning => Code::NotFound,
            Self::Gone { .. } => Code::FailedPrecondition,
            Self::Action(_) => Code::Unimplemented,
            Self::Cancelled => Code::Aborted,
            Self::Rows(_) | Self::Memory => Code::ResourceExhausted,
            Self::Time(_) => Code::DeadlineExceeded,
            Self::Lake(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Sql(_) => "QUERY_INVALID",
            Self::Long { .. } => "QUERY_TOO_LONG",
            Self::NotAQuery(_) => "QUERY_NOT_READ_ONLY",
            Self::Parameters(_) => "PARAMETERS_INVALID",
            Self::Header => "TAG_INVALID",
            Self::NoTag { .. } => "TAG_NOT_FOUND",
            Self::Gone { .. } => "VERSION_GONE",
            Self::Ticket => "TICKET_INVALID",
            Self::Action(_) => "ACTION_UNKNOWN",
            Self::NotRunning => "QUERY_NOT_RUNNING",
            Self::Cancelled => "QUERY_CANCELLED",
            Self::Rows(_) => "ROWS_EXCEEDED",
            Self::Time(_) => "TIME_EXCEEDED",
            Self::Memory => "MEMORY_EXCEEDED",
            Self::Lake(_) => "INTERNAL",
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        status::from("lake", failure)
    }
}
