//! How services remember: one `Database` over SQLite (embedded) or PostgreSQL, the same SQL on both.
//!
//! Acked means durable: `Tx::commit` returns once the transaction is on disk. On SQLite, transactions that wait for
//! the disk at the same time share one commit. No retail word appears here.

mod config;
mod database;
mod error;
mod group_commit;
mod idempotency;
mod statement;
mod tx;

#[cfg(feature = "testing")]
pub mod testing;

pub use config::{Config, redacted};
pub use database::{Database, Engine};
pub use error::Error;
pub use sqlx;
pub use statement::{Statement, insert_many};
pub use tx::Tx;
