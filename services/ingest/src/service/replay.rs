//! Taking a quarantined record in again.

use futures::TryStreamExt;
use types::Request;

use super::Service;
use crate::{
    Error,
    domain::{Quarantined, WHOLE_OBJECT},
    event,
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
        let found = self.get_quarantined_record(replay.id).await;
        // Not before: this very request may have just taken it in.
        if let Some(answer) = self.answer(&replay.request).await? {
            return Ok(answer);
        }
        let system = found?.system;
        let known = self.known(&system)?;
        // A run may forget the record, and another replay may be at its order: one after the other.
        let _alone = known.running.lock().await;
        // It may have been at this very request.
        if let Some(answer) = self.answer(&replay.request).await? {
            return Ok(answer);
        }
        let record = self.get_quarantined_record(replay.id).await?;
        if record.position == WHOLE_OBJECT {
            let advice = "it stands for a whole file; correct the file and run the source again";
            return Err(Error::RecordStillBad(advice.to_owned()));
        }
        let payload = replay.payload.as_deref().unwrap_or(&record.payload);
        // Noted before it is used: whatever becomes of this attempt, the next one is newer.
        let mut tx = self.store.begin().await?;
        let origin = store::revise(&mut tx, &record).await?;
        let origin = origin.ok_or_else(|| Error::RecordNotFound(record.id.to_string()))?;
        tx.commit().await?;
        let commands = self.commands(&known.source, &record, payload, &origin).await?;
        let count = commands.count() as i64;
        if let Some(reason) = self.domains.send(commands).await?.into_values().next() {
            return Err(Error::RecordStillBad(reason));
        }
        let mut tx = self.store.begin().await?;
        if !store::release(&mut tx, &record, payload).await? {
            return Err(Error::RecordNotFound(record.id.to_string()));
        }
        self.publish_in(&mut tx, &known.source).await?;
        tx.remember(&replay.request, &count).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// What was answered to this request before.
    async fn answer(&self, request: &Request) -> Result<Option<i64>, Error> {
        Ok(self.store.begin().await?.remembered(request).await?)
    }

    /// What the record becomes with `payload`.
    async fn commands(
        &self,
        source: &Source,
        record: &Quarantined,
        payload: &str,
        origin: &Origin,
    ) -> Result<Commands, Error> {
        let found = source.entities.iter().enumerate().find(|(_, entity)| entity.name == record.entity);
        let gone = || Error::RecordStillBad(format!("no entity `{}` is defined any more", record.entity));
        let (index, entity) = found.ok_or_else(gone)?;
        let parsed = entity.schema.parse(payload).map_err(Error::RecordStillBad)?;
        let mut records = Records::default();
        if entity.group_by.is_empty() {
            records.push(&record.position, payload);
        } else {
            records = self.group(index, entity, record, (payload, &parsed), origin).await?;
        }
        let batch = Batch::new(index, record.object.as_str().into(), origin.revision, 0, records);
        let mut commands = Commands::default();
        peer::map(&source.system, entity, &batch, 0, &mut commands);
        match commands.rejected.pop_first() {
            Some((_, reason)) => Err(Error::RecordStillBad(reason)),
            None => Ok(commands),
        }
    }

    /// The row together with the good ones of its group: the order is only whole with all of them. They are as they
    /// landed, in our own log, or as they were replayed.
    async fn group(
        &self,
        index: usize,
        entity: &Entity,
        record: &Quarantined,
        (payload, parsed): (&str, &Parsed<'_>),
        origin: &Origin,
    ) -> Result<Records, Error> {
        let mut reader = self.store.reader().await?;
        let bad = store::quarantined_positions(&mut reader, record).await?;
        let replayed = store::replayed_payloads(&mut reader, record).await?;
        drop(reader);
        let is_of_group = |row: &str| {
            let row = entity.schema.parse(row);
            row.is_ok_and(|row| {
                entity.group_by.iter().all(|field| row.column(*field) == parsed.column(*field))
            })
        };
        let mut landed = Box::pin(event::landed(&self.log, origin.landed_after.parse()?));
        while let Some(batches) = landed.try_next().await? {
            let of_object = batches.into_iter().filter(|landed| {
                (&landed.system, &landed.entity, &landed.object)
                    == (&record.system, &record.entity, &record.object)
            });
            for landed in of_object {
                let batch = landed.batch(index, origin.revision)?;
                if !batch.positions().any(|position| position == record.position) {
                    continue;
                }
                let mut records = Records::default();
                for (position, landed) in batch.positions().zip(batch.payloads()) {
                    if position == record.position {
                        records.push(position, payload);
                        continue;
                    }
                    let row = replayed.get(position).map_or(landed, String::as_str);
                    if !bad.contains(position) && is_of_group(row) {
                        records.push(position, row);
                    }
                }
                return Ok(records);
            }
        }
        Err(Error::RecordStillBad(
            "the rows beside it are no longer kept; correct the file instead".to_owned(),
        ))
    }
}
