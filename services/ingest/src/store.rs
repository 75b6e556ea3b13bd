//! All SQL of this service.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use storage::{
    Database, Error, Statement, Tx, insert_many,
    sqlx::{self, AnyConnection, Row, any::AnyRow, migrate::Migrator, pool::PoolConnection},
};
use types::{Timestamp, page::Page};
use uuid::Uuid;

use crate::{
    connector::Known,
    domain::{EntityState, Quarantined, Settled},
    landing::{Checkpoint, RECORD_BYTES},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// What a run finds of an object whose records are not all settled.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) entity: String,
    pub(crate) object: String,
    pub(crate) applied_to: i64,
    pub(crate) landed_after: String,
    pub(crate) revision: i64,
}

/// Where a record's object is in our own log, and the revision that a replay of it is.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) landed_after: String,
    pub(crate) revision: i64,
}

/// What the records of a page may hold together: more than one does, and less than a message.
const PAGE_BYTES: usize = 2 * RECORD_BYTES;

const OBJECT_COLUMNS: &str = "INSERT INTO objects (system, entity, object, size, mtime, position, digest, complete, \
    landed_count, applied_count, quarantined_count, applied_to, revision, landed_after) VALUES";

#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        self.database.begin().await
    }

    pub(crate) async fn reader(&self) -> Result<PoolConnection<sqlx::Any>, Error> {
        self.database.reader().await
    }

    pub(crate) async fn known(&self, system: &str, entity: &str) -> Result<HashMap<String, Known>, Error> {
        let rows = sqlx::query(
            "SELECT object, size, mtime, position, digest, complete, landed_count, revision FROM objects \
             WHERE system = $1 AND entity = $2",
        )
        .bind(system)
        .bind(entity)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, known(row)?))).collect()
    }

    pub(crate) async fn unsettled(&self, system: &str) -> Result<Vec<Unsettled>, Error> {
        let rows = sqlx::query(
            "SELECT entity, object, applied_to, landed_after, revision FROM objects \
             WHERE system = $1 AND landed_count <> applied_count + quarantined_count",
        )
        .bind(system)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let object = |row: &AnyRow| {
            Ok(Unsettled {
                entity: row.try_get(0)?,
                object: row.try_get(1)?,
                applied_to: row.try_get(2)?,
                landed_after: row.try_get(3)?,
                revision: row.try_get(4)?,
            })
        };
        rows.iter().map(object).collect()
    }

    pub(crate) async fn get_quarantined_record(&self, id: Uuid) -> Result<Option<Quarantined>, Error> {
        let mut statement = Statement::new(QUARANTINED);
        statement.push(" WHERE id = ").bind(id.to_string());
        let row = statement.fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(quarantined).transpose()
    }

    /// A page of records, and one beyond it if there is one. Large records make a shorter page.
    pub(crate) async fn list_quarantined_records(
        &self,
        page: &mut Page,
        conditions: &[types::filter::Condition],
    ) -> Result<Vec<Quarantined>, Error> {
        let mut statement = Statement::new(QUARANTINED);
        statement.push(" WHERE 1 = 1");
        statement.and(conditions);
        if let Some([time, id]) = page.after.as_deref() {
            statement.push(" AND (create_time, id) > (").bind(time.parse::<i64>().unwrap_or(0));
            statement.push(", ").bind(id.as_str()).push(")");
        }
        statement.push(" ORDER BY create_time, id LIMIT ").bind(page.limit());
        let mut reader = self.reader().await?;
        let mut rows = statement.fetch(&mut reader)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() <= page.size
            && let Some(row) = rows.try_next().await?
        {
            let record = quarantined(&row)?;
            bytes += record.payload.len();
            if bytes > PAGE_BYTES {
                page.size = records.len();
            }
            records.push(record);
        }
        Ok(records)
    }
}

fn known(row: &AnyRow) -> Result<Known, sqlx::Error> {
    Ok(Known {
        size: row.try_get(1)?,
        mtime: row.try_get(2)?,
        position: row.try_get(3)?,
        digest: row.try_get(4)?,
        complete: row.try_get::<i64, _>(5)? != 0,
        landed: row.try_get(6)?,
        revision: row.try_get(7)?,
    })
}

