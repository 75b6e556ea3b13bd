//! A transaction that may write. Dropped without `commit`, it never happened.

use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::watch;

use crate::{Error, group_commit::Turn};

/// A transaction.
pub struct Tx(Kind);

enum Kind {
    /// SQLite: a turn on the one writer.
    Grouped(Turn),
    /// PostgreSQL: a transaction of its own.
    Own(Transaction<'static, Any>, watch::Sender<u64>),
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    pub(crate) fn grouped(turn: Turn) -> Self {
        Self(Kind::Grouped(turn))
    }

    pub(crate) fn own(transaction: Transaction<'static, Any>, commits: watch::Sender<u64>) -> Self {
        Self(Kind::Own(transaction, commits))
    }

    /// The connection that the transaction runs on.
    pub fn connection(&mut self) -> Result<&mut AnyConnection, Error> {
        match &mut self.0 {
            Kind::Grouped(turn) => turn.connection(),
            Kind::Own(transaction, _) => Ok(&mut *transaction),
        }
    }

    /// Waits until no other transaction holds `name`, and holds it to the end: for rules that no single row decides.
    /// On SQLite transactions take turns anyway.
    pub async fn lock(&mut self, name: &str) -> Result<(), Error> {
        if let Kind::Own(transaction, _) = &mut self.0 {
            sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || $1))")
                .bind(name)
                .execute(&mut **transaction)
                .await?;
        }
        Ok(())
    }

    /// Ends the transaction; once this returns, what it wrote survives a crash.
    pub async fn commit(self) -> Result<(), Error> {
        match self.0 {
            Kind::Grouped(turn) => turn.commit().await,
            Kind::Own(transaction, commits) => {
                transaction.commit().await?;
                commits.send_modify(|count| *count += 1);
                Ok(())
            }
        }
    }
}
