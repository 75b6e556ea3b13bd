//! What consumers have used of their quotas.

use super::ledger::{Counts, portion};
use super::{Consumers, ConsumersError, Month, store};

/// The calls of a consumer in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub consumer: String,
    pub plan: Option<String>,
    pub quota: Option<u64>,
    /// Calls that were made, as edges have told.
    pub used: u64,
    /// Calls of the quota that edges hold, or have lost by a crash.
    pub held: u64,
}

impl Consumers {
    /// The usage of everybody who has a key or a call in the month, by name.
    pub async fn usage(&self, month: Month) -> Result<Vec<Usage>, ConsumersError> {
        store::list_usage(&self.database, month).await
    }

    /// Leases a portion of what is left of a quota: how many calls, and how many are left beyond.
    pub(super) async fn lease(
        &self,
        consumer: &str,
        month: Month,
        quota: u64,
    ) -> Result<(u64, u64), ConsumersError> {
        let mut tx = self.database.begin().await?;
        // Adding nothing makes the row and holds it: other edges wait until this one has its portion.
        let leased = store::add_usage(&mut tx, consumer, month, 0, 0).await?;
        let leased = u64::try_from(leased).unwrap_or_default();
        let granted = portion(quota, leased);
        store::add_usage(&mut tx, consumer, month, signed(granted), 0).await?;
        tx.commit().await?;
        Ok((granted, quota.saturating_sub(leased + granted)))
    }

    /// Tells what was used, and gives back what was leased and will not be.
    pub(super) async fn settle(
        &self,
        consumer: &str,
        told: &[(Month, Counts)],
    ) -> Result<(), ConsumersError> {
        let mut tx = self.database.begin().await?;
        for (month, counts) in told {
            let leased = signed(counts.uncovered) - signed(counts.returned);
            store::add_usage(&mut tx, consumer, *month, leased, signed(counts.used)).await?;
        }
        Ok(tx.commit().await?)
    }
}

fn signed(calls: u64) -> i64 {
    i64::try_from(calls).unwrap_or(i64::MAX)
}
