//! All SQL of the edge: the table of API keys.

use sqlx::{Any, Row, any::AnyRow};
use storage::Tx;

use crate::first::error::KeysError;
use crate::keys::ApiKey;

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Every key, expired ones included.
pub(crate) async fn list_keys(database: &storage::Database) -> Result<Vec<ApiKey>, KeysError> {
    let mut connection = database.reader().await?;
    let rows = sqlx::query::<Any>(
        "SELECT id, secret_sha256, consumer, permissions, created_at, expires_at FROM api_keys ORDER BY id",
    )
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(read_key).collect()
}

fn read_key(row: &AnyRow) -> Result<ApiKey, KeysError> {
    let id: String = row.try_get("id")?;
    let secret_sha256 =
        row.try_get::<Vec<u8>, _>("secret_sha256")?.try_into().map_err(|_| KeysError::Corrupt(id.clone()))?;
    let permissions: String = row.try_get("permissions")?;
    Ok(ApiKey {
        id,
        secret_sha256,
        consumer: row.try_get("consumer")?,
        permissions: permissions.split(',').map(str::to_owned).collect(),
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}

pub(crate) async fn insert_key(tx: &mut Tx, key: &ApiKey) -> Result<(), KeysError> {
    sqlx::query::<Any>(
        "INSERT INTO api_keys (id, secret_sha256, consumer, permissions, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key.id.clone())
    .bind(key.secret_sha256.to_vec())
    .bind(key.consumer.clone())
    .bind(key.permissions.join(","))
    .bind(key.created_at)
    .bind(key.expires_at)
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Forgets every key of a consumer.
pub(crate) async fn delete_keys_of(tx: &mut Tx, consumer: &str) -> Result<(), KeysError> {
    sqlx::query::<Any>("DELETE FROM api_keys WHERE consumer = $1")
        .bind(consumer.to_owned())
        .execute(tx.connection()?)
        .await?;
    Ok(())
}
