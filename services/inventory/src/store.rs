//! All SQL of the inventory service.

use std::collections::{BTreeMap, BTreeSet};

use storage::{
    Database, Statement, Tx, insert_many,
    sqlx::{self, AnyConnection, Row, any::AnyRow, migrate::Migrator, pool::PoolConnection},
};
use types::{LocationId, Sku, SourceRef, Timestamp, filter::Condition};

use crate::{
    Error,
    domain::{Entry, Kind, Movement, Stock, StockId},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// Values in one IN list.
const CHUNK: usize = 500;

const STOCK: &str =
    "SELECT location_id, sku, tracked, on_hand, last_count_time, ledger_sequence, update_time FROM stocks";
const LEDGER: &str = "SELECT location_id, sku, ledger_sequence, kind, quantity, event_time, record_time, \
    source_system, source_id FROM ledger";

#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        Ok(self.database.begin().await?)
    }

    pub(crate) async fn reader(&self) -> Result<PoolConnection<sqlx::Any>, Error> {
        Ok(self.database.reader().await?)
    }
}

/// The stocks of `ids` that the ledger knows, tracked or not.
pub(crate) async fn stocks(
    connection: &mut AnyConnection,
    ids: &BTreeSet<StockId>,
) -> Result<BTreeMap<StockId, Stock>, Error> {
    let rows = rows_of(connection, STOCK, ids).await?;
    rows.iter().map(|row| stock(row).map(|stock| (stock.id.clone(), stock))).collect()
}

/// The whole ledger of `ids`, each oldest first.
pub(crate) async fn ledgers(
    connection: &mut AnyConnection,
    ids: &BTreeSet<StockId>,
) -> Result<BTreeMap<StockId, Vec<Entry>>, Error> {
    let mut ledgers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows_of(connection, LEDGER, ids).await? {
        let entry = entry(&row)?;
        ledgers.entry(entry.movement.stock.clone()).or_default().push(entry);
    }
    for entries in ledgers.values_mut() {
        entries.sort_unstable_by_key(|entry| entry.sequence);
    }
    Ok(ledgers)
}

async fn rows_of(
    connection: &mut AnyConnection,
    select: &'static str,
    ids: &BTreeSet<StockId>,
) -> Result<Vec<AnyRow>, Error> {
    // By location, because both engines find `location_id = … AND sku IN (…)` by the index.
    let mut by_location: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for id in ids {
        by_location.entry(id.location_id.as_str()).or_default().push(id.sku.as_str());
    }
    let mut rows = Vec::new();
    for (location, skus) in by_location {
        for skus in skus.chunks(CHUNK) {
            let mut statement = Statement::new(select);
            statement.push(" WHERE location_id = ").bind(location);
            statement.push(" AND sku IN (").bind_all(skus.iter().copied()).push(")");
            rows.extend(statement.fetch_all(connection).await?);
        }
    }
    Ok(rows)
}

/// The ledger's entries that come from `sources`.
pub(crate) async fn entries_from(
    connection: &mut AnyConnection,
    system: &str,
    ids: &BTreeSet<&str>,
) -> Result<Vec<Entry>, Error> {
    let ids: Vec<_> = ids.iter().copied().collect();
    let mut entries = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let mut statement = Statement::new(LEDGER);
        statement.push(" WHERE source_system = ").bind(system);
        statement.push(" AND source_id IN (").bind_all(ids.iter().copied()).push(")");
        for row in statement.fetch_all(connection).await? {
            entries.push(entry(&row)?);
        }
    }
    Ok(entries)
}

