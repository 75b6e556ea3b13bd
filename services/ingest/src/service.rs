//! The use cases, one for each RPC.

mod replay;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use events::{Begin, Log};
use futures::Stream;
use storage::Tx;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use types::Timestamp;
use uuid::Uuid;

use crate::{
    Error,
    domain::{EntityState, Progress, Quarantined, SourceState},
    event::{self, SourceChange},
    peer::Domains,
    run::Run,
    source::Source,
    store::{self, Store},
    wire::{Listing, SourceListing},
};

/// Between two messages about a run.
const PROGRESS: Duration = Duration::from_millis(100);

/// The ingest service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    sources: Arc<BTreeMap<String, Known>>,
    store: Store,
    log: Log,
    domains: Domains,
}

#[derive(Debug)]
struct Known {
    source: Arc<Source>,
    /// Held by the one run that may be under way.
    running: Arc<Mutex<()>>,
}

impl Service {
    pub(crate) fn new(sources: Vec<Source>, store: Store, log: Log, domains: Domains) -> Self {
        let known = |source: Source| {
            (source.system.clone(), Known { source: Arc::new(source), running: Arc::default() })
        };
        Self { sources: Arc::new(sources.into_iter().map(known).collect()), store, log, domains }
    }

    fn known(&self, system: &str) -> Result<&Known, Error> {
        self.sources.get(system).ok_or_else(|| Error::SourceNotFound(system.to_owned()))
    }

    /// Runs for as long as somebody reads the stream. A run that nobody reads any more ends what it is at; the next one
    /// takes it up.
    pub(crate) fn run_source(
        &self,
        system: &str,
    ) -> Result<impl Stream<Item = Result<Progress, Error>> + Send + use<>, Error> {
        let known = self.known(system)?;
        let held = Arc::clone(&known.running).try_lock_owned();
        let held = held.map_err(|_| Error::RunInProgress(system.to_owned()))?;
        let (progress, mut watched) = watch::channel(Progress::default());
        let source = Arc::clone(&known.source);
        let (store, log, domains) = (self.store.clone(), self.log.clone(), self.domains.clone());
        let stop = CancellationToken::new();
        let unread = stop.clone().drop_guard();
        let run = Run::new(source, store, log, domains, progress, stop);
        let service = self.clone();
        let mut ended = tokio::spawn(async move {
            let _held = held;
            let outcome = run.go().await;
            service.publish(&run.source).await?;
            outcome
        });
        Ok(async_stream::try_stream! {
            let _unread = unread;
            let outcome = loop {
                tokio::select! {
                    outcome = &mut ended => break outcome,
                    () = tokio::time::sleep(PROGRESS) => {}
                }
                if watched.has_changed().unwrap_or(false) {
                    let now = watched.borrow_and_update().clone();
                    yield now;
                }
            };
            outcome??;
            let last = watched.borrow().clone();
            yield Progress { done: true, ..last };
        })
    }

    /// Tells what a source has come to, unless that was told before.
    async fn publish(&self, source: &Source) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        self.publish_in(&mut tx, source).await?;
        Ok(tx.commit().await?)
    }

    async fn publish_in(&self, tx: &mut Tx, source: &Source) -> Result<(), Error> {
        let now = Timestamp::now();
        let state = complete(source, store::get_source(tx.connection()?, &source.system).await?);
        if store::touch_source(tx, &source.system, &state.counts(), now).await? {
            let state = SourceState { update_time: Some(now), ..state };
            self.log.publish(tx, &[event::source_changed(state, now)]).await?;
        }
        Ok(())
    }

    async fn state(&self, source: &Source) -> Result<SourceState, Error> {
        let mut reader = self.store.reader().await?;
        Ok(complete(source, store::get_source(&mut reader, &source.system).await?))
    }

    pub(crate) async fn get_source(&self, system: &str) -> Result<SourceState, Error> {
        let known = self.known(system)?;
        self.state(&known.source).await
    }

    pub(crate) async fn list_sources(
        &self,
        listing: &SourceListing,
    ) -> Result<(Vec<SourceState>, String), Error> {
        let SourceListing { page, conditions, descending } = listing;
        let after = page.after.as_ref().and_then(|key| key.first());
        let is_due = |source: &&Arc<Source>| {
            after.is_none_or(|after| (source.system > *after) != *descending && source.system != *after)
                && conditions.iter().all(|condition| condition.holds(source.connector.name()))
        };
        let mut due: Vec<_> = self.sources.values().map(|known| &known.source).filter(is_due).collect();
        if *descending {
            due.reverse();
        }
        let mut sources = Vec::new();
        for source in due.into_iter().take(page.size + 1) {
            sources.push(self.state(source).await?);
        }
        Ok(page.cut(sources, |source| vec![source.system.clone()]))
    }

    pub(crate) async fn get_quarantined_record(&self, id: Uuid) -> Result<Quarantined, Error> {
        let record = self.store.get_quarantined_record(id).await?;
        record.ok_or_else(|| Error::RecordNotFound(id.to_string()))
    }

    pub(crate) async fn list_quarantined_records(
        &self,
        mut listing: Listing,
    ) -> Result<(Vec<Quarantined>, String), Error> {
        let records = self.store.list_quarantined_records(&mut listing.page, &listing.conditions).await?;
        let key = |record: &Quarantined| vec![record.create_time.micros().to_string(), record.id.to_string()];
        Ok(listing.page.cut(records, key))
    }

    /// Streams changes of sources.
    pub(crate) async fn watch_sources(
        &self,
        begin: Begin,
    ) -> Result<impl Stream<Item = Result<SourceChange, Error>> + Send + use<>, Error> {
        // Before the first answer: a caller that has it misses nothing from then on.
        let after = begin.position(&self.log).await?;
        let service = self.clone();
        Ok(async_stream::try_stream! {
            if matches!(begin, Begin::WithInitial) {
                for known in service.sources.values() {
                    yield SourceChange::Initial(service.state(&known.source).await?, after);
                }
            }
            for await change in event::watch(&service.log, after) {
                yield change?;
            }
        })
    }
}

/// What a source has come to, with every entity that is defined.
fn complete(source: &Source, (mut found, update_time): (Vec<EntityState>, Option<Timestamp>)) -> SourceState {
    let mut entities = Vec::new();
    for entity in &source.entities {
        let at = found.iter().position(|state| state.entity == entity.name);
        let none = || EntityState { entity: entity.name.clone(), ..EntityState::default() };
        entities.push(at.map_or_else(none, |at| found.swap_remove(at)));
    }
    SourceState { system: source.system.clone(), connector: source.connector.name(), entities, update_time }
}
