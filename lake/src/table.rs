//! The tables: which events each is made of, and how an event becomes rows.
//!
//! A new table is a file here, with a type that implements [`Table`], and a line in [`ALL`]. It fills itself from the
//! first event on.

mod bronze;
mod inventory_snapshots;
mod orders_unified;
mod users_scd;

use std::collections::HashSet;

use arrow::array::RecordBatch;
use omnimesh_proto::event::v1::Event;
use prost::Message;

use crate::{Error, Layer, TableName};

/// Every table that is made of events.
pub(crate) static ALL: &[&dyn Table] = &[
    &bronze::Bronze,
    &users_scd::UsersScd,
    &orders_unified::OrdersUnified,
    &inventory_snapshots::InventorySnapshots,
];

/// Where a table's events come from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name that the exporter goes by among consumers.
    pub(crate) consumer: &'static str,
    /// The domain that publishes the events.
    pub(crate) domain: &'static str,
    /// Full name of the events' payload.
    pub(crate) event_type: &'static str,
}

/// A table, or a family of tables that only their names tell apart.
pub(crate) trait Table: Send + Sync {
    /// Where its events come from.
    fn source(&self) -> &'static Source;

    /// Whether the table on disk is one of its own.
    fn owns(&self, name: &TableName) -> bool;

    /// The table that an event belongs to, and how many rows to expect of it.
    fn route(&self, event: &Event) -> Result<(TableName, usize), Error>;

    /// What events of one table, in commit order, change in it.
    fn change(&self, events: &[Event]) -> Result<Change, Error>;
}

/// A change of a table that is committed as one.
#[derive(Debug)]
pub(crate) enum Change {
    /// New rows.
    Append(Vec<RecordBatch>),
    /// Rows that replace those of the same key; no key comes twice.
    Upsert {
        /// The rows; there may be none.
        rows: RecordBatch,
        /// Rows to delete unless `rows` has their key.
        stale: Stale,
    },
}

/// The rows whose `column` holds one of `values`.
#[derive(Debug)]
pub(crate) struct Stale {
    pub(crate) column: &'static str,
    pub(crate) values: Vec<String>,
}

impl Stale {
    /// No rows.
    const NONE: Self = Self { column: "", values: Vec::new() };
}

/// The newest event of each subject, in commit order.
fn newest<M: Message + Default>(event_type: &'static str, events: &[Event]) -> Result<Vec<Newest<M>>, Error> {
    let mut seen = HashSet::new();
    let mut newest: Vec<_> =
        events.iter().rev().filter(|event| seen.insert(event.subject.as_str())).collect();
    newest.reverse();
    newest
        .into_iter()
        .map(|event| Ok(Newest { payload: decode(event_type, event)?, event: event.clone() }))
        .collect()
}

/// The last word on a subject.
struct Newest<M> {
    payload: M,
    event: Event,
}

fn decode<M: Message + Default>(event_type: &'static str, event: &Event) -> Result<M, Error> {
    Ok(events::decode(event_type, event)?)
}

fn missing(event: &Event, what: &str) -> Error {
    Error::Event { id: event.id.clone(), reason: format!("it has no {what}") }
}

fn silver(name: &'static str) -> Result<TableName, Error> {
    TableName::new(Layer::Silver, name)
}
