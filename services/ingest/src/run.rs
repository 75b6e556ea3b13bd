//! A run over a source: connector → land → map → send → settle, each step ahead of the next by a portion or two.
//!
//! Landing writes the records (as events) and how far the source is read in one transaction. Settling writes what came
//! of them in one transaction, after the domains have acknowledged. Whatever landed and was not settled is read back
//! from our own log first; a domain that has it already finds it unchanged.

use std::{collections::HashMap, sync::Arc};

use events::{Cursor, Log};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::Timestamp;

use crate::{
    Error,
    connector::{self, End, Sink},
    domain::{Progress, Quarantined, Settled},
    event,
    landing::{Batch, Portion},
    peer::{self, Commands, Domains, Rejected},
    source::Source,
    store::{self, Store},
};

/// Portions that wait between two steps.
const AHEAD: usize = 2;

/// Everything that a run needs.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) source: Arc<Source>,
    store: Store,
    log: Log,
    domains: Domains,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
    /// Those that run beside the pipeline. None is broken off in the middle of a transaction or a call.
    steps: TaskTracker,
}

impl Run {
    pub(crate) fn new(
        source: Arc<Source>,
        store: Store,
        log: Log,
        domains: Domains,
        progress: watch::Sender<Progress>,
        stop: CancellationToken,
    ) -> Self {
        Self { source, store, log, domains, progress, stop, steps: TaskTracker::new() }
    }

    /// Reads, lands and applies what is new. Told to stop, it begins nothing more and ends what it is at.
    pub(crate) async fn go(&self) -> Result<(), Error> {
        let outcome = self.recover().await;
        let outcome =
            if outcome.is_ok() && !self.stop.is_cancelled() { self.take_in().await } else { outcome };
        // A failed run may have steps under way, and the next run has to find what they came to.
        self.steps.close();
        self.steps.wait().await;
        outcome
    }

