//! `inventory_snapshots`: the latest state of every stock.

use omnimesh_proto::{
    event::v1::Event,
    inventory::v1::{Stock, StockChanged},
};

use super::{Change, Route, Source, Stale, Table, decode, missing, state_of_subject};
use crate::{
    Error, TableName,
    card::Card,
    columns::{batch, integer, text, time},
};

const NAME: &str = "inventory_snapshots";

const CARD: &str = "\
Stock on hand now, by product and location.
grain: one row per product and location
key: sku, location_id
owner: inventory
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
proto: omnimesh.inventory.v1.Stock
column sku: The product. [from=stock.sku]
column location_id: Where it is. [from=stock.location_id]
column as_of: When it last changed, by the sources' own times. [from=stock.update_time]
column on_hand: Units that are there. [from=stock.on_hand]
column last_count_at: When they were last counted; null if they never were. [from=stock.last_count_time]
column ledger_seq: Place of the last movement in the stock's ledger, from 1. [from=stock.ledger_sequence]
";

static SOURCE: Source = Source {
    consumer: "lake.inventory_snapshots<-inventory",
    domain: "inventory",
    event_type: "omnimesh.inventory.v1.StockChanged",
};

pub(super) struct InventorySnapshots;

impl Table for InventorySnapshots {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        let sequence = stock(event)?.ledger_sequence;
        state_of_subject(NAME, event, sequence)
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let stocks = events.iter().map(stock).collect::<Result<Vec<_>, _>>()?;
        let rows = batch(vec![
            text("sku", stocks.iter().map(|stock| stock.sku.as_str())).key(1),
            text("location_id", stocks.iter().map(|stock| stock.location_id.as_str())).key(2),
            // A correction that was taken back leaves its time behind.
            time("as_of", stocks.iter().map(|stock| stock.update_time)).volatile(),
            integer("on_hand", stocks.iter().map(|stock| stock.on_hand)),
            time("last_count_at", stocks.iter().map(|stock| stock.last_count_time)),
            // The same end may be reached by more corrections or fewer.
            integer("ledger_seq", stocks.iter().map(|stock| stock.ledger_sequence)).volatile(),
        ])?;
        Ok(Change::Upsert { rows, stale: Stale::NONE, newer: Some("ledger_seq") })
    }
}

fn stock(event: &Event) -> Result<Stock, Error> {
    let changed: StockChanged = decode(SOURCE.event_type, event)?;
    changed.stock.ok_or_else(|| missing(event, "stock"))
}
