//! The tables: what each is made of, and how that becomes rows.
//!
//! A new table is a file here and a line: one that is made of events implements [`Table`] and is listed in [`ALL`]; one
//! that is computed from other tables is listed in [`DERIVED`], and is a query in a `.sql` file or implements
//! [`Derived`]. It fills itself from the first event, or the first run, on.

mod embeddings;
pub(crate) mod model;
pub(crate) mod own;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv};
use lance::dataset::Dataset;
use omnimesh_proto::event::v1::Event;
use prost::Message;
use types::Timestamp;

use crate::{
    Error, Layer, TableName,
    card::Card,
    dataset,
    listed::listed,
    sql::{Lineage, Snapshot},
    vector::embedder::TextEmbedder,
};
use model::model;

listed! {
    /// Every table that is made of events.
    pub(crate) static ALL: &[&dyn Table] = [
        bronze::Bronze,
        users_scd::UsersScd,
        identity_links::IdentityLinks,
        products_scd::ProductsScd,
        orders_unified::OrdersUnified,
        inventory_snapshots::InventorySnapshots,
        stock_ledger::StockLedger,
    ];
}

/// Every table that is computed from other tables, whatever is configured.
pub(crate) static DERIVED: &[&dyn Derived] = &[
    model!(Silver, "silver", "events_sessionized"),
    model!(Silver, "silver", "campaigns"),
    model!(Silver, "silver", "campaign_members"),
    model!(Silver, "silver", "coupons"),
    model!(Silver, "silver", "redemptions"),
    model!(Silver, "silver", "demographics"),
    model!(Gold, "gold", "dim_customer"),
    model!(Gold, "gold", "dim_product"),
    model!(Gold, "gold", "dim_location"),
    model!(Gold, "gold", "dim_date"),
    model!(Gold, "gold", "dim_promotion"),
    model!(Gold, "gold", "fct_order_line"),
    model!(Gold, "gold", "fct_inventory_daily"),
    model!(Gold, "gold", "fct_session"),
    model!(Gold, "gold", "agg_customer_360"),
    model!(Gold, "gold", "agg_sales_daily_channel"),
    model!(Gold, "gold", "agg_category_kpi"),
    model!(Gold, "gold", "agg_promo_lift"),
    model!(Gold, "gold", "agg_rfm_clv"),
    &embeddings::ProductsByBuyers,
    &embeddings::CustomersByPurchases,
];

/// Whether a table is computed from others: all are but those of events, and what the lake knows about itself.
pub(crate) fn is_computed(name: &TableName) -> bool {
    name.layer() != Layer::Meta && !ALL.iter().any(|table| table.owns(name))
}

/// Tables that are computed from other tables with the text model that is configured.
pub(crate) fn of_texts(embedder: Arc<dyn TextEmbedder>) -> Vec<Arc<dyn Derived>> {
    vec![Arc::new(embeddings::ProductsByText::new(embedder))]
}

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

    /// Whether it is one table, so that an event that tells no table can be of no other.
    fn is_one(&self) -> bool {
        true
    }

    /// Where an event goes.
    fn route(&self, event: &Event) -> Result<Route, Error>;

    /// What is said about one of them.
    fn card(&self) -> Card;

    /// What one of them is made of: a stream of its domain's events, as lineage names it.
    fn stream(&self, _name: &TableName) -> String {
        self.source().event_type.to_owned()
    }

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

    /// Whether it is computed as if an input were empty where the lake lacks that.
    fn can_lack(&self, _input: &TableName) -> Result<bool, Error> {
        Ok(false)
    }

    /// By what its rows can be computed a few at a time, if they can.
    fn parts(&self) -> Result<Option<Parts>, Error> {
        Ok(None)
    }

    /// What it is computed by: another text makes other rows of the same inputs.
    fn definition(&self) -> &str;

    /// Computes all of its rows. The table as it stands is among `inputs` under its own name: work may be taken over from
    /// there, but the rows must be those of the inputs alone.
    async fn compute(
        &self,
        inputs: &Snapshot,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<SendableRecordBatchStream, Error>;

    /// Computes the rows to add to those of `promised`, if it is a table that only grows and can grow from there.
    async fn extend(
        &self,
        _inputs: &Snapshot,
        _promised: &Arc<Dataset>,
        _runtime: &Arc<RuntimeEnv>,
    ) -> Result<Option<Growth>, Error> {
        Ok(None)
    }

    /// Readies what was computed for its readers and finds out whether it is good enough for them: an error leaves the
    /// version before published. What it returns is said in the table's card.
    async fn ready(&self, _computed: &mut dataset::Table) -> Result<BTreeMap<String, String>, Error> {
        Ok(BTreeMap::new())
    }

    /// What of its inputs its columns and its rows are made of.
    async fn lineage(&self, inputs: &Snapshot, runtime: &Arc<RuntimeEnv>) -> Result<Lineage, Error>;
}

/// Rows to add to a table that only grows.
pub(crate) struct Growth {
    pub(crate) rows: SendableRecordBatchStream,
    /// When it is too late for anybody to begin to rely on them.
    pub(crate) expires: Timestamp,
}

/// What a computed table's rows can be told apart by: those of a value of `column`, which is a part of the key, are made
/// of the rows of `input` with that value, and of whatever else the table is computed from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) input: TableName,
    pub(crate) column: String,
}

/// Where an event goes.
#[derive(Debug)]
pub(crate) struct Route {
    /// The table that it belongs to.
    pub(crate) table: TableName,
    /// Of two events with the same key only one counts: that of the higher rank, of equals the later.
    pub(crate) key: String,
    pub(crate) rank: i64,
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
        /// The column by which a row must not be older than the one that it replaces.
        newer: Option<&'static str>,
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

/// An event of a silver table, whose payload is the whole state of its subject, the newer the higher its `rank`.
fn state_of_subject(table: &'static str, event: &Event, rank: i64) -> Result<Route, Error> {
    Ok(Route { table: TableName::new(Layer::Silver, table)?, key: event.subject.clone(), rank, rows: 1 })
}

/// An event of a silver table that tells of what changed, so that each counts: it makes about so many `rows`.
fn change_of_subject(table: &'static str, event: &Event, rows: usize) -> Result<Route, Error> {
    Ok(Route { table: TableName::new(Layer::Silver, table)?, key: event.id.clone(), rank: 0, rows })
}

/// Rows of a bitemporal table, each once: as it was closed, if that is told, whichever comes first. `key` gives a row's
/// key, and whether it stands.
fn once<R>(rows: Vec<R>, key: impl Fn(&R) -> (String, bool)) -> Vec<R> {
    let mut once: BTreeMap<String, (bool, R)> = BTreeMap::new();
    for row in rows {
        let (key, stands) = key(&row);
        match once.entry(key) {
            Entry::Vacant(place) => drop(place.insert((stands, row))),
            Entry::Occupied(mut known) if known.get().0 && !stands => drop(known.insert((stands, row))),
            Entry::Occupied(_) => {}
        }
    }
    once.into_values().map(|(_, row)| row).collect()
}

fn decode<M: Message + Default>(event_type: &'static str, event: &Event) -> Result<M, Error> {
    events::decode(event_type, event).map_err(|error| Error::from(error).of_event(event))
}

fn missing(event: &Event, what: &str) -> Error {
    unusable(event, format!("it has no {what}"))
}

fn unusable(event: &Event, reason: String) -> Error {
    Error::Event { id: event.id.clone(), position: event.cursor.clone(), reason }
}
