//! Events that wait for their commit, of each subject only the newest.

use std::collections::BTreeMap;

use events::Event;
use prost::{Message, bytes::Bytes};
use tokio::time::Instant;

use crate::{TableName, table::Route};

/// Events that wait for a commit.
#[derive(Default)]
pub(super) struct Pending {
    /// By table and key, with their rank.
    pub(super) events: BTreeMap<TableName, BTreeMap<String, (i64, Event)>>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// When the first of them came.
    pub(super) since: Option<Instant>,
    /// Whether the log had no more.
    pub(super) at_end: bool,
    pub(super) is_due: bool,
}

impl Pending {
    pub(super) fn push(&mut self, route: Route, mut event: Event) {
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
