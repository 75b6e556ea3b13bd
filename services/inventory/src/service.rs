//! What the inventory service does: one method per RPC.

mod watch;

use std::collections::{BTreeMap, BTreeSet};

use events::Log;
use storage::Tx;
use types::{Imported, Request, Timestamp, filter::Condition, page::Page};

use crate::{
    Error,
    domain::{Entry, Kind, Movement, Stock, StockId, moved_since},
    event,
    store::{self, Store},
};

/// Stocks of one page when all are read.
const PAGE: i64 = 1_000;

/// A change by an operator's word.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) request: Request,
    pub(crate) movement: Movement,
    /// The stock's etag as the caller saw it.
    pub(crate) etag: Option<String>,
}

/// What the ledger has of one order: how much moved where and when.
type Booking = BTreeMap<(StockId, Timestamp), i64>;

#[derive(Debug, Clone)]
pub(crate) struct Service {
    store: Store,
    log: Log,
}

impl Service {
    pub(crate) fn new(store: Store, log: Log) -> Self {
        Self { store, log }
    }

    pub(crate) async fn get_stock(&self, id: StockId) -> Result<Stock, Error> {
        let mut stocks =
            store::stocks(&mut *self.store.reader().await?, &BTreeSet::from([id.clone()])).await?;
        stocks.remove(&id).filter(|stock| stock.tracked).ok_or(Error::StockNotFound(id))
    }

    pub(crate) async fn batch_get_stock(&self, ids: Vec<StockId>) -> Result<Vec<Stock>, Error> {
        let stocks = store::stocks(&mut *self.store.reader().await?, &ids.iter().cloned().collect()).await?;
        let tracked = |id: &StockId| stocks.get(id).filter(|stock| stock.tracked).cloned();
        ids.into_iter().map(|id| tracked(&id).ok_or(Error::StockNotFound(id))).collect()
    }

    pub(crate) async fn list_stocks(
        &self,
        page: Page,
        after: Option<StockId>,
        filter: &[Condition],
    ) -> Result<(Vec<Stock>, String), Error> {
        let mut reader = self.store.reader().await?;
        let stocks = store::list_stocks(&mut reader, filter, after.as_ref(), page.limit()).await?;
        Ok(page.cut(stocks, |stock| vec![stock.id.location_id.to_string(), stock.id.sku.to_string()]))
    }

    /// Every stock after `after`, a page at a time; none at the end.
    pub(crate) async fn next_stocks(
        &self,
        filter: &[Condition],
        after: Option<&Stock>,
    ) -> Result<Vec<Stock>, Error> {
        let after = after.map(|stock| &stock.id);
        store::list_stocks(&mut *self.store.reader().await?, filter, after, PAGE).await
    }

    pub(crate) async fn adjust_stock(&self, change: Change) -> Result<Stock, Error> {
        self.change(change).await
    }

    pub(crate) async fn record_physical_count(&self, change: Change) -> Result<Stock, Error> {
        self.change(change).await
    }

    async fn change(&self, Change { request, movement, etag }: Change) -> Result<Stock, Error> {
        let mut tx = self.store.begin().await?;
        if let Some(stock) = tx.remembered(&request).await? {
            return Ok(stock);
        }
        tx.lock("stocks").await?;
        let id = movement.stock.clone();
        let stocks = store::stocks(tx.connection()?, &BTreeSet::from([id.clone()])).await?;
        let stock = stocks.get(&id).filter(|stock| stock.tracked);
        if stock.is_none() && !movement.kind.begins_tracking() {
            return Err(Error::StockNotFound(id));
        }
        if etag.is_some_and(|etag| stock.is_none_or(|stock| stock.etag() != etag)) {
            return Err(Error::EtagMismatch(id));
        }
        let mut stocks = self.record(&mut tx, vec![movement], stocks, &BTreeMap::new()).await?;
        let stock = stocks.remove(&id).ok_or(Error::StockNotFound(id))?;
        tx.remember(&request, &stock).await?;
        tx.commit().await?;
        Ok(stock)
    }

    pub(crate) async fn import_stock_movements(&self, movements: Vec<Movement>) -> Result<Imported, Error> {
        let mut tx = self.store.begin().await?;
        tx.lock("stocks").await?;
        let received = movements.len();
        let news = unknown(&mut tx, movements).await?;
        let ids = news.iter().map(|movement| movement.stock.clone()).collect();
        let stocks = store::stocks(tx.connection()?, &ids).await?;
        let accepted = news.len();
        self.record(&mut tx, news, stocks, &BTreeMap::new()).await?;
        tx.commit().await?;
        Ok(Imported::new(received, accepted))
    }

    pub(crate) async fn list_stock_movements(
        &self,
        id: StockId,
        page: Page,
        after: i64,
    ) -> Result<(Vec<Entry>, String), Error> {
        self.get_stock(id.clone()).await?;
        let mut reader = self.store.reader().await?;
        let entries = store::list_stock_movements(&mut reader, &id, after, page.limit()).await?;
        Ok(page.cut(entries, |entry| vec![entry.sequence.to_string()]))
    }

