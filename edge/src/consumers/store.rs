//! All SQL of the edge: keys, plans and usage of consumers.

use sqlx::{Any, Row, any::AnyRow};
use storage::Tx;

use super::{ApiKey, ConsumersError, Grant, Month, Plan, Rate, Usage};

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

/// Makes a plan, or changes it.
pub(super) async fn upsert_plan(tx: &mut Tx, plan: &Plan) -> Result<(), ConsumersError> {
    sqlx::query::<Any>(
        "INSERT INTO plans (name, rate, burst, monthly_quota) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE
         SET rate = excluded.rate, burst = excluded.burst, monthly_quota = excluded.monthly_quota",
    )
    .bind(plan.name.clone())
    .bind(plan.rate.map(|rate| i64::from(rate.per_second)))
    .bind(plan.rate.map(|rate| i64::from(rate.burst)))
    .bind(plan.monthly_quota.map(|quota| i64::try_from(quota).unwrap_or(i64::MAX)))
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Every plan, by name.
pub(super) async fn list_plans(database: &storage::Database) -> Result<Vec<Plan>, ConsumersError> {
    let mut connection = database.reader().await?;
    let rows = sqlx::query::<Any>("SELECT name, rate, burst, monthly_quota FROM plans ORDER BY name")
        .fetch_all(&mut *connection)
        .await?;
    rows.iter().map(read_plan).collect()
}

fn read_plan(row: &AnyRow) -> Result<Plan, ConsumersError> {
    let small = |column| -> Result<Option<u32>, ConsumersError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.and_then(|number| u32::try_from(number).ok()))
    };
    let rate = small("rate")?.zip(small("burst")?);
    Ok(Plan {
        name: row.try_get("name")?,
        rate: rate.map(|(per_second, burst)| Rate { per_second, burst }),
        monthly_quota: read_count(row, "monthly_quota")?,
    })
}

fn read_count(row: &AnyRow, column: &str) -> Result<Option<u64>, ConsumersError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|number| u64::try_from(number).unwrap_or_default()))
}

/// Forgets a plan, if it is there.
pub(super) async fn delete_plan(tx: &mut Tx, name: &str) -> Result<u64, ConsumersError> {
    let deleted = sqlx::query::<Any>("DELETE FROM plans WHERE name = $1")
        .bind(name.to_owned())
        .execute(tx.connection()?)
        .await?;
    Ok(deleted.rows_affected())
}

/// Who is on which plan, by consumer.
pub(super) async fn list_consumer_plans(
    database: &storage::Database,
) -> Result<Vec<(String, String)>, ConsumersError> {
    let mut connection = database.reader().await?;
    let rows = sqlx::query::<Any>("SELECT consumer, plan FROM consumer_plans ORDER BY consumer")
        .fetch_all(&mut *connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("consumer")?, row.try_get("plan")?))).collect()
}

/// Puts a consumer on a plan, or on none.
pub(super) async fn assign_plan(
    tx: &mut Tx,
    consumer: &str,
    plan: Option<&str>,
) -> Result<(), ConsumersError> {
    let statement = match plan {
        Some(plan) => sqlx::query::<Any>(
            "INSERT INTO consumer_plans (consumer, plan) VALUES ($1, $2)
             ON CONFLICT (consumer) DO UPDATE SET plan = excluded.plan",
        )
        .bind(consumer.to_owned())
        .bind(plan.to_owned()),
        None => {
            sqlx::query::<Any>("DELETE FROM consumer_plans WHERE consumer = $1").bind(consumer.to_owned())
        }
    };
    statement.execute(tx.connection()?).await?;
    Ok(())
}

/// Adds to what a consumer's edges have leased and used in a month, and says what they have leased now. The row stays
/// the transaction's until it ends.
pub(super) async fn add_usage(
    tx: &mut Tx,
    consumer: &str,
    month: Month,
    leased: i64,
    used: i64,
) -> Result<i64, ConsumersError> {
    let row = sqlx::query::<Any>(
        "INSERT INTO monthly_usage (consumer, month, leased, used) VALUES ($1, $2, $3, $4)
         ON CONFLICT (consumer, month) DO UPDATE
         SET leased = monthly_usage.leased + excluded.leased, used = monthly_usage.used + excluded.used
         RETURNING leased",
    )
    .bind(consumer.to_owned())
    .bind(month.to_string())
    .bind(leased)
    .bind(used)
    .fetch_one(tx.connection()?)
    .await?;
    Ok(row.try_get("leased")?)
}

/// The usage of everybody who has a key or a call in a month, by name.
pub(super) async fn list_usage(
    database: &storage::Database,
    month: Month,
) -> Result<Vec<Usage>, ConsumersError> {
    let mut connection = database.reader().await?;
    let rows = sqlx::query::<Any>(
        "WITH of_month AS (SELECT consumer, leased, used FROM monthly_usage WHERE month = $1),
              known AS (SELECT consumer FROM api_keys UNION SELECT consumer FROM of_month)
         SELECT known.consumer AS consumer, plans.name AS plan, plans.monthly_quota AS quota,
                COALESCE(of_month.leased, 0) AS leased, COALESCE(of_month.used, 0) AS used
         FROM known
         LEFT JOIN consumer_plans ON consumer_plans.consumer = known.consumer
         LEFT JOIN plans ON plans.name = consumer_plans.plan
         LEFT JOIN of_month ON of_month.consumer = known.consumer
         ORDER BY known.consumer",
    )
    .bind(month.to_string())
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(read_usage).collect()
}

fn read_usage(row: &AnyRow) -> Result<Usage, ConsumersError> {
    let used = read_count(row, "used")?.unwrap_or_default();
    let leased = read_count(row, "leased")?.unwrap_or_default();
    Ok(Usage {
        consumer: row.try_get("consumer")?,
        plan: row.try_get("plan")?,
        quota: read_count(row, "quota")?,
        used,
        held: leased.saturating_sub(used),
    })
}
