//! Requests that were answered before (AIP-155): the answer is kept in the transaction of what it says, for a day.

use std::{convert::Infallible, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row;
use types::{Request, Timestamp};

use uuid::Uuid;

use crate::{Database, Error, Tx};

/// How long an answer is kept for a request that comes again.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two looks for older ones, half an hour more or less: replicas take turns.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Answers that one transaction forgets, so that nobody waits long for it.
const AT_ONCE: u64 = 10_000;

impl Database {
    /// Forgets old answers, for as long as it is polled.
    pub async fn forget_answers(self) -> Infallible {
        loop {
            let chance = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
            tokio::time::sleep(EVERY.mul_f64(0.5 + chance)).await;
            let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
            let before = Timestamp::from_micros(Timestamp::now().micros() - kept);
            if let Err(error) = self.forget_answers_before(before).await {
                tracing::warn!(%error, "old answers could not be forgotten; trying again in an hour");
            }
        }
    }

    /// Forgets the answers that were given before `time`; returns how many.
    pub async fn forget_answers_before(&self, time: Timestamp) -> Result<u64, Error> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin().await?;
            let deleted = sqlx::query(
                "DELETE FROM idempotency WHERE request_id IN \
                 (SELECT request_id FROM idempotency WHERE create_time < $1 LIMIT $2)",
            )
            .bind(time.micros())
            .bind(AT_ONCE as i64)
            .execute(tx.connection()?)
            .await?
            .rows_affected();
            tx.commit().await?;
            forgotten += deleted;
            if deleted < AT_ONCE {
                return Ok(forgotten);
            }
        }
    }
}

impl Tx {
    /// The answer that this request got before, if it did.
    pub async fn remembered<T: DeserializeOwned>(&mut self, request: &Request) -> Result<Option<T>, Error> {
        let Some(id) = request.id else { return Ok(None) };
        // Two deliveries of one request wait for each other: the later one finds the earlier one's answer.
        self.lock(&id.to_string()).await?;
        let row = sqlx::query("SELECT method, digest, response FROM idempotency WHERE request_id = $1")
            .bind(id.to_string())
            .fetch_optional(self.connection()?)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (method, digest): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        if method != request.method || digest != request.digest {
            return Err(Error::RequestIdReused(id));
        }
        let response: String = row.try_get(2)?;
        serde_json::from_str(&response).map(Some).map_err(|error| Error::Corrupt(error.to_string()))
    }

    /// Keeps the answer to this request for when it comes again.
    pub async fn remember<T: Serialize>(&mut self, request: &Request, answer: &T) -> Result<(), Error> {
        let Some(id) = request.id else { return Ok(()) };
        let response = serde_json::to_string(answer).map_err(|error| Error::Corrupt(error.to_string()))?;
        sqlx::query(
            "INSERT INTO idempotency (request_id, method, digest, response, create_time) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.to_string())
        .bind(request.method)
        .bind(request.digest.to_vec())
        .bind(response)
        .bind(Timestamp::now().micros())
        .execute(self.connection()?)
        .await?;
        Ok(())
    }
}