/// The counts of every entity that has objects, and when a run last ended.
pub(crate) async fn get_source(
    connection: &mut AnyConnection,
    system: &str,
) -> Result<(Vec<EntityState>, Option<Timestamp>), Error> {
    let rows = sqlx::query(
        "SELECT entity, CAST(SUM(landed_count) AS BIGINT), CAST(SUM(applied_count) AS BIGINT), \
         CAST(SUM(quarantined_count) AS BIGINT), CAST(SUM(complete) AS BIGINT) FROM objects \
         WHERE system = $1 GROUP BY entity",
    )
    .bind(system)
    .fetch_all(&mut *connection)
    .await?;
    let entity = |row: &AnyRow| {
        Ok(EntityState {
            entity: row.try_get(0)?,
            landed: row.try_get(1)?,
            applied: row.try_get(2)?,
            quarantined: row.try_get(3)?,
            objects: row.try_get(4)?,
        })
    };
    let entities: Result<_, sqlx::Error> = rows.iter().map(entity).collect();
    let row = sqlx::query("SELECT update_time FROM sources WHERE system = $1").bind(system);
    let row = row.fetch_optional(connection).await?;
    let update_time = row.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_micros);
    Ok((entities?, update_time))
}

/// Notes what a source has come to. False if that was published already.
pub(crate) async fn touch_source(
    tx: &mut Tx,
    system: &str,
    counts: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let written = sqlx::query(
        "INSERT INTO sources (system, counts, update_time) VALUES ($1, $2, $3) \
         ON CONFLICT (system) DO UPDATE SET counts = excluded.counts, update_time = excluded.update_time \
         WHERE sources.counts <> excluded.counts",
    )
    .bind(system)
    .bind(counts)
    .bind(now.micros())
    .execute(tx.connection()?)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Notes how far objects are; `names` are the entities'.
pub(crate) async fn land(
    tx: &mut Tx,
    system: &str,
    names: &[&str],
    checkpoints: &[Checkpoint],
    landed_after: &str,
) -> Result<(), Error> {
    for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.restart) {
        forget(tx, system, names[checkpoint.entity], &checkpoint.object).await?;
    }
    insert_many(
        tx.connection()?,
        OBJECT_COLUMNS,
        "ON CONFLICT (system, entity, object) DO UPDATE SET size = excluded.size, mtime = excluded.mtime, \
         position = excluded.position, digest = excluded.digest, complete = excluded.complete, \
         landed_count = objects.landed_count + excluded.landed_count",
        checkpoints,
        |row, checkpoint| {
            // An object that is put aside as a whole is settled at once.
            let failed = if checkpoint.failure.is_some() { checkpoint.landed } else { 0 };
            row.bind(system)
                .bind(names[checkpoint.entity])
                .bind(&*checkpoint.object)
                .bind(checkpoint.size)
                .bind(checkpoint.mtime)
                .bind(checkpoint.position.as_str())
                .bind(checkpoint.digest.as_str())
                .bind(i64::from(checkpoint.complete))
                .bind(checkpoint.landed)
                .bind(0_i64)
                .bind(failed)
                .bind(-1_i64)
                .bind(checkpoint.revision)
                .bind(landed_after);
        },
    )
    .await?;
    Ok(())
}

/// Forgets what was known of an object that is another now.
async fn forget(tx: &mut Tx, system: &str, entity: &str, object: &str) -> Result<(), Error> {
    for sql in [
        "DELETE FROM quarantine WHERE system = $1 AND entity = $2 AND object = $3",
        "DELETE FROM replayed WHERE system = $1 AND entity = $2 AND object = $3",
        "DELETE FROM objects WHERE system = $1 AND entity = $2 AND object = $3",
    ] {
        sqlx::query(sql).bind(system).bind(entity).bind(object).execute(tx.connection()?).await?;
    }
    Ok(())
}

/// Adds what came of landed records.
pub(crate) async fn settle(
    tx: &mut Tx,
    system: &str,
    settled: &[Settled],
    quarantined: &[Quarantined],
) -> Result<(), Error> {
    insert_many(
        tx.connection()?,
        OBJECT_COLUMNS,
        "ON CONFLICT (system, entity, object) DO UPDATE SET \
         applied_count = objects.applied_count + excluded.applied_count, \
         quarantined_count = objects.quarantined_count + excluded.quarantined_count, \
         applied_to = excluded.applied_to",
        settled,
        |row, object| {
            row.bind(system)
                .bind(object.entity.as_str())
                .bind(object.object.as_str())
                .bind(0_i64)
                .bind(0_i64)
                .bind("")
                .bind("")
                .bind(0_i64)
                .bind(0_i64)
                .bind(object.applied)
                .bind(object.quarantined)
                .bind(object.applied_to)
                .bind(0_i64)
                .bind("");
        },
    )
    .await?;
    quarantine(tx, quarantined).await
}

