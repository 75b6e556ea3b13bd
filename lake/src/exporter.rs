//! The one loop that fills every table: read a run of events, batch, commit, advance.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use events::{Cursor, Event, Position};
use futures::StreamExt;
use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError};
use omnimesh_proto::event::v1::{
    StreamEventsRequest, StreamEventsResponse, event_service_client::EventServiceClient,
};
use prost::{Message, bytes::Bytes};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    Config, Error, TableName,
    dataset::{self, Progress, Store},
    table::{Route, Source, Table},
};

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
        self.position.send_replace(tables.settled);
        let peer = |status| PeerError::new(events::SERVICE, status);
        let mut client =
            EventServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut runs = client.stream_events(self.request(tables.settled)).await.map_err(peer)?.into_inner();
        let mut pending = Pending::default();
        let mut cursor = tables.settled;
        loop {
            match timeout_at(self.deadline(&pending), runs.next()).await {
                Ok(Some(run)) => cursor = self.hold(run.map_err(peer)?, &tables, &mut pending)?,
                Ok(None) => return Err(Error::StreamEnded(self.source.domain)),
                Err(_) => pending.is_due = true,
            }
            if pending.is_due || pending.rows >= ROWS || pending.bytes >= self.buffer_bytes {
                tables.commit(std::mem::take(&mut pending), cursor).await?;
            }
            if pending.events.is_empty() {
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

    /// Puts a run's events aside for their tables; returns the position after it.
    fn hold(
        &self,
        run: StreamEventsResponse,
        tables: &Tables<'_>,
        pending: &mut Pending,
    ) -> Result<Cursor, Error> {
        pending.at_end = run.events.is_empty();
        for event in run.events {
            let route = self.table.route(&event)?;
            if event.cursor.parse::<Cursor>()? > tables.cursor(&route.table) {
                pending.push(route, event);
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

/// Events that wait for a commit.
#[derive(Default)]
struct Pending {
    /// By table and key, with their rank.
    events: BTreeMap<TableName, BTreeMap<String, (i64, Event)>>,
    rows: usize,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// Whether the log had no more.
    at_end: bool,
    is_due: bool,
}

impl Pending {
    fn push(&mut self, route: Route, mut event: Event) {
        let held = self.events.entry(route.table).or_default();
        if held.get(&route.key).is_some_and(|(rank, _)| *rank > route.rank) {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += held_bytes(&event);
        // As it came, it is a slice that keeps its whole run in memory.
        event.payload = Bytes::copy_from_slice(&event.payload);
        match held.insert(route.key, (route.rank, event)) {
            Some((_, outdated)) => self.bytes -= held_bytes(&outdated),
            None => self.rows += route.rows,
        }
    }
}

fn held_bytes(event: &Event) -> usize {
    size_of::<Event>() + event.encoded_len()
}

/// The tables that an exporter writes, and how far each is.
struct Tables<'a> {
    store: &'a Store,
    table: &'static dyn Table,
    open: HashMap<TableName, (dataset::Table, Cursor)>,
    /// All of them are at least here. Only the last commit of a round can say so: a table that a crash kept from being
    /// made has no cursor that could hold the others back.
    settled: Cursor,
}

impl<'a> Tables<'a> {
    async fn open(store: &'a Store, table: &'static dyn Table) -> Result<Self, Error> {
        let mut tables = Self { store, table, open: HashMap::new(), settled: Cursor::START };
        let mut is_torn = false;
        for name in store.names().await?.into_iter().filter(|name| table.owns(name)) {
            let dataset = store.open(name.clone()).await?;
            let progress = dataset.progress(table.source().domain).await?;
            is_torn |= dataset.was_torn();
            tables.settled = tables.settled.max(progress.settled);
            tables.open.insert(name, (dataset, progress.cursor));
        }
        if is_torn {
            // What the others say no longer holds for the table that lost versions.
            tables.settled = Cursor::START;
        }
        Ok(tables)
    }

    /// Up to where a table has its events.
    fn cursor(&self, name: &TableName) -> Cursor {
        self.open.get(name).map_or(Cursor::START, |(_, cursor)| *cursor)
    }

    /// Commits what is pending, which is everything up to `cursor`. A table that fails keeps no other from its rows.
    async fn commit(&mut self, pending: Pending, cursor: Cursor) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut left = pending.events.len();
        for (name, events) in pending.events {
            left -= 1;
            let settled = if left == 0 && outcome.is_ok() { cursor } else { self.settled };
            let events = events.into_values().map(|(_, event)| event).collect();
            outcome = outcome.and(self.commit_table(name, events, Progress { cursor, settled }).await);
        }
        outcome?;
        self.settled = cursor;
        Ok(())
    }

    async fn commit_table(
        &mut self,
        name: TableName,
        events: Vec<Event>,
        progress: Progress,
    ) -> Result<(), Error> {
        let turn = self.store.turn().await?;
        let table = self.table;
        let change = tokio::task::spawn_blocking(move || table.change(events)).await??;
        if !self.open.contains_key(&name) {
            let dataset = self.store.open(name.clone()).await?;
            if dataset.dataset().is_some() {
                // Another exporter has made it meanwhile: what it has from the events must not come again.
                return Err(Error::Overtaken { table: name });
            }
            self.open.insert(name.clone(), (dataset, Cursor::START));
        }
        if let Some((dataset, cursor)) = self.open.get_mut(&name) {
            dataset.commit(&turn, change, progress.properties(table.source().domain), &table.card()).await?;
            *cursor = progress.cursor;
        }
        Ok(())
    }
}
