//! Who may call, held in memory: calls are checked against a snapshot, which what the database says replaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::keeper::Keeper;
use super::keys::split;
use super::{Account, ApiKey};

/// How long an edge that ends has to give back what it has leased.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Every roster in use, by its database: filters that name the same one share it, also over a reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rosters {
    by_database: Arc<Mutex<HashMap<String, Weak<Roster>>>>,
    keeping: TaskTracker,
}

impl Rosters {
    /// The roster of a database.
    pub(crate) fn of(&self, url: &str) -> Arc<Roster> {
        let mut all = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, roster| roster.strong_count() > 0);
        if let Some(roster) = all.get(url).and_then(Weak::upgrade) {
            return roster;
        }
        let roster = Arc::new(Roster::new(storage::Config { url: url.to_owned() }));
        all.insert(url.to_owned(), Arc::downgrade(&roster));
        roster
    }

    /// Begins to follow the databases of rosters that are new.
    pub(crate) fn start(&self, runtime: &Handle, stop: &CancellationToken) {
        for roster in self.all() {
            roster.start(runtime, stop, &self.keeping);
        }
    }

    /// Done when every database has answered once.
    pub(crate) async fn warm(&self) {
        for roster in self.all() {
            // The sender lives as long as the roster.
            let _ = roster.shared.warm.subscribe().wait_for(|warm| *warm).await;
        }
    }

    /// Once they were told to stop: done when every database knows what was used, if that does not take too long.
    pub(crate) async fn stopped(&self) {
        self.keeping.close();
        if tokio::time::timeout(LAST_WORDS, self.keeping.wait()).await.is_err() {
            tracing::warn!("a database does not answer: what is left of leased quotas is lost");
        }
    }

    fn all(&self) -> Vec<Arc<Roster>> {
        let all = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(Weak::upgrade).collect()
    }
}

/// The consumers of a database, as it said last.
#[derive(Debug)]
pub(crate) struct Roster {
    shared: Arc<Shared>,
    /// Ends what follows the database.
    work: OnceLock<DropGuard>,
}

/// What calls and the keeper of the roster share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: storage::Config,
    /// By id; none before the database has answered.
    pub(super) keys: ArcSwapOption<HashMap<String, Held>>,
    pub(super) warm: watch::Sender<bool>,
    /// A call wants a portion of its quota to be leased.
    pub(super) wake: Arc<Notify>,
}

/// A key with what its holder is to services.
#[derive(Debug)]
pub(super) struct Held {
    key: ApiKey,
    caller: Caller,
}

/// Who calls: the headers that services believe, and what may be called.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) consumer: HeaderValue,
    pub(crate) permissions: HeaderValue,
    pub(crate) account: Arc<Account>,
}

/// Why a call is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The key is unknown or expired.
    Unknown,
    /// The database has not answered yet.
    Unasked,
}

impl Roster {
    fn new(database: storage::Config) -> Self {
        let shared = Shared {
            database,
            keys: ArcSwapOption::empty(),
            warm: watch::Sender::new(false),
            wake: Arc::default(),
        };
        Self { shared: Arc::new(shared), work: OnceLock::new() }
    }

    /// The consumer that holds the presented key.
    pub(crate) fn authenticate(&self, presented: &[u8]) -> Result<Caller, Refused> {
        let keys = self.shared.keys.load();
        let keys = keys.as_ref().ok_or(Refused::Unasked)?;
        let held = split(presented).and_then(|(id, _)| keys.get(id));
        let held = held.filter(|held| held.key.is_proven_by(presented)).ok_or(Refused::Unknown)?;
        Ok(held.caller.clone())
    }

    fn start(&self, runtime: &Handle, stop: &CancellationToken, keeping: &TaskTracker) {
        let stop = stop.child_token();
        if self.work.set(stop.clone().drop_guard()).is_ok() {
            keeping.spawn_on(Keeper::new(Arc::clone(&self.shared)).run(stop), runtime);
        }
    }
}

impl Held {
    /// None for a name that no header can carry, which no key is issued for.
    pub(super) fn new(key: ApiKey, account: Arc<Account>) -> Option<Self> {
        let caller = Caller {
            consumer: HeaderValue::from_str(&key.grant.consumer).ok()?,
            permissions: HeaderValue::from_str(&key.grant.permissions.join(",")).ok()?,
            account,
        };
        Some(Self { key, caller })
    }
}
