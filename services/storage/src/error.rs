//! What can go wrong with a database.

use std::sync::Arc;

/// A database that did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The URL names no engine that is supported; it is [redacted](crate::redacted).
    #[error("`{0}` is no database URL: use sqlite:<directory> or postgres://user@host/database")]
    Url(String),
    /// The directory of the embedded databases cannot be made or written.
    #[error("cannot use the database directory {path}: {reason}")]
    Directory {
        /// The directory.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The server cannot be connected to.
    #[error("cannot connect to the database at {server}: {reason}")]
    Unreachable {
        /// Its host and port.
        server: String,
        /// Why not.
        reason: String,
    },
    /// The database refused or failed.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
    /// The schema could not be brought up to date.
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migration(Arc<sqlx::migrate::MigrateError>),
    /// A remembered response cannot be read back.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
    /// The same `request_id` came with another payload or for another method.
    #[error("request_id {0} was already used for another request")]
    RequestIdReused(uuid::Uuid),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(Arc::new(error))
    }
}
