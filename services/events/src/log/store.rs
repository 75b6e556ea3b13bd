//! The outbox's SQL.

use futures::TryStreamExt;
use omnimesh_proto::event::v1::Event;
use prost::Message;
use storage::{
    Database, Engine, Statement, Tx, insert_many,
    sqlx::{self, AnyConnection, Row, any::AnyRow, migrate::Migrator},
};
use types::Timestamp;
use uuid::Uuid;

use super::{Batch, NewEvent};
use crate::{Cursor, Error};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// A run ends after this many events or bytes, whichever comes first.
const RUN_EVENTS: i64 = 2_500;
pub(super) const RUN_BYTES: usize = 2 * 1024 * 1024;

pub(crate) async fn migrate(database: &Database) -> Result<(), Error> {
    let migrations = match database.engine() {
        Engine::Sqlite => &SQLITE,
        Engine::Postgres => &POSTGRES,
    };
    Ok(database.migrate("events", migrations).await?)
}

/// Makes sure that the log was written by the server that it is on: PostgreSQL's transaction ids order it, and another
/// server's are no part of that order.
pub(super) async fn check_cluster(database: &Database) -> Result<(), Error> {
    if database.engine() == Engine::Sqlite {
        return Ok(());
    }
    let row = sqlx::query(
        "SELECT tx FROM outbox WHERE tx >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
         ORDER BY tx DESC LIMIT 1",
    );
    let row = row.fetch_optional(&mut *database.reader().await?).await.map_err(storage::Error::from)?;
    match row {
        Some(row) => {
            let tx: i64 = row.try_get(0).map_err(storage::Error::from)?;
            Err(Error::OtherCluster { epoch: (tx >> 32) + 1 })
        }
        None => Ok(()),
    }
}

