//! A domain's log: what it publishes, in commit order.

pub(crate) mod store;

use std::time::Duration;

use futures::Stream;
use omnimesh_proto::event::v1::Event;
use prost::Message;
use storage::{Database, Engine, Tx};
use tokio::sync::watch;
use types::Timestamp;

use crate::{Cursor, Error};

/// How long a follower waits before it looks for rows that another process may have written. Rows of this process
/// wake it at once.
const OTHER_PROCESS: Duration = Duration::from_millis(25);

/// What one event may hold, in bytes: with a run's bytes before it, it still fits into a message.
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(store::RUN_BYTES + MAX_EVENT_BYTES < mesh::MAX_MESSAGE_BYTES);

/// Something that happened, to be published.
#[derive(Debug)]
pub struct NewEvent {
    pub(crate) r#type: &'static str,
    pub(crate) subject: String,
    pub(crate) event_time: Timestamp,
    pub(crate) payload: Vec<u8>,
}

impl NewEvent {
    /// An event about `subject` (a resource name) that happened at `event_time`; `type` is the full name of `payload`.
    pub fn new(r#type: &'static str, subject: String, event_time: Timestamp, payload: &impl Message) -> Self {
        Self { r#type, subject, event_time, payload: payload.encode_to_vec() }
    }

    fn bytes(&self) -> usize {
        self.subject.len() + self.payload.len()
    }
}

/// A run of events.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events in commit order; empty at the log's end.
    pub events: Vec<Event>,
    /// Where to go on.
    pub cursor: Cursor,
}

/// A domain's log.
#[derive(Debug, Clone)]
pub struct Log {
    domain: &'static str,
    database: Database,
}

impl Log {
    /// The log in a domain's own database.
    pub async fn open(domain: &'static str, database: &Database) -> Result<Self, Error> {
        store::migrate(database).await?;
        store::check_cluster(database).await?;
        Ok(Self { domain, database: database.clone() })
    }

    /// The domain that it belongs to.
    pub fn domain(&self) -> &'static str {
        self.domain
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Writes events in the transaction of what they tell.
    pub async fn publish(&self, tx: &mut Tx, events: &[NewEvent]) -> Result<(), Error> {
        if let Some(event) = events.iter().find(|event| event.bytes() > MAX_EVENT_BYTES) {
            let (r#type, subject) = (event.r#type, event.subject.clone());
            return Err(Error::TooLarge { r#type, subject, bytes: event.bytes() });
        }
        store::publish(tx, events, Timestamp::now()).await
    }

    /// How far it can be read: nothing will ever come before this position. Who follows from here misses nothing, but
    /// on PostgreSQL an event that is already committed may still lie behind it.
    pub async fn head(&self) -> Result<Cursor, Error> {
        store::head(&self.database).await
    }

    /// The position after the last event that is committed: a reader that got there has seen whatever was committed
    /// before. Not a place to begin at, because a transaction that is still open may come before it.
    pub async fn committed(&self) -> Result<Cursor, Error> {
        store::committed(&self.database).await
    }

    /// The next run of events after `after`, of `types` if any are given.
    pub async fn read(&self, after: Cursor, types: &[String]) -> Result<Batch, Error> {
        store::read(&self.database, after, types).await
    }

    /// Every run of events after `after`; an empty one tells that the end was reached. Ends there unless `follow`.
    pub fn stream(
        &self,
        after: Cursor,
        types: Vec<String>,
        follow: bool,
    ) -> impl Stream<Item = Result<Batch, Error>> + Send + use<> {
        let log = self.clone();
        async_stream::try_stream! {
            let mut commits = log.database.commits();
            let mut cursor = after;
            loop {
                // Marked as seen before the read: a commit during the read wakes the wait after it.
                commits.mark_unchanged();
                let batch = log.read(cursor, &types).await?;
                let at_end = batch.events.is_empty();
                cursor = batch.cursor;
                yield batch;
                if at_end && !follow {
                    break;
                }
                while at_end && log.head().await? <= cursor {
                    log.more(&mut commits).await;
                }
            }
        }
    }

    async fn more(&self, commits: &mut watch::Receiver<u64>) {
        match self.database.engine() {
            // An error tells that the database was closed, which ends the reader's next query.
            Engine::Sqlite => drop(commits.changed().await),
            Engine::Postgres => drop(tokio::time::timeout(OTHER_PROCESS, commits.changed()).await),
        }
    }
}