/// Writes stocks as they are now, and the entries that made them so.
pub(crate) async fn record(
    connection: &mut AnyConnection,
    stocks: &[&Stock],
    entries: &[&Entry],
) -> Result<(), Error> {
    insert_many(
        connection,
        "INSERT INTO ledger (location_id, sku, ledger_sequence, kind, quantity, event_time, record_time, \
         source_system, source_id) VALUES",
        "",
        entries,
        |row, Entry { sequence, movement, record_time }| {
            row.bind(movement.stock.location_id.as_str())
                .bind(movement.stock.sku.as_str())
                .bind(*sequence)
                .bind(kind_number(movement.kind))
                .bind(movement.quantity)
                .bind(movement.event_time.micros())
                .bind(record_time.micros())
                .bind(movement.source.system.as_str())
                .bind(movement.source.id.as_str());
        },
    )
    .await?;
    insert_many(
        connection,
        "INSERT INTO stocks (location_id, sku, tracked, on_hand, last_count_time, ledger_sequence, update_time) \
         VALUES",
        "ON CONFLICT (location_id, sku) DO UPDATE SET tracked = excluded.tracked, on_hand = excluded.on_hand, \
         last_count_time = excluded.last_count_time, ledger_sequence = excluded.ledger_sequence, \
         update_time = excluded.update_time",
        stocks,
        |row, stock| {
            row.bind(stock.id.location_id.as_str())
                .bind(stock.id.sku.as_str())
                .bind(i64::from(stock.tracked))
                .bind(stock.on_hand)
                .bind(stock.last_count_time.map(Timestamp::micros))
                .bind(stock.ledger_sequence)
                .bind(stock.update_time.micros());
        },
    )
    .await?;
    Ok(())
}

/// Tracked stocks after `after` in order of location and product.
pub(crate) async fn list_stocks(
    connection: &mut AnyConnection,
    filter: &[Condition],
    after: Option<&StockId>,
    limit: i64,
) -> Result<Vec<Stock>, Error> {
    let mut statement = Statement::new(STOCK);
    statement.push(" WHERE tracked = 1");
    statement.and(filter);
    if let Some(after) = after {
        statement.push(" AND (location_id, sku) > (");
        statement.bind_all([after.location_id.as_str(), after.sku.as_str()]).push(")");
    }
    statement.push(" ORDER BY location_id, sku LIMIT ").bind(limit);
    statement.fetch_all(connection).await?.iter().map(stock).collect()
}

/// A stock's ledger after sequence `after`.
pub(crate) async fn list_stock_movements(
    connection: &mut AnyConnection,
    id: &StockId,
    after: i64,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    let mut statement = Statement::new(LEDGER);
    statement.push(" WHERE location_id = ").bind(id.location_id.as_str());
    statement.push(" AND sku = ").bind(id.sku.as_str());
    statement.push(" AND ledger_sequence > ").bind(after);
    statement.push(" ORDER BY ledger_sequence LIMIT ").bind(limit);
    statement.fetch_all(connection).await?.iter().map(entry).collect()
}

fn stock_id(row: &AnyRow) -> Result<StockId, Error> {
    Ok(StockId {
        location_id: LocationId::from_trusted(row.try_get(0)?),
        sku: Sku::from_trusted(row.try_get(1)?),
    })
}

fn stock(row: &AnyRow) -> Result<Stock, Error> {
    Ok(Stock {
        id: stock_id(row)?,
        tracked: row.try_get::<i64, _>(2)? == 1,
        on_hand: row.try_get(3)?,
        last_count_time: row.try_get::<Option<i64>, _>(4)?.map(Timestamp::from_micros),
        ledger_sequence: row.try_get(5)?,
        update_time: Timestamp::from_micros(row.try_get(6)?),
    })
}

fn entry(row: &AnyRow) -> Result<Entry, Error> {
    let (system, id): (String, String) = (row.try_get(7)?, row.try_get(8)?);
    Ok(Entry {
        sequence: row.try_get(2)?,
        movement: Movement {
            stock: stock_id(row)?,
            kind: kind(row.try_get(3)?)?,
            quantity: row.try_get(4)?,
            event_time: Timestamp::from_micros(row.try_get(5)?),
            source: SourceRef::new(&system, &id).map_err(|error| Error::Corrupt(error.to_string()))?,
        },
        record_time: Timestamp::from_micros(row.try_get(6)?),
    })
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Count => 1,
        Kind::Delivery => 2,
        Kind::Sale => 3,
        Kind::Adjustment => 4,
    }
}

fn kind(number: i64) -> Result<Kind, Error> {
    match number {
        1 => Ok(Kind::Count),
        2 => Ok(Kind::Delivery),
        3 => Ok(Kind::Sale),
        4 => Ok(Kind::Adjustment),
        _ => Err(Error::Corrupt(format!("movement kind {number}"))),
    }
}
