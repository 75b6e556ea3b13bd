//! A reader of another domain's log that applies every event exactly once.

use std::{convert::Infallible, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, StreamExt};
use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError, panic_text};
use omnimesh_proto::event::v1::{Event, StreamEventsRequest, event_service_client::EventServiceClient};
use storage::{Database, Tx};
use tokio::sync::watch;

use crate::{Cursor, Error, Position, SERVICE, log::store};

/// Between two attempts to reach a producer that does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// What a consumer does with events.
pub trait Handler: Send + Sync + 'static {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync;

    /// Derives from `events` inside `tx`, which also moves the cursor: all of it happens once or not at all.
    fn handle(&self, tx: &mut Tx, events: Vec<Event>)
    -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A reader of a domain's log.
#[derive(Debug)]
pub struct Consumer {
    name: &'static str,
    domain: &'static str,
    types: Vec<String>,
    channel: Channel,
    database: Database,
    position: watch::Sender<Cursor>,
}

impl Consumer {
    /// The consumer `name` of `domain`'s events of `types`, reached by `channel`; its cursor is in `database`.
    pub async fn open(
        name: &'static str,
        domain: &'static str,
        types: &[&'static str],
        channel: Channel,
        database: &Database,
    ) -> Result<Self, Error> {
        store::migrate(database).await?;
        let position = watch::Sender::new(store::cursor(database, name).await?);
        let types = types.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { name, domain, types, channel, database: database.clone(), position })
    }

    /// Follows how far it is.
    pub fn position(&self) -> Position {
        Position { consumer: self.name, domain: self.domain, cursor: self.position.subscribe() }
    }

    /// Consumes; whatever fails is logged and tried again. Dropped in the middle of a batch, the transaction never
    /// happened and the batch comes again.
    pub(crate) async fn run(self, handler: impl Handler) -> Infallible {
        loop {
            if let Err(error) = caught(self.consume(&handler)).await {
                tracing::warn!(consumer = self.name, domain = self.domain, %error, "consuming stopped; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn consume(&self, handler: &impl Handler) -> Result<(), Error> {
        let mut cursor = store::cursor(&self.database, self.name).await?;
        let mut client =
            EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = StreamEventsRequest {
            domain: self.domain.to_owned(),
            after_cursor: cursor.to_string(),
            types: self.types.clone(),
            follow: true,
        };
        let peer = |status| PeerError::new(SERVICE, status);
        let mut batches = client.stream_events(request).await.map_err(peer)?.into_inner();
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(peer)?;
            let next: Cursor = batch.cursor.parse()?;
            if !batch.events.is_empty() {
                let mut tx = self.database.begin().await?;
                let failed = |error: &dyn std::error::Error| Error::Handler(error.to_string());
                handler.handle(&mut tx, batch.events).await.map_err(|error| failed(&error))?;
                if !store::advance(&mut tx, self.name, cursor, next).await? {
                    return Err(Error::ConsumedElsewhere(self.name));
                }
                tx.commit().await?;
                cursor = next;
            }
            // At the log's end the position runs ahead of the stored cursor, over events of other types.
            self.position.send_replace(next);
        }
        Ok(())
    }
}

/// Does `work`; that it panicked is an error like any other, which is told and tried again.
pub fn caught<T, E: From<Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    // On the heap, as it may be large. What the work left half done is dropped with it, or is rolled back.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async {
        work.await.unwrap_or_else(|panic| Err(Error::Panicked(panic_text(panic.as_ref()).to_owned()).into()))
    }
}
