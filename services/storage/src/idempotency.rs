//! Requests that were answered before (AIP-155): the answer is kept in the transaction of what it says.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row;
use types::{Request, Timestamp};

use crate::{Error, Tx};

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