pub(crate) async fn quarantine(tx: &mut Tx, records: &[Quarantined]) -> Result<(), Error> {
    insert_many(
        tx.connection()?,
        "INSERT INTO quarantine (id, system, entity, object, position, payload, reason, create_time) VALUES",
        "ON CONFLICT (id) DO NOTHING",
        records,
        |row, record| {
            row.bind(record.id.to_string())
                .bind(record.system.as_str())
                .bind(record.entity.as_str())
                .bind(record.object.as_str())
                .bind(record.position.as_str())
                // PostgreSQL's text holds no NUL.
                .bind(record.payload.replace('\0', "\u{fffd}"))
                .bind(record.reason.replace('\0', "\u{fffd}"))
                .bind(record.create_time.micros());
        },
    )
    .await?;
    Ok(())
}

/// Begins a revision of a record's object. None if the object is not known any more.
pub(crate) async fn revise(tx: &mut Tx, record: &Quarantined) -> Result<Option<Origin>, Error> {
    let row = sqlx::query(
        "UPDATE objects SET revision = revision + 1 WHERE system = $1 AND entity = $2 AND object = $3 \
         RETURNING landed_after, revision",
    )
    .bind(record.system.as_str())
    .bind(record.entity.as_str())
    .bind(record.object.as_str())
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| Ok(Origin { landed_after: row.try_get(0)?, revision: row.try_get(1)? })).transpose()
}

/// Positions of the records of an object that are quarantined now.
pub(crate) async fn quarantined_positions(
    connection: &mut AnyConnection,
    record: &Quarantined,
) -> Result<HashSet<String>, Error> {
    let rows =
        sqlx::query("SELECT position FROM quarantine WHERE system = $1 AND entity = $2 AND object = $3")
            .bind(record.system.as_str())
            .bind(record.entity.as_str())
            .bind(record.object.as_str())
            .fetch_all(connection)
            .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// What was taken in place of records of an object, by their position.
pub(crate) async fn replayed_payloads(
    connection: &mut AnyConnection,
    record: &Quarantined,
) -> Result<HashMap<String, String>, Error> {
    let rows = sqlx::query(
        "SELECT position, payload FROM replayed WHERE system = $1 AND entity = $2 AND object = $3",
    )
    .bind(record.system.as_str())
    .bind(record.entity.as_str())
    .bind(record.object.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?)
}

/// Moves a record from quarantined to applied, with the payload that was taken. False if it is not quarantined any
/// more.
pub(crate) async fn release(tx: &mut Tx, record: &Quarantined, payload: &str) -> Result<bool, Error> {
    let deleted = sqlx::query("DELETE FROM quarantine WHERE id = $1").bind(record.id.to_string());
    if deleted.execute(tx.connection()?).await?.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO replayed (id, system, entity, object, position, payload) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(record.id.to_string())
    .bind(record.system.as_str())
    .bind(record.entity.as_str())
    .bind(record.object.as_str())
    .bind(record.position.as_str())
    .bind(payload)
    .execute(tx.connection()?)
    .await?;
    sqlx::query(
        "UPDATE objects SET applied_count = applied_count + 1, quarantined_count = quarantined_count - 1 \
         WHERE system = $1 AND entity = $2 AND object = $3",
    )
    .bind(record.system.as_str())
    .bind(record.entity.as_str())
    .bind(record.object.as_str())
    .execute(tx.connection()?)
    .await?;
    Ok(true)
}

const QUARANTINED: &str =
    "SELECT id, system, entity, object, position, payload, reason, create_time FROM quarantine";

fn quarantined(row: &AnyRow) -> Result<Quarantined, Error> {
    let id: String = row.try_get(0)?;
    Ok(Quarantined {
        id: id.parse().map_err(|_| storage::Error::Corrupt(id))?,
        system: row.try_get(1)?,
        entity: row.try_get(2)?,
        object: row.try_get(3)?,
        position: row.try_get(4)?,
        payload: row.try_get(5)?,
        reason: row.try_get(6)?,
        create_time: Timestamp::from_micros(row.try_get(7)?),
    })
}
