//! Events out: what landed, and what sources have come to.

use bytes::Bytes;
use events::{Event, NewEvent};
use omnimesh_proto::ingest::v1 as pb;
use types::Timestamp;

use crate::{Error, domain::SourceState, landing::Batch};

pub(crate) const RECORDS_LANDED: &str = "omnimesh.ingest.v1.RecordsLanded";
pub(crate) const SOURCE_CHANGED: &str = "omnimesh.ingest.v1.SourceChanged";

/// A batch has landed; `stream` is its Arrow stream.
pub(crate) fn records_landed(
    system: &str,
    entity: &str,
    batch: &Batch,
    stream: &Bytes,
    now: Timestamp,
) -> NewEvent {
    let payload = pb::RecordsLanded {
        system: system.to_owned(),
        entity: entity.to_owned(),
        object: batch.object.to_string(),
        record_count: batch.len() as i64,
        read_time: Some(now.into()),
        records: stream.clone(),
        first_position: batch.first_position,
    };
    NewEvent::new(RECORDS_LANDED, format!("sources/{system}"), now, &payload)
}

/// A source has come to something else.
pub(crate) fn source_changed(source: SourceState, now: Timestamp) -> NewEvent {
    let subject = format!("sources/{}", source.system);
    NewEvent::new(SOURCE_CHANGED, subject, now, &pb::SourceChanged { source: Some(source.into()) })
}

/// A batch that landed before.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) system: String,
    pub(crate) entity: String,
    pub(crate) object: String,
    pub(crate) first_position: i64,
    stream: Bytes,
}

impl Landed {
    pub(crate) fn decode(event: &Event) -> Result<Self, Error> {
        let landed: pb::RecordsLanded = events::decode(RECORDS_LANDED, event)?;
        Ok(Self {
            system: landed.system,
            entity: landed.entity,
            object: landed.object,
            first_position: landed.first_position,
            stream: landed.records,
        })
    }

    /// The batch; `entity` is its entity's index.
    pub(crate) fn batch(&self, entity: usize) -> Result<Batch, Error> {
        Ok(Batch::decode(entity, &self.object, self.first_position, &self.stream)?)
    }
}
