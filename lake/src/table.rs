//! The tables: what each is made of, and how that becomes rows.
//!
//! A new table is a file here and a line: one that is made of events implements [`Table`] and is listed in [`ALL`]; one
//! that is computed from other tables is listed in [`DERIVED`], and is a query in a `.sql` file or implements
//! [`Derived`]. It fills itself from the first event, or the first run, on.

mod bronze;
mod inventory_snapshots;
pub(crate) mod model;
mod orders_unified;
mod users_scd;

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv};
use lance::dataset::Dataset;
use omnimesh_proto::event::v1::Event;
use prost::Message;

use crate::{
    Error, Layer, TableName,
    card::Card,
    feature,
    sql::{Lineage, Snapshot},
};
use model::model;

/// Every table that is made of events.
pub(crate) static ALL: &[&dyn Table] = &[
    &bronze::Bronze,
    &users_scd::UsersScd,
    &orders_unified::OrdersUnified,
    &inventory_snapshots::InventorySnapshots,
];

/// Every table that is a query over other tables.
static MODELS: &[&dyn Derived] =
    &[model!(Gold, "gold", "fct_order_line"), model!(Gold, "gold", "agg_sales_daily_channel")];

/// Every table that is computed from other tables.
pub(crate) static DERIVED: LazyLock<Vec<&dyn Derived>> =
    LazyLock::new(|| MODELS.iter().copied().chain(feature::tables()).collect());

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

    /// Where an event goes.
    fn route(&self, event: &Event) -> Result<Route, Error>;

    /// What is said about one of them.
    fn card(&self) -> Card;

    /// What events of one table change in it, of which each has a key of its own.
    fn change(&self, events: Vec<Event>) -> Result<Change, Error>;
}

/// A table that is computed from other tables.
#[async_trait]
pub(crate) trait Derived: Send + Sync {
    /// Its name.
    fn name(&self) -> Result<TableName, Error>;

    /// The tables that it is computed from.
    fn inputs(&self) -> Result<Vec<TableName>, Error>;

    /// What is said about it; its key above all, which each computation is checked against.
    fn card(&self) -> Card;

    /// What it is computed by: another text makes other rows of the same inputs.
    fn definition(&self) -> &str;

    /// Computes all of its rows.
    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error>;

    /// Computes the rows to add to those of `standing`, if it is a table that only grows and can grow from there.
    async fn extend(
        &self,
        _inputs: &Snapshot,
        _standing: &Arc<Dataset>,
        _runtime: &Arc<RuntimeEnv>,
    ) -> Result<Option<SendableRecordBatchStream>, Error> {
        Ok(None)
    }

    /// Which of its inputs' columns each of its columns is made of.
    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error>;
}

/// Where an event goes.
#[derive(Debug)]
pub(crate) struct Route {
    /// The table that it belongs to.
    pub(crate) table: TableName,
    /// Of two events with the same key only the later one counts.
    pub(crate) key: String,
    /// How many rows to expect of it.
    pub(crate) rows: usize,
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
    /// Rows of a bitemporal table: new ones, and ones to close that [`RECORDED_TO`] is set in. That is all that ever
    /// changes in a row, and once, so that it does not matter in which order changes come, nor how often. No key comes
    /// twice.
    Record(RecordBatch),
}

/// The column in which a bitemporal table says until when a row was held to be true: what stands now has none.
pub(crate) const RECORDED_TO: &str = "recorded_to";

/// The rows whose `column` holds one of `values`.
#[derive(Debug)]
pub(crate) struct Stale {
    pub(crate) column: &'static str,
    pub(crate) values: Vec<String>,
}

impl Stale {
    /// No rows.
    pub(crate) const NONE: Self = Self { column: "", values: Vec::new() };
}

/// An event of a silver table, whose payload is the whole state of its subject.
fn state_of_subject(table: &'static str, event: &Event) -> Result<Route, Error> {
    Ok(Route { table: TableName::new(Layer::Silver, table)?, key: event.subject.clone(), rows: 1 })
}

fn decode<M: Message + Default>(event_type: &'static str, event: &Event) -> Result<M, Error> {
    Ok(events::decode(event_type, event)?)
}

fn missing(event: &Event, what: &str) -> Error {
    Error::Event { id: event.id.clone(), reason: format!("it has no {what}") }
}
