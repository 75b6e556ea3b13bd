//! Who may write. Writers of a process take turns; those of several processes write side by side, but never beside an
//! erasure: it removes files that nobody has committed yet. A [lock](super::lock) tells them.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{
    Store, Table,
    lock::{Kind, Lock},
};
use crate::{
    Error, TableName,
    deny::{self, Denied},
    table::Change,
};

const LOCK: &str = "_meta/lock";
/// Held by whoever computes tables.
const RUN: &str = "_meta/run.lock";
const KEEPS_VERSIONS: &str = "the bucket keeps what is removed from it as old versions: suspend its versioning and \
                              let a lifecycle rule expire the old versions that it has";

/// To be held while a table is written.
pub(crate) struct Turn<'s> {
    store: &'s Store,
    denied: MutexGuard<'s, Arc<Denied>>,
    shared: Option<Lock>,
}

impl Store {
    /// Waits for the caller's turn. Lance needs many times the memory of what it writes, and tables that are written side
    /// by side share the same cores anyway.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, Error> {
        let mut denied = self.turn.lock().await;
        let shared = self.shared().await?;
        let text = self.denylist().await?;
        if text != denied.text {
            *denied = Arc::new(self.parse(text)?);
        }
        Ok(Turn { store: self, denied, shared })
    }

    /// Waits until nobody writes, and returns the lake as the one writer knows it, and what all others wait for
    /// meanwhile.
    pub(crate) async fn alone(&self) -> Result<(Self, [Lock; 2]), Error> {
        // A run needs its turns to come to its end.
        let run = self.lock(RUN, Kind::Alone).await?;
        if run.keeps_versions() {
            run.release().await;
            return Err(Error::Erasure(KEEPS_VERSIONS.to_owned()));
        }
        // Writers of this process must not stand in line before us again and again.
        let _turn = self.turn.lock().await;
        let alone = self.lock(LOCK, Kind::Alone).await?;
        let denied = Arc::new(self.parse(self.denylist().await?)?);
        let store = Self { turn: Mutex::new(denied), is_alone: true, ..Self::existing(&self.root) };
        Ok((store, [run, alone]))
    }

    /// Waits until no other process computes tables, and keeps others from it while it is held.
    pub(crate) async fn running(&self) -> Result<Option<Lock>, Error> {
        self.unless_alone(RUN, Kind::Alone).await
    }

    /// Writes down what is denied from now on.
    pub(crate) async fn deny(&self, denied: Denied) -> Result<Arc<Denied>, Error> {
        self.write_file(deny::FILE, denied.text.clone()).await?;
        let denied = Arc::new(denied);
        *self.turn.lock().await = Arc::clone(&denied);
        Ok(denied)
    }

    /// What is denied.
    pub(crate) async fn denied(&self) -> Result<Denied, Error> {
        self.parse(self.denylist().await?)
    }

    /// Keeps erasures away while it is held.
    pub(super) async fn shared(&self) -> Result<Option<Lock>, Error> {
        self.unless_alone(LOCK, Kind::Shared).await
    }

    async fn unless_alone(&self, name: &str, kind: Kind) -> Result<Option<Lock>, Error> {
        match self.is_alone {
            true => Ok(None),
            false => self.lock(name, kind).await.map(Some),
        }
    }

    async fn denylist(&self) -> Result<Vec<u8>, Error> {
        Ok(self.find_file(deny::FILE).await?.unwrap_or_default())
    }

    fn parse(&self, text: Vec<u8>) -> Result<Denied, Error> {
        match text.is_empty() {
            true => Ok(Denied::default()),
            false => Denied::parse(text).ok_or(Error::Denylist),
        }
    }
}

impl Turn<'_> {
    /// As [`Store::open`], which would wait for an erasure that waits for this turn.
    pub(crate) async fn open(&self, name: TableName) -> Result<Table, Error> {
        self.store.open_unlocked(name).await
    }

    /// To be asked right before a commit or a file of rows: an error if an erasure may have begun, because this process
    /// seemed to be gone.
    pub(crate) async fn still(&self, table: &TableName) -> Result<(), Error> {
        let Some(shared) = &self.shared else { return Ok(()) };
        match shared.is_held().await? {
            true => Ok(()),
            false => Err(Error::Erased { table: table.clone() }),
        }
    }

    /// What `table` must not hold. An error if the table is another one since it was opened.
    pub(super) fn denied(&self, table: &Table) -> Result<Arc<Denied>, Error> {
        match self.denied.revision() == table.revision {
            true => Ok(Arc::clone(&self.denied)),
            false => Err(Error::Erased { table: table.name.clone() }),
        }
    }

    /// A change as far as it may be made.
    pub(super) async fn admit(&self, table: &Table, change: Change) -> Result<Change, Error> {
        let denied = self.denied(table)?;
        if denied.is_empty() {
            return Ok(change);
        }
        let (change, refused) = tokio::task::spawn_blocking(move || denied.admit(change)).await??;
        if refused > 0 {
            tracing::info!(table = %table.name, refused, "rows of erased subjects came again and stay out");
        }
        Ok(change)
    }
}
