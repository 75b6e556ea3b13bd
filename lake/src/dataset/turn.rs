//! Who may write. Writers of a process take turns; those of several processes write side by side, but never beside an
//! erasure: it removes files that nobody has committed yet. A lock on a file tells them, which the system takes back
//! from a process that is killed.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};

use super::{Store, Table};
use crate::{
    Error,
    deny::{self, Denied},
    table::Change,
};

const LOCK: &str = "_meta/lock";
/// Held by whoever computes tables.
const RUN: &str = "_meta/run.lock";
const IN_BUCKET: &str = "other writers cannot be kept away from a bucket; copy the lake to a directory first";
/// How often a lock that somebody else holds is asked for.
const AGAIN: Duration = Duration::from_millis(20);

/// To be held while a table is written.
pub(crate) struct Turn<'s> {
    denied: MutexGuard<'s, Arc<Denied>>,
    _shared: Option<File>,
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
        Ok(Turn { denied, _shared: shared })
    }

    /// Waits until nobody writes, and returns the lake as the one writer knows it: until it is dropped, all others wait.
    pub(crate) async fn alone(&self) -> Result<Self, Error> {
        let Some(root) = self.root.directory() else { return Err(Error::Erasure(IN_BUCKET.to_owned())) };
        // A run needs its turns to come to its end.
        let run = lock(root, RUN, File::try_lock).await?;
        // Writers of this process must not stand in line before us again and again.
        let _turn = self.turn.lock().await;
        let alone = lock(root, LOCK, File::try_lock).await?;
        let denied = Arc::new(self.parse(self.denylist().await?)?);
        Ok(Self { turn: Mutex::new(denied), alone: Some([run, alone]), ..Self::existing(&self.root) })
    }

    /// Waits until no other process computes tables, and keeps others from it while it is held. A bucket has no locks:
    /// one process may compute the tables of a lake there.
    pub(crate) async fn running(&self) -> Result<Option<File>, Error> {
        match self.root.directory().filter(|_| self.alone.is_none()) {
            Some(root) => lock(root, RUN, File::try_lock).await.map(Some),
            None => Ok(None),
        }
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
    pub(super) async fn shared(&self) -> Result<Option<File>, Error> {
        match self.root.directory().filter(|_| self.alone.is_none()) {
            Some(root) => lock(root, LOCK, File::try_lock_shared).await.map(Some),
            None => Ok(None),
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

async fn lock(
    root: &Path,
    name: &str,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<File, Error> {
    let path = root.join(name);
    let failed = |source| Error::Files { path: path.clone(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(AGAIN).await,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
