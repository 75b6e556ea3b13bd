//! Consumers: who may call from outside, as the database that all edges of a deployment share has it.

mod error;
mod keys;
mod roster;
mod store;

pub use error::ConsumersError;
pub use keys::{ApiKey, Grant};
pub(crate) use roster::{Caller, Refused, Roster, Rosters};

/// The consumers of one deployment, as operators keep them.
#[derive(Debug)]
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
