//! Who is one person: pure rules over source records.

mod record;
mod resolution;

pub(crate) use record::{Attributes, Key, Record, SourceRecord, chronology};
pub(crate) use resolution::{Node, assign, is_generic, resolve};

use serde::{Deserialize, Serialize};
use types::{GoldenId, SourceRef, Timestamp};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) golden_id: GoldenId,
    /// Every version of the person's source records that changed something, oldest first.
    pub(crate) records: Vec<Record>,
    pub(crate) merged_into: Option<GoldenId>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    /// Counts the changes.
    pub(crate) revision: i64,
}

/// That a source record is a person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) source: SourceRef,
    pub(crate) golden_id: GoldenId,
    pub(crate) link_time: Timestamp,
    /// None while it stands.
    pub(crate) unlink_time: Option<Timestamp>,
}

impl Identity {
    /// A person nobody has heard of before.
    pub(crate) fn new(golden_id: GoldenId, now: Timestamp) -> Self {
        Self {
            golden_id,
            records: Vec::new(),
            merged_into: None,
            create_time: now,
            update_time: now,
            revision: 0,
        }
    }

    /// Notes a change.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        self.update_time = now;
        self.revision += 1;
    }

    pub(crate) fn etag(&self) -> String {
        types::etag(&[self.golden_id.to_string().as_bytes(), &self.revision.to_le_bytes()])
    }
}
