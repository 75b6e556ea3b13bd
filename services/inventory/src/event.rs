//! Events out: stocks that changed, and streams of them. Events in: orders, which are sales.

use std::collections::{BTreeMap, BTreeSet};

use events::{Change, Cursor, Event, Handler, Log, NewEvent};
use futures::{Stream, TryStreamExt};
use omnimesh_proto::{
    inventory::v1::{self as pb, StockChanged},
    order::v1::{Order, OrderChanged, OrderStatus},
};
use storage::Tx;
use types::{
    SourceRef, Timestamp,
    filter::{Condition, Operator, Value},
    wire,
};

use crate::{
    Error,
    domain::{Entry, Stock, StockId},
    service::Service,
};

const STOCK_CHANGED: &str = "omnimesh.inventory.v1.StockChanged";
pub(crate) const ORDER_CHANGED: &str = "omnimesh.order.v1.OrderChanged";

/// The source system of sales in the ledger: the order domain, whose uid is the source's id.
pub(crate) const SALES: &str = "order";

/// Entries in one event: at their longest they stay well below what a message may hold.
const ENTRIES: usize = 5_000;

/// Tells of a stock as it is now, of the entries that made it so, and of those of `earlier` that they correct.
pub(crate) fn stock_changed(stock: &Stock, entries: &[Entry], earlier: &[Entry]) -> Vec<NewEvent> {
    let moved = |entry: &Entry| (entry.movement.source.clone(), entry.movement.event_time);
    let told = |(index, portion): (usize, &[Entry])| {
        let moved_now: BTreeSet<_> = portion.iter().map(moved).collect();
        let before = earlier.iter().chain(entries.iter().take(index * ENTRIES));
        let corrected = before.filter(|entry| moved_now.contains(&moved(entry)));
        let messages = |entries: Vec<&Entry>| entries.into_iter().cloned().map(Into::into).collect();
        let payload = StockChanged {
            stock: Some(stock.clone().into()),
            corrected: messages(corrected.collect()),
            movements: messages(portion.iter().collect()),
        };
        NewEvent::new(STOCK_CHANGED, stock.id.name(), stock.update_time, &payload)
    };
    entries.chunks(ENTRIES).enumerate().map(told).collect()
}

/// What one order sold.
#[derive(Debug)]
pub(crate) struct Sale {
    pub(crate) source: SourceRef,
    pub(crate) event_time: Timestamp,
    pub(crate) sold: BTreeMap<StockId, i64>,
}

/// Turns orders into sales.
pub(crate) struct SalesHandler(Service);

impl SalesHandler {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

impl Handler for SalesHandler {
    type Error = Error;

    async fn handle(&self, tx: &mut Tx, events: Vec<Event>) -> Result<(), Error> {
        let mut sales = Vec::with_capacity(events.len());
        for event in events {
            let OrderChanged { order } = events::decode(ORDER_CHANGED, &event)?;
            sales.extend(order.map(sale).transpose()?);
        }
        self.0.book_sales(tx, sales).await
    }
}

fn sale(order: Order) -> Result<Sale, Error> {
    let corrupt =
        |error: &dyn std::fmt::Display| Error::Corrupt(format!("order {}: {error}", order.order_uid));
    let source = SourceRef::new(SALES, &order.order_uid).map_err(|error| corrupt(&error))?;
    let event_time = wire::time(order.order_time).unwrap_or_default();
    let mut sold = BTreeMap::new();
    let stands = order.merged_into.is_empty() && order.status() != OrderStatus::Cancelled;
    if stands && !order.location_id.is_empty() {
        for line in &order.lines {
            let location_id = order.location_id.parse().map_err(|error| corrupt(&error))?;
            let sku = line.sku.parse().map_err(|error| corrupt(&error))?;
            let quantity = wire::bounded(line.quantity).map_err(|error| corrupt(&error))?;
            *sold.entry(StockId { location_id, sku }).or_default() += quantity;
        }
    }
    Ok(Sale { source, event_time, sold })
}

/// What a watcher is to be told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A stock as it stood when the watch began.
    Initial(Stock),
    /// A stock that changed, with the event that told of it.
    Changed(pb::Stock, Event),
    /// Everything up to here was told.
    Bookmark(Cursor),
}

impl Told {
    /// True for what a watcher with `filter` is to be told. The initial state is filtered where it is read.
    pub(crate) fn passes(&self, filter: &[Condition]) -> bool {
        match self {
            Self::Changed(stock, _) => filter.iter().all(|condition| holds(condition, stock)),
            Self::Initial(_) | Self::Bookmark(_) => true,
        }
    }
}

/// Streams every change after `after`, for ever.
pub(crate) fn changes(log: &Log, after: Cursor) -> impl Stream<Item = Result<Told, Error>> + Send + use<> {
    let changes = events::watch::<StockChanged>(log, STOCK_CHANGED, after);
    changes.map_err(Error::from).try_filter_map(|change| async {
        Ok(match change {
            Change::Bookmark(cursor) => Some(Told::Bookmark(cursor)),
            Change::Event { payload, event } => payload.stock.map(|stock| Told::Changed(stock, event)),
        })
    })
}

fn holds(condition: &Condition, stock: &pb::Stock) -> bool {
    let Value::Text(text) = &condition.value else { return false };
    let equal = match condition.field {
        "location_id" => stock.location_id == *text,
        _ => stock.sku == *text,
    };
    equal == (condition.operator == Operator::Equal)
}
