//! SQLite's one writer: transactions take turns on its connection and share the disk's time.
//!
//! Each transaction is a savepoint inside an outer transaction. When it is done it asks the committer for durability
//! and gives the connection on. The connection's lock is fair, so the committer comes after everyone who is waiting
//! already: the busier the database, the more transactions one `COMMIT` makes durable.

use std::sync::Arc;

use sqlx::{AnyConnection, Executor};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, oneshot, watch};

use crate::Error;

type Durable = oneshot::Sender<Result<(), Error>>;

pub(crate) struct GroupCommit {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommit").finish_non_exhaustive()
    }
}

struct State {
    connection: AnyConnection,
    /// The outer transaction has begun.
    open: bool,
    /// The last savepoint was given up by a dropped transaction and has to be undone.
    abandoned: bool,
    waiting: Vec<Durable>,
}

impl GroupCommit {
    pub(crate) fn start(connection: AnyConnection, commits: watch::Sender<u64>) -> Arc<Self> {
        let state = State { connection, open: false, abandoned: false, waiting: Vec::new() };
        let this = Arc::new(Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()) });
        tokio::spawn(commit_groups(Arc::downgrade(&this.state), this.wake.clone(), commits));
        this
    }

    pub(crate) async fn begin(&self) -> Result<Turn, Error> {
        let mut state = self.state.clone().lock_owned().await;
        state.undo_abandoned().await?;
        if !state.open {
            state.connection.execute("BEGIN IMMEDIATE").await?;
            state.open = true;
        }
        state.connection.execute("SAVEPOINT turn").await?;
        Ok(Turn { state: Some(state), wake: self.wake.clone() })
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl State {
    async fn undo_abandoned(&mut self) -> Result<(), Error> {
        if self.abandoned {
            self.connection.execute("ROLLBACK TO turn; RELEASE turn").await?;
            self.abandoned = false;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        self.undo_abandoned().await?;
        if self.open {
            self.connection.execute("COMMIT").await?;
            self.open = false;
        }
        Ok(())
    }
}

/// The committer: one task for each database, for as long as it is open.
async fn commit_groups(state: std::sync::Weak<Mutex<State>>, wake: Arc<Notify>, commits: watch::Sender<u64>) {
    loop {
        wake.notified().await;
        let Some(state) = state.upgrade() else { return };
        let mut state = state.lock().await;
        let outcome = state.commit().await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "a group of transactions could not be committed");
            // What the group wrote is gone with it, and each of its callers is told so.
            if state.connection.execute("ROLLBACK").await.is_ok() {
                state.open = false;
                state.abandoned = false;
            }
        }
        for durable in state.waiting.drain(..) {
            // A caller that no longer waits needs no answer.
            drop(durable.send(outcome.clone()));
        }
        commits.send_modify(|count| *count += 1);
    }
}

/// A transaction's turn on the connection.
pub(crate) struct Turn {
    state: Option<OwnedMutexGuard<State>>,
    wake: Arc<Notify>,
}

impl Turn {
    pub(crate) fn connection(&mut self) -> Result<&mut AnyConnection, Error> {
        match &mut self.state {
            Some(state) => Ok(&mut state.connection),
            None => Err(Error::Corrupt("the transaction has ended".to_owned())),
        }
    }

    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.connection.execute("RELEASE turn").await?;
        let (durable, outcome) = oneshot::channel();
        state.waiting.push(durable);
        self.state = None;
        self.wake.notify_one();
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Corrupt("the database was closed before it could commit".to_owned())),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(state) = &mut self.state {
            state.abandoned = true;
        }
        self.state = None;
        self.wake.notify_one();
    }
}
