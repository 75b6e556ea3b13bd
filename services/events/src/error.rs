//! What can go wrong with events.

use mesh::{Code, PeerError, ServiceError};

use crate::MAX_EVENT_BYTES;

/// An event log that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no cursor of ours.
    #[error("`{0}` is no cursor: use one that this service returned")]
    CursorInvalid(String),
    /// This process does not host the domain.
    #[error("the domain `{0}` is not hosted here")]
    DomainNotHosted(String),
    /// An event's payload is not what its type says.
    #[error("event {id} does not hold a {type}")]
    Payload {
        /// The event.
        id: String,
        /// What it should hold.
        r#type: &'static str,
    },
    /// An event is larger than what can be read again.
    #[error(
        "{type} of {subject} has {bytes} bytes, {max} is the most: make what it tells of smaller",
        max = MAX_EVENT_BYTES
    )]
    TooLarge {
        /// What it tells.
        r#type: &'static str,
        /// What it is about.
        subject: String,
        /// How large it is.
        bytes: usize,
    },
    /// Somebody else moved the consumer's cursor meanwhile.
    #[error("another process consumes as `{0}`")]
    ConsumedElsewhere(&'static str),
    /// The consumer's own work on the events failed.
    #[error("the events could not be applied: {0}")]
    Handler(String),
    /// The log was restored from a dump of another PostgreSQL server.
    #[error(
        "the events in this database are of another PostgreSQL server, and what is written now would come before them: \
         stop the server, run `pg_resetwal --epoch={epoch}` on its data directory (or more, if another service asks \
         for more), and start it again"
    )]
    OtherCluster {
        /// Under which every transaction comes after the log's.
        epoch: i64,
    },
    /// The work on the events panicked.
    #[error("a panic, which is a defect: {0}")]
    Panicked(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The producer failed.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl ServiceError for Error {
    fn code(&self) -> Code {
        match self {
            Self::CursorInvalid(_) | Self::TooLarge { .. } => Code::InvalidArgument,
            Self::DomainNotHosted(_) => Code::NotFound,
            Self::Peer(_) => Code::Unavailable,
            Self::Payload { .. }
            | Self::ConsumedElsewhere(_)
            | Self::Handler(_)
            | Self::OtherCluster { .. }
            | Self::Panicked(_)
            | Self::Storage(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::CursorInvalid(_) => "CURSOR_INVALID",
            Self::DomainNotHosted(_) => "DOMAIN_NOT_HOSTED",
            Self::Peer(_) => "PEER_UNAVAILABLE",
            Self::Payload { .. } => "EVENT_PAYLOAD",
            Self::TooLarge { .. } => "EVENT_TOO_LARGE",
            Self::ConsumedElsewhere(_) => "CONSUMED_ELSEWHERE",
            Self::Handler(_) => "HANDLER",
            Self::OtherCluster { .. } => "OTHER_CLUSTER",
            Self::Panicked(_) => "PANICKED",
            Self::Storage(_) => "STORAGE",
        }
    }
}