    /// Books what orders sold: for each, the difference between what it says now and what was booked before, at the
    /// time it was booked for.
    pub(crate) async fn book_sales(&self, tx: &mut Tx, sales: Vec<event::Sale>) -> Result<(), Error> {
        tx.lock("stocks").await?;
        let order_uids = sales.iter().map(|sale| sale.source.id.as_str()).collect();
        let mut booked: BTreeMap<String, Booking> = BTreeMap::new();
        let mut earlier: BTreeMap<StockId, Vec<Entry>> = BTreeMap::new();
        for entry in store::entries_from(tx.connection()?, event::SALES, &order_uids).await? {
            let movement = entry.movement.clone();
            let booking = booked.entry(movement.source.id).or_default();
            *booking.entry((movement.stock.clone(), movement.event_time)).or_default() += movement.quantity;
            earlier.entry(movement.stock).or_default().push(entry);
        }
        let ids = sales.iter().flat_map(|sale| sale.sold.keys().cloned());
        let ids =
            ids.chain(booked.values().flat_map(|booking| booking.keys().map(|(id, _)| id.clone()))).collect();
        let stocks = store::stocks(tx.connection()?, &ids).await?;

        let mut movements = Vec::new();
        for event::Sale { source, event_time, sold } in sales {
            let due: Booking =
                sold.into_iter().map(|(stock, quantity)| ((stock, event_time), -quantity)).collect();
            let known = booked.insert(source.id.clone(), due.clone()).unwrap_or_default();
            let places: BTreeSet<_> = known.keys().chain(due.keys()).collect();
            for place in places {
                let at = |booking: &Booking| booking.get(place).copied().unwrap_or_default();
                let (stock, event_time) = place.clone();
                let quantity = at(&due) - at(&known);
                if quantity != 0 {
                    movements.push(Movement {
                        stock,
                        kind: Kind::Sale,
                        quantity,
                        event_time,
                        source: source.clone(),
                    });
                }
            }
        }
        self.record(tx, movements, stocks, &earlier).await?;
        Ok(())
    }

    /// Puts movements into the ledger and tells of every tracked stock that they changed; where its tracking begins,
    /// with all that the ledger has of it. They may correct some of the `earlier` entries.
    async fn record(
        &self,
        tx: &mut Tx,
        movements: Vec<Movement>,
        mut stocks: BTreeMap<StockId, Stock>,
        earlier: &BTreeMap<StockId, Vec<Entry>>,
    ) -> Result<BTreeMap<StockId, Stock>, Error> {
        // A count asks the ledger what moved since, and the beginning of tracking tells it.
        let asks = |movement: &&Movement| match stocks.get(&movement.stock) {
            Some(stock) if stock.tracked => movement.kind == Kind::Count,
            Some(_) => movement.kind.begins_tracking(),
            None => false,
        };
        let asking = movements.iter().filter(asks).map(|movement| movement.stock.clone()).collect();
        let mut ledgers = store::ledgers(tx.connection()?, &asking).await?;
        let now = Timestamp::now();
        let mut news: BTreeMap<StockId, Vec<Entry>> = BTreeMap::new();
        let mut begun = BTreeSet::new();
        for movement in movements {
            let id = movement.stock.clone();
            let stock = stocks.entry(id.clone()).or_insert_with(|| Stock::untouched(id.clone()));
            let news = news.entry(id.clone()).or_default();
            let was_tracked = stock.tracked;
            let entry = stock.record(movement, now, |time| {
                moved_since(ledgers.get(&id).into_iter().flatten().chain(news.iter()), time)
            });
            news.push(entry.ok_or_else(|| Error::OnHandOutOfRange(id.clone()))?);
            if stock.tracked && !was_tracked {
                begun.insert(id);
            }
        }
        stocks.retain(|id, _| news.contains_key(id));
        let changed: Vec<_> = stocks.values().collect();
        let entries: Vec<_> = news.values().flatten().collect();
        store::record(tx.connection()?, &changed, &entries).await?;

        let mut told = Vec::new();
        for stock in stocks.values().filter(|stock| stock.tracked) {
            let mut entries = news.remove(&stock.id).unwrap_or_default();
            let mut earlier = earlier.get(&stock.id).map_or(&[][..], Vec::as_slice);
            if begun.contains(&stock.id) {
                entries.splice(..0, ledgers.remove(&stock.id).unwrap_or_default());
                earlier = &[];
            }
            told.extend(event::stock_changed(stock, &entries, earlier));
        }
        self.log.publish(tx, &told).await?;
        Ok(stocks)
    }
}

/// Those of `movements` whose sources the ledger does not know, each once.
async fn unknown(tx: &mut Tx, movements: Vec<Movement>) -> Result<Vec<Movement>, Error> {
    let key = |movement: &Movement| (movement.source.clone(), movement.stock.clone());
    let mut known = BTreeSet::new();
    let mut by_system: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for movement in &movements {
        by_system.entry(movement.source.system.as_str()).or_default().insert(movement.source.id.as_str());
    }
    for (system, ids) in by_system {
        let entries = store::entries_from(tx.connection()?, system, &ids).await?;
        known.extend(entries.iter().map(|entry| key(&entry.movement)));
    }
    Ok(movements.into_iter().filter(|movement| known.insert(key(movement))).collect())
}
