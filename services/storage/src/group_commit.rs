//! SQLite's one writer: transactions take turns on its connection and share the disk's time.
//!
//! The first transaction of a group begins it, and each that follows is a savepoint inside it (the first goes without,
//! because a savepoint keeps a copy of every page that is written after it). When a transaction is done it asks the
//! committer for durability and gives the connection on. The connection's lock is fair, so the committer comes after
//! everyone who is waiting already: the busier the database, the more transactions one `COMMIT` makes durable.

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
    group: Group,
    /// The last turn was given up by a dropped transaction and has to be undone.
    abandoned: bool,
    waiting: Vec<Durable>,
}

/// Transactions that become durable together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Not begun.
    None,
    /// Of the one transaction whose turn it is.
    First,
    /// Of transactions that are done, and a savepoint if it is another one's turn.
    Many,
}

impl GroupCommit {
    pub(crate) fn start(connection: AnyConnection, commits: watch::Sender<u64>) -> Arc<Self> {
        let state = State { connection, group: Group::None, abandoned: false, waiting: Vec::new() };
        let this = Arc::new(Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()) });
        tokio::spawn(commit_groups(Arc::downgrade(&this.state), this.wake.clone(), commits));
        this
    }

    pub(crate) async fn begin(&self) -> Result<Turn, Error> {
        let mut state = self.state.clone().lock_owned().await;
        let wake = self.wake.clone();
        to_its_end(async move {
            state.undo_abandoned().await?;
            if state.group == Group::None {
                state.connection.execute("BEGIN IMMEDIATE").await?;
                state.group = Group::First;
            } else {
                state.connection.execute("SAVEPOINT turn").await?;
            }
            Ok(Turn { state: Some(state), wake })
        })
        .await
    }
}

/// Does `work` even if the caller goes away halfway. SQLite carries out whatever it was sent, so that without this nobody
/// could tell what has begun and what has ended.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Corrupt("the process stops".to_owned())),
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl State {
    async fn undo_abandoned(&mut self) -> Result<(), Error> {
        if self.abandoned && self.group == Group::First {
            self.roll_back().await;
        } else if self.abandoned {
            self.connection.execute("ROLLBACK TO turn; RELEASE turn").await?;
        }
        self.abandoned = false;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        self.undo_abandoned().await?;
        if self.group != Group::None {
            self.connection.execute("COMMIT").await?;
            self.group = Group::None;
        }
        Ok(())
    }

    async fn roll_back(&mut self) {
        if let Err(error) = self.connection.execute("ROLLBACK").await {
            // After some failures, such as a full disk, SQLite has done so by itself.
            tracing::debug!(%error, "there was nothing to roll back");
        }
        self.group = Group::None;
        self.abandoned = false;
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
            state.roll_back().await;
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

    pub(crate) async fn commit(self) -> Result<(), Error> {
        match to_its_end(self.release()).await?.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Corrupt("the database was closed before it could commit".to_owned())),
        }
    }

    /// Gives the connection on. The receiver hears when the transaction is durable.
    async fn release(mut self) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let (durable, outcome) = oneshot::channel();
        if let Some(state) = &mut self.state {
            if state.group == Group::Many {
                state.connection.execute("RELEASE turn").await?;
            }
            state.group = Group::Many;
            state.waiting.push(durable);
        }
        self.state = None;
        Ok(outcome)
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
