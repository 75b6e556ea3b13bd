//! Why what was asked of the consumers cannot be done, one line each, saying what to do.

use std::io;
use std::path::PathBuf;

/// What was asked of the consumers cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ConsumersError {
    #[error("the consumers' database cannot be read or written")]
    Storage(#[from] storage::Error),
    #[error("cannot write the admin key to {path}: {reason}; check that the data directory is writable")]
    AdminKey { path: PathBuf, reason: io::Error },
    #[error(
        "`{0}` cannot be a consumer's name: take up to 63 letters, digits, `.`, `_`, `-` and `@`, not beginning with \
         `-` or `omk_`; `admin` and `operator` are taken"
    )]
    Consumer(String),
    #[error(
        "`{0}` cannot be a plan: take up to 63 letters, digits, `.`, `_`, `-` and `@` as its name, and a rate and a \
         burst of at least 1"
    )]
    Plan(String),
    #[error("there is no plan `{0}`: `omnimesh consumer plan list` names them")]
    NoPlan(String),
    #[error("plan {plan} is that of {consumers}: put them on another one first")]
    PlanInUse { plan: String, consumers: String },
    #[error("there is no consumer `{0}`: `omnimesh consumer list` names them")]
    NoConsumer(String),
    #[error("the consumers' database does not answer in time")]
    Late,
    #[error("API key {0} is stored with a secret hash of the wrong length")]
    Corrupt(String),
}

impl From<sqlx::Error> for ConsumersError {
    fn from(error: sqlx::Error) -> Self {
        storage::Error::from(error).into()
    }
}
