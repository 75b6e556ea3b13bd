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
    #[error("API key {0} is stored with a secret hash of the wrong length")]
    Corrupt(String),
}

impl From<sqlx::Error> for ConsumersError {
    fn from(error: sqlx::Error) -> Self {
        storage::Error::from(error).into()
    }
}
