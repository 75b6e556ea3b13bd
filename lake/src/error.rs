//! What can go wrong with the lake.

mod plain;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use mesh::{Code, ServiceError};
use omnimesh_proto::event::v1::Event;
use parquet::errors::ParquetError;
use types::{InvalidRequest, Violation};

use crate::TableName;
use plain::plain;

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
    /// A lake cannot be there.
    #[error(
        "`{0}` is no place for a lake: give a directory, file:///path, or s3://bucket/prefix (for another store that \
         speaks S3 than AWS, set AWS_ENDPOINT_URL)"
    )]
    Root(String),
    /// A place of the lake cannot be used.
    #[error(
        "the lake cannot use {place}: {}; check the permissions and the space, of a bucket the AWS_… variables",
        plain(cause)
    )]
    Place {
        /// The place.
        place: String,
        /// What its store says.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Lance refused to read or write a table.
    #[error(
        "lake table {table} could not be {action}: {}; check that its files are whole, their permissions and the free \
         space",
        plain(cause)
    )]
    Table {
        /// The table.
        table: TableName,
        /// What was tried, as a participle.
        action: &'static str,
        /// What Lance says.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What went wrong with a table, if that does not name it.
    #[error("lake table {table}: {cause}")]
    OfTable {
        /// The table.
        table: TableName,
        /// What went wrong.
        cause: Box<Error>,
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
    /// What is denied is not known, so that nothing may be written.
    #[error(
        "the lake's _meta/denylist.json cannot be understood; restore it, or erased persons could come back"
    )]
    Denylist,
    /// A table is needed that is not there.
    #[error("lake table {table} does not exist yet; it is made when its first rows come")]
    Missing {
        /// The table.
        table: TableName,
    },
    /// What a table is made of cannot be read.
    #[error(transparent)]
    Input(Arc<Error>),
    /// Another exporter writes the same table.
    #[error("another exporter has begun lake table {table}; going on from what it has")]
    Overtaken {
        /// The table.
        table: TableName,
    },
    /// A table has lost versions, or all that it had.
    #[error("lake table {table} has lost rows, as versions were torn or it was removed; they are read again")]
    Lost {
        /// The table.
        table: TableName,
    },
    /// A table was ready later than its rows say.
    #[error("lake table {table} was ready after the time from which its new rows count; they are made again")]
    Late {
        /// The table.
        table: TableName,
    },
    /// There is no such table, or no such version of it.
    #[error("the lake has no {what}; `omnimesh lake status` lists what it has")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// A tag may not be put there.
    #[error("the tag `{tag}` is not put: {reason}")]
    Tag {
        /// The tag.
        tag: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// There is no such entity in a table.
    #[error("table {table} has no entity {entity}: nothing is known of it, or not yet")]
    EntityNotFound {
        /// The entity.
        entity: String,
        /// The table.
        table: String,
    },
    /// The files of a text model cannot be used.
    #[error("the text model in {} cannot be used: {reason}; `make text-model` fetches one", path.display())]
    TextModel {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A table's vectors are those of a text model that is not there.
    #[error(
        "the text model {model_id} is not there, so texts cannot be searched for: configure `lake.text_model`"
    )]
    TextModelMissing {
        /// The model.
        model_id: String,
    },
    /// It is not known any more whether the features in memory are the newest ones.
    #[error("the lake has not been readable for too long to say what `{view}` is now")]
    FeaturesStale {
        /// Their view.
        view: &'static str,
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
    #[error("the query failed: {}", plain(.0))]
    Query(DataFusionError),
    /// An event does not make rows.
    #[error(
        "event {id} at {position} of its log makes no rows: {reason}; its table waits for a release that reads it"
    )]
    Event {
        /// The event.
        id: String,
        /// Where it is in the log.
        position: String,
        /// Why not.
        reason: String,
    },
    /// Columns of a table do not fit together.
    #[error("rows do not form a batch: {}", plain(.0))]
    Arrow(ArrowError),
    /// Rows do not fit into a Parquet file.
    #[error("rows do not form a Parquet file: {}", plain(.0))]
    Parquet(ParquetError),
    /// Events could not be understood.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The producer of events failed.
    #[error(transparent)]
    Peer(#[from] mesh::PeerError),
    /// The producer ended a stream that has no end.
    #[error("the domain {0} ended its stream of events")]
    StreamEnded(&'static str),
    /// Threads for queries could not be started.
    #[error("threads for queries cannot be started: {0}")]
    Threads(std::io::Error),
    /// Work on another thread was cut short.
    #[error("work on a table was cut short: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Error {
    /// The same, with the table that it is about unless it names one.
    pub(crate) fn of(self, table: &TableName) -> Self {
        match self {
            // Lance panics over files that are not as it wrote them.
            Self::Events(cause @ events::Error::Panicked(_)) => {
                Self::Table { table: table.clone(), action: "used", cause: Box::new(cause) }
            }
            Self::Files { .. }
            | Self::Place { .. }
            | Self::Query(_)
            | Self::Event { .. }
            | Self::Arrow(_)
            | Self::Parquet(_)
            | Self::Events(_)
            | Self::Interrupted(_) => Self::OfTable { table: table.clone(), cause: Box::new(self) },
            named => named,
        }
    }

    /// The same, with the event that it is about.
    pub(crate) fn of_event(self, event: &Event) -> Self {
        let reason = match self {
            named @ Self::Event { .. } => return named,
            // It names the event too.
            Self::Events(events::Error::Payload { r#type: kind, .. }) => format!("it does not hold a {kind}"),
            other => other.to_string(),
        };
        Self::Event { id: event.id.clone(), position: event.cursor.clone(), reason }
    }
}

// What these say goes into our own words: as sources they would be told again, as they are.

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::OfTable { cause, .. } => cause.code(),
            Self::Input(cause) => cause.code(),
            Self::Name { .. } | Self::Root(_) | Self::Invalid(_) | Self::Query(_) => Code::InvalidArgument,
            Self::NotFound { .. } | Self::EntityNotFound { .. } => Code::NotFound,
            Self::Missing { .. }
            | Self::Definition { .. }
            | Self::TextModelMissing { .. }
            | Self::Tag { .. } => Code::FailedPrecondition,
            Self::Erased { .. } => Code::Unavailable,
            Self::Events(error) => error.code(),
            Self::Peer(error) => error.code_for_caller(),
            Self::StreamEnded(_)
            | Self::FeaturesStale { .. }
            | Self::Overtaken { .. }
            | Self::Lost { .. }
            | Self::Late { .. } => Code::Unavailable,
            Self::Files { .. }
            | Self::TextModel { .. }
            | Self::Place { .. }
            | Self::Table { .. }
            | Self::Event { .. }
            | Self::Erasure(_)
            | Self::Denylist
            | Self::Arrow(_)
            | Self::Parquet(_)
            | Self::Threads(_)
            | Self::Interrupted(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::OfTable { cause, .. } => cause.reason(),
            Self::Input(cause) => cause.reason(),
            Self::Name { .. } | Self::Invalid(_) => "INVALID_REQUEST",
            Self::Query(_) => "QUERY_FAILED",
            Self::NotFound { .. } => "DATASET_NOT_FOUND",
            Self::Overtaken { .. } => "OVERTAKEN",
            Self::Lost { .. } => "LOST",
            Self::Late { .. } => "LATE",
            Self::Tag { .. } => "TAG",
            Self::EntityNotFound { .. } => "ENTITY_NOT_FOUND",
            Self::TextModel { .. } => "TEXT_MODEL",
            Self::TextModelMissing { .. } => "TEXT_MODEL_MISSING",
            Self::Missing { .. } => "DATASET_MISSING",
            Self::FeaturesStale { .. } => "FEATURES_STALE",
            Self::Definition { .. } => "DATASET_DEFINITION",
            Self::Erased { .. } => "DATASET_CHANGED",
            Self::Erasure(_) => "ERASURE_UNFINISHED",
            Self::Denylist => "DENYLIST",
            Self::Events(error) => error.reason(),
            Self::Peer(_) | Self::StreamEnded(_) => "PEER",
            Self::Root(_) => "ROOT_INVALID",
            Self::Files { .. } | Self::Place { .. } => "FILES",
            Self::Table { .. } => "TABLE",
            Self::Event { .. } => "EVENT",
            Self::Arrow(_) | Self::Parquet(_) => "ROWS",
            Self::Threads(_) => "THREADS",
            Self::Interrupted(_) => "INTERRUPTED",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::FeaturesStale { .. }).then_some(Duration::from_secs(1))
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::Invalid(invalid) => &invalid.violations,
            _ => &[],
        }
    }
}
