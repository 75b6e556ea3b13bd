//! The one loop that fills every table: read a run of events, batch, commit, advance.
//!
//! A table that cannot be written is set aside, and tried again now and then; what is exported to the others goes on.

mod pending;
mod tables;

use std::{convert::Infallible, sync::Arc, time::Duration};

use events::{Cursor, Position};
use futures::StreamExt;
use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError};
use omnimesh_proto::event::v1::{
    StreamEventsRequest, StreamEventsResponse, event_service_client::EventServiceClient,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    Config, Error,
    dataset::Store,
    table::{Source, Table},
};
use pending::Pending;
use tables::Tables;

/// Between two attempts: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Rows that are committed at once, roughly: Lance holds them in memory while it merges.
const ROWS: usize = 50_000;

/// Exports the events of one [`Table`].
pub(crate) struct Exporter {
    table: &'static dyn Table,
    source: &'static Source,
    store: Arc<Store>,
    channel: Channel,
    linger: Duration,
    quiet: Duration,
    buffer_bytes: usize,
    position: watch::Sender<Cursor>,
}

impl Exporter {
    pub(crate) fn new(
        table: &'static dyn Table,
        config: &Config,
        store: Arc<Store>,
        channel: Channel,
    ) -> Self {
        Self {
            table,
            source: table.source(),
            store,
            channel,
            linger: config.linger(),
            quiet: config.quiet(),
            buffer_bytes: config.buffer_bytes(),
            position: watch::Sender::new(Cursor::START),
        }
    }

    /// Follows how far it is: everything up to there is on disk.
    pub(crate) fn position(&self) -> Position {
        Position {
            consumer: self.source.consumer,
            domain: self.source.domain,
            cursor: self.position.subscribe(),
        }
    }

    /// Exports; whatever fails is logged and tried again. Dropped in the middle of a commit, the commit never happened
    /// and its events come again.
    pub(crate) async fn run(self) -> Infallible {
        let mut retry = RETRY_FIRST;
        loop {
            let before = *self.position.borrow();
            let Err(error) = events::caught(self.export()).await;
            if *self.position.borrow() > before {
                retry = RETRY_FIRST;
            }
            tracing::warn!(consumer = self.source.consumer, %error, ?retry, "exporting stopped; trying again");
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_LONGEST);
        }
    }

    async fn export(&self) -> Result<Infallible, Error> {
        let mut tables = Tables::open(&self.store, self.table).await?;
        loop {
            self.position.send_replace(tables.settled());
            self.follow(&mut tables).await?;
            tables.mend().await;
        }
    }

    /// Exports until a table that was set aside is to be tried again.
    async fn follow(&self, tables: &mut Tables<'_>) -> Result<(), Error> {
        let peer = |status| PeerError::new(events::SERVICE, status);
        let mut client =
            EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut cursor = tables.settled();
        let mut runs = client.stream_events(self.request(cursor)).await.map_err(peer)?.into_inner();
        let mut pending = Pending::default();
        loop {
            let again = tables.again();
            if let Some(again) = again.filter(|_| tables.has_no_other()) {
                sleep_until(again).await;
                return Ok(());
            }
            let deadline = self.deadline(&pending);
            let deadline = again.map_or(deadline, |again| again.min(deadline));
            match timeout_at(deadline, runs.next()).await {
                Ok(Some(run)) => cursor = self.hold(run.map_err(peer)?, tables, &mut pending)?,
                Ok(None) => return Err(Error::StreamEnded(self.source.domain)),
                Err(_) => pending.is_due = true,
            }
            let is_over = again.is_some_and(|again| again <= Instant::now());
            if is_over || pending.is_due || pending.rows >= ROWS || pending.bytes >= self.buffer_bytes {
                tables.commit(std::mem::take(&mut pending), cursor).await;
            }
            if is_over {
                return Ok(());
            }
            if pending.events.is_empty() && tables.settle(cursor) {
                self.position.send_replace(cursor);
            }
        }
    }

    fn request(&self, after: Cursor) -> StreamEventsRequest {
        StreamEventsRequest {
            domain: self.source.domain.to_owned(),
            after_cursor: after.to_string(),
            types: vec![self.source.event_type.to_owned()],
            follow: true,
        }
    }

    /// Keeps a run's events for their tables; returns the position after it.
    fn hold(
        &self,
        run: StreamEventsResponse,
        tables: &mut Tables<'_>,
        pending: &mut Pending,
    ) -> Result<Cursor, Error> {
        pending.at_end = run.events.is_empty();
        for event in run.events {
            let at = event.cursor.parse::<Cursor>()?;
            match self.table.route(&event) {
                Ok(route) if tables.lacks(&route.table, at) => pending.push(route, event),
                Ok(_) => {}
                Err(error) => tables.set_aside(None, error.of_event(&event), at),
            }
        }
        Ok(run.cursor.parse()?)
    }

    /// When to commit what is pending, whatever else may come.
    fn deadline(&self, pending: &Pending) -> Instant {
        let now = Instant::now();
        let linger = match pending.since {
            Some(since) => since + self.linger,
            // Nothing to commit: the stream alone wakes us.
            None => return now + Duration::from_secs(3600),
        };
        if pending.at_end { linger.min(now + self.quiet) } else { linger }
    }
}
