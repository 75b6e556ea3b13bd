//! Sources as they stand, records that could not be taken, and how far a run is.

use types::Timestamp;
use uuid::Uuid;

/// What a source's entity has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EntityState {
    pub(crate) entity: String,
    pub(crate) landed: i64,
    pub(crate) applied: i64,
    pub(crate) quarantined: i64,
    pub(crate) objects: i64,
}

/// A source, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceState {
    pub(crate) system: String,
    pub(crate) connector: &'static str,
    pub(crate) entities: Vec<EntityState>,
    /// Nothing before the first run.
    pub(crate) update_time: Option<Timestamp>,
}

impl SourceState {
    /// Digest of the counts.
    pub(crate) fn counts(&self) -> String {
        let mut parts = Vec::new();
        for entity in &self.entities {
            for count in [entity.landed, entity.applied, entity.quarantined, entity.objects] {
                parts.push(count.to_le_bytes());
            }
        }
        types::etag(&parts.iter().map(<[u8; 8]>::as_slice).collect::<Vec<_>>())
    }

    pub(crate) fn etag(&self) -> String {
        let update_time = self.update_time.map_or(0, Timestamp::micros);
        types::etag(&[self.counts().as_bytes(), &update_time.to_le_bytes()])
    }
}

/// Position of the record that stands for an object that was put aside as a whole.
pub(crate) const WHOLE_OBJECT: &str = "";

/// A record that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) id: Uuid,
    pub(crate) system: String,
    pub(crate) entity: String,
    pub(crate) object: String,
    pub(crate) position: String,
    pub(crate) payload: String,
    pub(crate) reason: String,
    pub(crate) create_time: Timestamp,
}

impl Quarantined {
    /// The id of the record at a place: the same in every run, so that a record is quarantined once.
    pub(crate) fn id(system: &str, entity: &str, object: &str, position: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, [system, entity, object, position].join("\0").as_bytes())
    }
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) entity: String,
    pub(crate) applied: i64,
    pub(crate) quarantined: i64,
    pub(crate) objects: i64,
    pub(crate) object_total: i64,
    pub(crate) done: bool,
}

/// What settling a portion adds to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) entity: String,
    pub(crate) object: String,
    pub(crate) applied: i64,
    pub(crate) quarantined: i64,
    /// First position of the last batch.
    pub(crate) applied_to: i64,
}
