//! `stock_ledger`: every movement of every stock. A correction does not overwrite what it corrects: that row is closed, and
//! one with what moved after all stands in its place.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use omnimesh_proto::{
    event::v1::Event,
    inventory::v1::{MovementKind, StockChanged, StockMovement},
};
use prost_types::Timestamp;

use super::{Change, RECORDED_TO, Route, Source, Table, change_of_subject, decode, missing, once};
use crate::{
    Error, TableName,
    card::Card,
    columns::{batch, integer, text, time},
};

const NAME: &str = "stock_ledger";

const CARD: &str = "\
Every movement of the tracked stocks: what is on hand is the last count and every movement that happened after it. What
stands has no `recorded_to`; a movement that was corrected is kept, closed.
grain: one row per movement and recording
key: movement_id
owner: inventory
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
column movement_id: The entry in the inventory service's ledger: location, product and place.
[from=movements/corrected.location_id, movements/corrected.sku, movements/corrected.ledger_sequence]
column location_id: Where. [from=movements/corrected.location_id]
column sku: What moved. [from=movements/corrected.sku]
column kind: Why: count, delivery, sale or adjustment. [from=movements/corrected.kind]
column quantity: How much came in, in the product's sales unit; less than 0 went out. Of a count, what was there.
[from=movements/corrected.quantity]
column occurred_at: When it happened. [from=movements/corrected.event_time]
column source_system: The system that tells of it; `order` for sales. [from=movements/corrected.source.system]
column source_id: The record in that system; of sales the order_uid, empty once its buyer is erased. [pii=quasi]
[from=movements/corrected.source.id]
column ledger_seq: Place in the ledger of its stock, from 1. [from=movements/corrected.ledger_sequence]
column recorded_from: When it was recorded. [from=movements/corrected.record_time]
column recorded_to: When it was corrected; null while it stands. [from=movements/corrected.record_time]
";

static SOURCE: Source = Source {
    consumer: "lake.stock_ledger<-inventory",
    domain: "inventory",
    event_type: "omnimesh.inventory.v1.StockChanged",
};

pub(super) struct StockLedger;

impl Table for StockLedger {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        let StockChanged { movements, corrected, .. } = decode(SOURCE.event_type, event)?;
        change_of_subject(NAME, event, movements.len() + corrected.len())
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut rows = Vec::new();
        for event in &events {
            rows.extend(movements(event)?);
        }
        let rows = once(rows, |row| (row.movement_id(), row.recorded_to.is_none()));
        Ok(Change::Record(batch_of(&rows)?))
    }
}

/// A movement, with what its source says after it.
struct Row {
    entry: StockMovement,
    quantity: i64,
    recorded_to: Option<Timestamp>,
}

impl Row {
    fn movement_id(&self) -> String {
        let StockMovement { location_id, sku, ledger_sequence, .. } = &self.entry;
        format!("{location_id}/{sku}/{ledger_sequence}")
    }

    fn source(&self) -> (&str, &str) {
        let source = self.entry.source.as_ref();
        source.map_or(("", ""), |source| (source.system.as_str(), source.id.as_str()))
    }
}

/// The entries that an event tells of. Those of one source and time correct each other: each stands for what they come to,
/// until the next.
fn movements(event: &Event) -> Result<Vec<Row>, Error> {
    let StockChanged { movements, corrected, .. } = decode(SOURCE.event_type, event)?;
    let mut entries: BTreeMap<_, BTreeMap<i64, StockMovement>> = BTreeMap::new();
    for entry in corrected.into_iter().chain(movements) {
        let source = entry.source.clone().ok_or_else(|| missing(event, "source of a movement"))?;
        let happened = entry.event_time.map(|time| (time.seconds, time.nanos));
        let of_one = entries.entry((source.system, source.id, happened)).or_default();
        of_one.insert(entry.ledger_sequence, entry);
    }
    Ok(entries.into_values().flat_map(corrections).collect())
}

fn corrections(entries: BTreeMap<i64, StockMovement>) -> Vec<Row> {
    let ends: Vec<_> = entries.values().skip(1).map(|entry| entry.record_time).chain([None]).collect();
    let mut quantity = 0_i64;
    let rows = entries.into_values().zip(ends).enumerate().filter_map(|(index, (entry, recorded_to))| {
        let is_count = entry.kind() == MovementKind::Count;
        quantity = if is_count { entry.quantity } else { quantity.saturating_add(entry.quantity) };
        // Of what was taken back nothing stands.
        let is_void = index > 0 && !is_count && quantity == 0;
        (!is_void).then_some(Row { entry, quantity, recorded_to })
    });
    rows.collect()
}

fn kind(entry: &StockMovement) -> &'static str {
    match entry.kind() {
        MovementKind::Unspecified => "unknown",
        MovementKind::Count => "count",
        MovementKind::Delivery => "delivery",
        MovementKind::Sale => "sale",
        MovementKind::Adjustment => "adjustment",
    }
}

fn batch_of(rows: &[Row]) -> Result<RecordBatch, Error> {
    let ids: Vec<_> = rows.iter().map(Row::movement_id).collect();
    let entries = || rows.iter().map(|row| &row.entry);
    Ok(batch(vec![
        // A ledger is in the order in which its movements became known, which two runs need not share.
        text("movement_id", ids.iter().map(String::as_str)).key(1).volatile(),
        text("location_id", entries().map(|entry| entry.location_id.as_str())),
        text("sku", entries().map(|entry| entry.sku.as_str())),
        text("kind", entries().map(kind)),
        integer("quantity", rows.iter().map(|row| row.quantity)),
        time("occurred_at", entries().map(|entry| entry.event_time)),
        text("source_system", rows.iter().map(|row| row.source().0)),
        text("source_id", rows.iter().map(|row| row.source().1)).volatile(),
        integer("ledger_seq", entries().map(|entry| entry.ledger_sequence)).volatile(),
        time("recorded_from", entries().map(|entry| entry.record_time)).volatile(),
        time(RECORDED_TO, rows.iter().map(|row| row.recorded_to)).volatile(),
    ])?)
}
