//! All SQL of the edge: the table of API keys.

use sqlx::{Any, Row, any::AnyRow};
use storage::Tx;

use super::{ApiKey, ConsumersError, Grant};

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Every key, expired ones included.
pub(super) async fn list_keys(database: &storage::Database) -> Result<Vec<ApiKey>, ConsumersError> {
    let mut connection = database.reader().await?;
    let rows = sqlx::query::<Any>(
        "SELECT id, secret_sha256, consumer, permissions, created_at, expires_at FROM api_keys
         ORDER BY consumer, created_at, id",
    )
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(read_key).collect()
}

fn read_key(row: &AnyRow) -> Result<ApiKey, ConsumersError> {
    let id: String = row.try_get("id")?;
    let secret_sha256 = row
        .try_get::<Vec<u8>, _>("secret_sha256")?
        .try_into()
        .map_err(|_| ConsumersError::Corrupt(id.clone()))?;
    let permissions: String = row.try_get("permissions")?;
    Ok(ApiKey {
        id,
        secret_sha256,
        grant: Grant {
            consumer: row.try_get("consumer")?,
            permissions: permissions.split(',').map(str::to_owned).collect(),
            expires_at: row.try_get("expires_at")?,
        },
        created_at: row.try_get("created_at")?,
    })
}

pub(super) async fn insert_key(tx: &mut Tx, key: &ApiKey) -> Result<(), ConsumersError> {
    sqlx::query::<Any>(
        "INSERT INTO api_keys (id, secret_sha256, consumer, permissions, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key.id.clone())
    .bind(key.secret_sha256.to_vec())
    .bind(key.grant.consumer.clone())
    .bind(key.grant.permissions.join(","))
    .bind(key.created_at)
    .bind(key.grant.expires_at)
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Forgets every key of a consumer, and says how many those were.
pub(super) async fn delete_keys_of(tx: &mut Tx, consumer: &str) -> Result<u64, ConsumersError> {
    let deleted = sqlx::query::<Any>("DELETE FROM api_keys WHERE consumer = $1")
        .bind(consumer.to_owned())
        .execute(tx.connection()?)
        .await?;
    Ok(deleted.rows_affected())
}

/// Forgets one key, if it is there.
pub(super) async fn delete_key(tx: &mut Tx, id: &str) -> Result<u64, ConsumersError> {
    let deleted = sqlx::query::<Any>("DELETE FROM api_keys WHERE id = $1")
        .bind(id.to_owned())
        .execute(tx.connection()?)
        .await?;
    Ok(deleted.rows_affected())
}
