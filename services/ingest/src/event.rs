//! Events out: what landed, and what sources have come to.

use bytes::Bytes;
use events::{Change, Cursor, Event, Log, NewEvent};
use futures::{Stream, TryStreamExt};
use omnimesh_proto::ingest::v1 as pb;
use types::Timestamp;

use crate::{Error, domain::SourceState, landing::Batch, source::Entity};

const RECORDS_LANDED: &str = "omnimesh.ingest.v1.RecordsLanded";
const SOURCE_CHANGED: &str = "omnimesh.ingest.v1.SourceChanged";

/// A batch has landed; `stream` is its Arrow stream.
pub(crate) fn records_landed(
    system: &str,
    entity: &Entity,
    batch: &Batch,
    stream: &Bytes,
    now: Timestamp,
) -> NewEvent {
    let payload = pb::RecordsLanded {
        system: system.to_owned(),
        entity: entity.name.clone(),
        object: batch.object.to_string(),
        record_count: batch.len() as i64,
        read_time: Some(now.into()),
        records: stream.clone(),
        first_position: batch.first_position,
        revision: batch.revision,
        columns: entity.schema.columns().map(str::to_owned).collect(),
        subject_keys: entity.subject_keys.iter().cloned().collect(),
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
    pub(crate) cursor: Cursor,
    pub(crate) system: String,
    pub(crate) entity: String,
    pub(crate) object: String,
    pub(crate) first_position: i64,
    stream: Bytes,
}

impl Landed {
    fn decode(event: &Event) -> Result<Self, Error> {
        let landed: pb::RecordsLanded = events::decode(RECORDS_LANDED, event)?;
        Ok(Self {
            cursor: event.cursor.parse()?,
            system: landed.system,
            entity: landed.entity,
            object: landed.object,
            first_position: landed.first_position,
            stream: landed.records,
        })
    }

    /// The batch; `entity` is its entity's index, `revision` its object's.
    pub(crate) fn batch(&self, entity: usize, revision: i64) -> Result<Batch, Error> {
        Ok(Batch::decode(entity, &self.object, revision, self.first_position, &self.stream)?)
    }
}

/// Every batch that landed after `after`, up to the last one that is committed by now.
pub(crate) fn landed(
    log: &Log,
    after: Cursor,
) -> impl Stream<Item = Result<Vec<Landed>, Error>> + Send + use<> {
    let log = log.clone();
    async_stream::try_stream! {
        let end = log.committed().await?;
        // Followed, because on PostgreSQL what is committed may not be readable yet.
        for await run in log.stream(after, vec![RECORDS_LANDED.to_owned()], true) {
            let run = run?;
            yield run.events.iter().map(Landed::decode).collect::<Result<_, _>>()?;
            if run.cursor >= end {
                break;
            }
        }
    }
}

/// A change of a source, and where to go on after it.
#[derive(Debug)]
pub(crate) enum SourceChange {
    /// As it stood when the stream began.
    Initial(SourceState, Cursor),
    Changed {
        source: Option<pb::Source>,
        event: Event,
    },
    /// Everything up to here was sent.
    Bookmark(Cursor),
}

/// Streams the changes after `after`, for ever.
pub(crate) fn watch(
    log: &Log,
    after: Cursor,
) -> impl Stream<Item = Result<SourceChange, events::Error>> + Send + use<> {
    events::watch::<pb::SourceChanged>(log, SOURCE_CHANGED, after).map_ok(|change| match change {
        Change::Event { payload, event } => SourceChange::Changed { source: payload.source, event },
        Change::Bookmark(cursor) => SourceChange::Bookmark(cursor),
    })
}
