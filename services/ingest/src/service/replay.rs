//! Taking a quarantined record in again.

use events::Cursor;
use futures::TryStreamExt;

use super::Service;
use crate::{
    Error,
    domain::Quarantined,
    event::{self, Landed},
    landing::{Batch, Records},
    mapping::Parsed,
    peer::{self, Commands},
    source::{Entity, Source},
    store::{self, Origin},
    wire::Replay,
};

impl Service {
    /// Takes a record in again; returns how many commands came of it.
    pub(crate) async fn replay_quarantined_record(&self, replay: Replay) -> Result<i64, Error> {
        let mut tx = self.store.begin().await?;
        if let Some(answer) = tx.remembered(&replay.request).await? {
            return Ok(answer);
        }
        // Not held while the domains work: everyone else's transactions would wait.
        drop(tx);
        let record = self.get_quarantined_record(replay.id).await?;
        let source = &self.known(&record.system)?.source;
        let commands = self.commands(source, &record, replay.payload.as_deref()).await?;
        let count = commands.count() as i64;
        if let Some(reason) = self.domains.send(commands).await?.into_values().next() {
            return Err(Error::RecordStillBad(reason));
        }
        let mut tx = self.store.begin().await?;
        if let Some(answer) = tx.remembered(&replay.request).await? {
            return Ok(answer);
        }
        if !store::release(&mut tx, &record).await? {
            return Err(Error::RecordNotFound(record.id.to_string()));
        }
        self.publish_in(&mut tx, source).await?;
        tx.remember(&replay.request, &count).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// What the record becomes, with `payload` in place of its own if there is one.
    async fn commands(
        &self,
        source: &Source,
        record: &Quarantined,
        payload: Option<&str>,
    ) -> Result<Commands, Error> {
        if record.position == "0" {
            let advice = "it stands for a whole file; correct the file and run the source again";
            return Err(Error::RecordStillBad(advice.to_owned()));
        }
        let found = source.entities.iter().enumerate().find(|(_, entity)| entity.name == record.entity);
        let gone = || Error::RecordStillBad(format!("no entity `{}` is defined any more", record.entity));
        let (index, entity) = found.ok_or_else(gone)?;
        let payload = payload.unwrap_or(&record.payload);
        let parsed = entity.schema.parse(payload).map_err(Error::RecordStillBad)?;
        let batch = if entity.group_by.is_empty() {
            let mut records = Records::default();
            records.push(&record.position, payload);
            Batch::new(index, record.object.as_str().into(), 0, 0, records)
        } else {
            self.group(index, entity, record, payload, &parsed).await?
        };
        let mut commands = Commands::default();
        peer::map(&source.system, entity, &batch, 0, &mut commands);
        match commands.rejected.pop_first() {
            Some((_, reason)) => Err(Error::RecordStillBad(reason)),
            None => Ok(commands),
        }
    }

    /// The row together with the good ones of its group: the order is only whole with all of them. They are as they
    /// landed, in our own log.
    async fn group(
        &self,
        index: usize,
        entity: &Entity,
        record: &Quarantined,
        payload: &str,
        parsed: &Parsed<'_>,
    ) -> Result<Batch, Error> {
        let mut reader = self.store.reader().await?;
        let Origin { landed_after, revision } = store::origin(&mut reader, record).await?;
        let bad = store::quarantined_positions(&mut reader, record).await?;
        drop(reader);
        let after: Cursor = landed_after.parse()?;
        let mut runs = Box::pin(self.log.stream(after, vec![event::RECORDS_LANDED.to_owned()], false));
        while let Some(run) = runs.try_next().await? {
            for event in run.events {
                let landed = Landed::decode(&event)?;
                if (&landed.system, &landed.entity, &landed.object) != (&record.system, &record.entity, &record.object)
                {
                    continue;
                }
                let batch = landed.batch(index, revision)?;
                let Some(at) = (0..batch.len()).find(|at| batch.position(*at) == record.position) else { continue };
                let keep = |row: usize| {
                    row == at
                        || !bad.iter().any(|position| position == batch.position(row))
                            && entity.schema.parse(batch.payload(row)).is_ok_and(|row| {
                                entity.group_by.iter().all(|field| row.column(*field) == parsed.column(*field))
                            })
                };
                return Ok(batch.edited(keep, (at, payload)));
            }
        }
        Err(Error::RecordStillBad("the rows beside it are no longer kept; correct the file instead".to_owned()))
    }
}