pub(super) async fn publish(tx: &mut Tx, events: &[NewEvent], record_time: Timestamp) -> Result<(), Error> {
    let traceparent = mesh::telemetry::traceparent().unwrap_or_default();
    insert_many(
        tx.connection()?,
        "INSERT INTO outbox (id, type, subject, event_time, record_time, schema_version, traceparent, payload) VALUES",
        "",
        events,
        |row, event| {
            row.bind(Uuid::now_v7().to_string())
                .bind(event.r#type)
                .bind(event.subject.as_str())
                .bind(event.event_time.micros())
                .bind(record_time.micros())
                .bind(1_i64)
                .bind(traceparent.as_str())
                .bind(event.payload.as_slice());
        },
    )
    .await?;
    Ok(())
}

/// The newest position that no open transaction can still come before.
async fn horizon(connection: &mut AnyConnection, engine: Engine) -> Result<Cursor, storage::Error> {
    let closed = match engine {
        // One writer at a time: what is committed is closed.
        Engine::Sqlite => "",
        Engine::Postgres => " WHERE tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    };
    newest(connection, engine, closed).await
}

async fn newest(
    connection: &mut AnyConnection,
    engine: Engine,
    condition: &'static str,
) -> Result<Cursor, storage::Error> {
    let mut statement = Statement::new("SELECT tx, seq FROM outbox");
    statement.push(condition).push(match engine {
        Engine::Sqlite => " ORDER BY seq DESC LIMIT 1",
        Engine::Postgres => " ORDER BY tx DESC, seq DESC LIMIT 1",
    });
    Ok(match statement.fetch_optional(connection).await? {
        Some(row) => Cursor { tx: row.try_get(0)?, seq: row.try_get(1)? },
        None => Cursor::START,
    })
}

pub(super) async fn head(database: &Database) -> Result<Cursor, Error> {
    Ok(horizon(&mut *database.reader().await?, database.engine()).await?)
}

pub(super) async fn committed(database: &Database) -> Result<Cursor, Error> {
    Ok(newest(&mut *database.reader().await?, database.engine(), "").await?)
}

pub(super) async fn read(database: &Database, after: Cursor, types: &[String]) -> Result<Batch, Error> {
    let mut reader = database.reader().await?;
    let end = horizon(&mut reader, database.engine()).await?;
    if end <= after {
        return Ok(Batch { events: Vec::new(), cursor: after });
    }
    let mut statement = Statement::new(
        "SELECT tx, seq, id, type, subject, event_time, record_time, schema_version, traceparent, payload \
         FROM outbox WHERE ",
    );
    match database.engine() {
        Engine::Sqlite => statement.push("seq > ").bind(after.seq).push(" AND seq <= ").bind(end.seq),
        Engine::Postgres => statement
            .push("(tx, seq) > (")
            .bind_all([after.tx, after.seq])
            .push(") AND (tx, seq) <= (")
            .bind_all([end.tx, end.seq])
            .push(")"),
    };
    if !types.is_empty() {
        statement.push(" AND type IN (").bind_all(types.iter().map(String::as_str)).push(")");
    }
    statement.push(match database.engine() {
        Engine::Sqlite => " ORDER BY seq LIMIT ",
        Engine::Postgres => " ORDER BY tx, seq LIMIT ",
    });
    statement.bind(RUN_EVENTS);

    let mut batch = Batch { events: Vec::new(), cursor: end };
    let mut bytes = 0;
    let mut rows = statement.fetch(&mut reader)?;
    while let Some(row) = rows.try_next().await.map_err(storage::Error::from)? {
        let (cursor, event) = event(&row).map_err(storage::Error::from)?;
        bytes += event.encoded_len();
        batch.events.push(event);
        if bytes >= RUN_BYTES || batch.events.len() as i64 == RUN_EVENTS {
            batch.cursor = cursor;
            break;
        }
    }
    Ok(batch)
}

fn event(row: &AnyRow) -> Result<(Cursor, Event), sqlx::Error> {
    let cursor = Cursor { tx: row.try_get(0)?, seq: row.try_get(1)? };
    let event = Event {
        id: row.try_get(2)?,
        r#type: row.try_get(3)?,
        subject: row.try_get(4)?,
        event_time: Some(Timestamp::from_micros(row.try_get(5)?).into()),
        record_time: Some(Timestamp::from_micros(row.try_get(6)?).into()),
        schema_version: i32::try_from(row.try_get::<i64, _>(7)?).unwrap_or(i32::MAX),
        traceparent: row.try_get(8)?,
        payload: row.try_get::<Vec<u8>, _>(9)?.into(),
        cursor: cursor.to_string(),
    };
    Ok((cursor, event))
}

/// Where a consumer is, kept in its own database.
pub(crate) async fn cursor(database: &Database, consumer: &str) -> Result<Cursor, Error> {
    let mut reader = database.reader().await?;
    let row = sqlx::query("SELECT tx, seq FROM cursors WHERE consumer = $1")
        .bind(consumer)
        .fetch_optional(&mut *reader)
        .await
        .map_err(storage::Error::from)?;
    let Some(row) = row else { return Ok(Cursor::START) };
    let read = |index| row.try_get::<i64, _>(index).map_err(storage::Error::from);
    Ok(Cursor { tx: read(0)?, seq: read(1)? })
}

/// Moves a consumer on. False when somebody else has moved it from `from` before.
pub(crate) async fn advance(tx: &mut Tx, consumer: &str, from: Cursor, to: Cursor) -> Result<bool, Error> {
    let mut statement = Statement::new("INSERT INTO cursors (consumer, tx, seq) VALUES (");
    statement.bind(consumer).push(", ").bind_all([to.tx, to.seq]);
    statement.push(
        ") ON CONFLICT (consumer) DO UPDATE SET tx = excluded.tx, seq = excluded.seq WHERE cursors.tx = ",
    );
    statement.bind(from.tx).push(" AND cursors.seq = ").bind(from.seq);
    Ok(statement.execute(tx.connection()?).await?.rows_affected() == 1)
}
