//! The one loop that fills every table: read a run of events, batch, commit, advance.
//!
//! A table that cannot be written is set aside, and has its turn now and then: what it lacks is read again for it alone,
//! for no longer than the others had before. These go on from where they are.

mod pending;
mod tables;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, future, sync::Arc, time::Duration};

use events::{Cursor, Position};
use futures::StreamExt;
use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError};
use omnimesh_proto::event::v1::{
    StreamEventsRequest, StreamEventsResponse, event_service_client::EventServiceClient,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
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
            self.follow(&mut tables).await?;
            for _ in 0..tables.begin_turns() {
                if tables.begin_turn().await {
                    self.follow(&mut tables).await?;
                }
                tables.end_turn().await;
            }
            tables.end_turns();
        }
    }

    /// Exports until the turn is over: that of the others, or that of a table that was set aside.
    async fn follow(&self, tables: &mut Tables<'_>) -> Result<(), Error> {
        let peer = |status| PeerError::new(events::SERVICE, status);
        let mut client =
            EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut cursor = tables.position();
        let mut runs = client.stream_events(self.request(cursor)).await.map_err(peer)?.into_inner();
        let mut pending = Pending::default();
        loop {
            // Nobody is to rely on rows that others still take for lost.
            if !tables.is_marked() {
                self.position.send_replace(tables.settled());
            }
            if pending.events.is_empty() && tables.is_over(cursor) {
                return Ok(());
            }
            let is_idle = tables.is_idle();
            let run = async {
                match is_idle {
                    true => future::pending().await,
                    false => runs.next().await,
                }
            };
            let deadline = self.deadline(&pending);
            let deadline = tables.until().map_or(deadline, |until| until.min(deadline));
            let run = timeout_at(deadline, run).await;
            match run {
                Ok(Some(run)) => cursor = self.hold(run.map_err(peer)?, tables, &mut pending)?,
                Ok(None) => return Err(Error::StreamEnded(self.source.domain)),
                Err(_) => pending.is_due = true,
            }
            let is_full = pending.rows >= ROWS || pending.bytes >= self.buffer_bytes;
            if is_full || pending.is_due || pending.events.is_empty() || tables.is_over(cursor) {
                let at_end = pending.at_end;
                tables.commit(std::mem::take(&mut pending), cursor).await;
                if at_end {
                    tables.caught_up().await;
                }
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
            if tables.waits(&event.subject, at) {
                continue;
            }
            match self.table.route(&event) {
                Ok(route) if tables.lacks(&route.table, at) => pending.push(route, event, at),
                Ok(_) => {}
                Err(error) => tables.pass_over(&event, error),
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
