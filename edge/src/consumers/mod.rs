//! Consumers: who may call from outside and how much, as the database that all edges of a deployment share has it.

mod account;
mod error;
mod keeper;
mod keys;
mod ledger;
mod month;
mod plan;
mod roster;
mod store;
mod usage;

pub(crate) use account::{Account, Standing, Verdict};
pub use error::ConsumersError;
pub use keys::{ApiKey, Grant};
pub use month::{Month, NoMonth};
pub use plan::{Plan, Rate};
pub(crate) use roster::{Caller, Refused, Roster, Rosters};
pub use usage::Usage;

/// The consumers of one deployment, as operators keep them. Clones share the database.
#[derive(Clone, Debug)]
pub struct Consumers {
    database: storage::Database,
}

impl Consumers {
    /// Opens the database, and makes it where there is none.
    pub async fn open(config: &storage::Config) -> Result<Self, ConsumersError> {
        let database = storage::Database::open(config, "edge", &store::MIGRATIONS).await?;
        Ok(Self { database })
    }
}
