//! Events that wait for their commit, of each subject only the newest.

use std::collections::BTreeMap;

use events::{Cursor, Event};
use prost::{Message, bytes::Bytes};
use tokio::time::Instant;

use crate::{TableName, table::Route};

/// Events that wait for a commit.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) events: BTreeMap<TableName, Held>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// When the first of them came.
    pub(super) since: Option<Instant>,
    /// Whether the log had no more.
    pub(super) at_end: bool,
    pub(super) is_due: bool,
}

/// Events of one table.
#[derive(Default)]
pub(super) struct Held {
    /// By key, with their rank.
    pub(super) events: BTreeMap<String, (i64, Event)>,
    /// Where the last of them is.
    pub(super) last: Cursor,
}

impl Pending {
    pub(super) fn push(&mut self, route: Route, mut event: Event, at: Cursor) {
        let held = self.events.entry(route.table).or_default();
        held.last = at;
        if held.events.get(&route.key).is_some_and(|(rank, _)| *rank > route.rank) {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += held_bytes(&event);
        // As it came, it is a slice that keeps its whole run in memory.
        event.payload = Bytes::copy_from_slice(&event.payload);
        match held.events.insert(route.key, (route.rank, event)) {
            Some((_, outdated)) => self.bytes -= held_bytes(&outdated),
            None => self.rows += route.rows,
        }
    }
}

fn held_bytes(event: &Event) -> usize {
    size_of::<Event>() + event.encoded_len()
}