    async fn take_in(&self) -> Result<(), Error> {
        let (portions, mut waiting) = mpsc::channel(AHEAD);
        let mut known = Vec::new();
        for entity in &self.source.entities {
            known.push(self.store.known(&self.source.system, &entity.name).await?);
        }
        let sink = Sink::new(portions, self.progress.clone());
        let reading = self.steps.spawn(connector::read(Arc::clone(&self.source), known, sink));
        let landed = async_stream::try_stream! {
            while let Some(portion) = waiting.recv().await {
                // A task of its own: this stream is not polled while a portion is settled, and a landing that stood
                // still in its transaction would keep the settling from ever beginning one.
                let run = self.clone();
                yield self.steps.spawn(async move { run.land(portion).await }).await??;
            }
        };
        let applied = self.apply(landed).await;
        let read = reading.await?;
        applied?;
        match read {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Failed(error)) => Err(error),
        }
    }

    async fn land(&self, portion: Portion) -> Result<Vec<Batch>, Error> {
        let now = Timestamp::now();
        let system = &self.source.system;
        let names: Vec<&str> = self.source.entities.iter().map(|entity| entity.name.as_str()).collect();
        let events: Vec<_> = portion
            .batches
            .iter()
            .zip(&portion.streams)
            .map(|(batch, stream)| {
                let entity = &self.source.entities[batch.entity];
                event::records_landed(system, entity, batch, stream, now)
            })
            .collect();
        let head = self.log.head().await?.to_string();
        let mut tx = self.store.begin().await?;
        self.log.publish(&mut tx, &events).await?;
        store::land(&mut tx, system, &names, &portion.checkpoints, &head).await?;
        // A failed object has one batch, of its one record.
        let mut failed = HashMap::new();
        for checkpoint in &portion.checkpoints {
            if let Some(reason) = &checkpoint.failure {
                failed.insert((checkpoint.entity, Arc::clone(&checkpoint.object)), reason.clone());
            }
        }
        let (bad, batches): (Vec<_>, Vec<_>) = portion
            .batches
            .into_iter()
            .partition(|batch| failed.contains_key(&(batch.entity, Arc::clone(&batch.object))));
        let quarantined: Vec<_> = bad
            .iter()
            .map(|batch| {
                let reason = failed.get(&(batch.entity, Arc::clone(&batch.object))).cloned();
                self.quarantined(batch, 0, reason.unwrap_or_default(), now)
            })
            .collect();
        store::quarantine(&mut tx, &quarantined).await?;
        tx.commit().await?;
        self.progress.send_modify(|progress| {
            progress.objects +=
                portion.checkpoints.iter().filter(|checkpoint| checkpoint.complete).count() as i64;
            progress.quarantined += quarantined.len() as i64;
            if let Some(last) = portion.checkpoints.last() {
                names[last.entity].clone_into(&mut progress.entity);
            }
        });
        Ok(batches)
    }

    /// Maps, sends and settles portions of landed batches, in their order.
    async fn apply(&self, landed: impl Stream<Item = Result<Vec<Batch>, Error>>) -> Result<(), Error> {
        let sent = landed
            .take_until(self.stop.cancelled())
            .map_ok(|batches| {
                let source = Arc::clone(&self.source);
                let mapping = self.steps.spawn_blocking(move || map(&source, batches));
                async move { Ok::<_, Error>(mapping.await?) }
            })
            .try_buffered(AHEAD)
            .map_ok(|(batches, commands)| {
                let domains = self.domains.clone();
                let sending = self.steps.spawn(async move { domains.send(commands).await });
                async move { Ok((batches, sending.await??)) }
            })
            .try_buffered(AHEAD);
        sent.try_for_each(|(batches, rejected)| self.settle(batches, rejected)).await
    }

    async fn settle(&self, batches: Vec<Batch>, rejected: Rejected) -> Result<(), Error> {
        let now = Timestamp::now();
        let mut settled: Vec<Settled> = Vec::new();
        let mut bad = vec![0_i64; batches.len()];
        for (batch, _) in rejected.keys() {
            bad[*batch] += 1;
        }
        for (batch, quarantined) in batches.iter().zip(bad) {
            let entity = &self.source.entities[batch.entity].name;
            let applied = batch.len() as i64 - quarantined;
            match settled
                .iter_mut()
                .rev()
                .take(1)
                .find(|last| last.entity == *entity && *last.object == *batch.object)
            {
                Some(last) => {
                    last.applied += applied;
                    last.quarantined += quarantined;
                    last.applied_to = batch.first_position;
                }
                None => settled.push(Settled {
                    entity: entity.clone(),
                    object: batch.object.to_string(),
                    applied,
                    quarantined,
                    applied_to: batch.first_position,
                }),
            }
        }
        let quarantined: Vec<_> = rejected
            .into_iter()
            .map(|((batch, record), reason)| self.quarantined(&batches[batch], record, reason, now))
            .collect();
        let mut tx = self.store.begin().await?;
        store::settle(&mut tx, &self.source.system, &settled, &quarantined).await?;
        tx.commit().await?;
        self.progress.send_modify(|progress| {
            progress.applied += settled.iter().map(|object| object.applied).sum::<i64>();
            progress.quarantined += quarantined.len() as i64;
        });
        Ok(())
    }

    fn quarantined(&self, batch: &Batch, record: usize, reason: String, now: Timestamp) -> Quarantined {
        let (system, entity) = (&self.source.system, &self.source.entities[batch.entity].name);
        let position = batch.position(record);
        Quarantined {
            id: Quarantined::id(system, entity, &batch.object, position),
            system: system.clone(),
            entity: entity.clone(),
            object: batch.object.to_string(),
            position: position.to_owned(),
            payload: batch.payload(record).to_owned(),
            reason,
            create_time: now,
        }
    }

    /// Applies what landed in an earlier run that broke off.
    async fn recover(&self) -> Result<(), Error> {
        let mut unsettled = HashMap::new();
        for object in self.store.unsettled(&self.source.system).await? {
            let after: Cursor = object.landed_after.parse()?;
            unsettled.insert((object.entity.clone(), object.object.clone()), (after, object));
        }
        let Some(start) = unsettled.values().map(|(after, _)| *after).min() else { return Ok(()) };
        let landed = event::landed(&self.log, start).map(|landed| {
            let mut batches = Vec::new();
            for landed in landed? {
                let entity = self.source.entities.iter().position(|entity| entity.name == landed.entity);
                let object = unsettled.get(&(landed.entity.clone(), landed.object.clone()));
                // What landed before the object became another is of no concern any more.
                if let (Some(entity), Some((after, object))) = (entity, object)
                    && landed.system == self.source.system
                    && landed.cursor > *after
                    && landed.first_position > object.applied_to
                {
                    batches.push(landed.batch(entity, object.revision)?);
                }
            }
            Ok(batches)
        });
        self.apply(landed).await
    }
}

fn map(source: &Source, batches: Vec<Batch>) -> (Vec<Batch>, Commands) {
    let mut commands = Commands::default();
    for (index, batch) in batches.iter().enumerate() {
        peer::map(&source.system, &source.entities[batch.entity], batch, index, &mut commands);
    }
    (batches, commands)
}
