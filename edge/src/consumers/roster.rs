//! Who may call, held in memory: calls are checked against a snapshot, which what the database says replaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::split;
use super::{ApiKey, Consumers, ConsumersError};

/// How often an edge looks for what other processes have changed.
const REFRESH: Duration = Duration::from_secs(1);

/// Every roster in use, by its database: filters that name the same one share it, also over a reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rosters(Arc<Mutex<HashMap<String, Weak<Roster>>>>);

impl Rosters {
    /// The roster of a database.
    pub(crate) fn of(&self, url: &str) -> Arc<Roster> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            roster.start(runtime, stop);
        }
    }

    /// Done when every database has answered once.
    pub(crate) async fn warm(&self) {
        for roster in self.all() {
            // The sender lives as long as the roster.
            let _ = roster.shared.warm.subscribe().wait_for(|warm| *warm).await;
        }
    }

    fn all(&self) -> Vec<Arc<Roster>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

#[derive(Debug)]
struct Shared {
    database: storage::Config,
    /// By id; none before the database has answered.
    keys: ArcSwapOption<HashMap<String, Held>>,
    warm: watch::Sender<bool>,
}

/// A key with what its holder is to services.
#[derive(Debug)]
struct Held {
    key: ApiKey,
    caller: Caller,
}

/// Who calls, as the headers that services believe.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) consumer: HeaderValue,
    pub(crate) permissions: HeaderValue,
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
        let shared = Shared { database, keys: ArcSwapOption::empty(), warm: watch::Sender::new(false) };
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

    fn start(&self, runtime: &Handle, stop: &CancellationToken) {
        let stop = stop.child_token();
        if self.work.set(stop.clone().drop_guard()).is_ok() {
            let following = Arc::clone(&self.shared).follow();
            runtime.spawn(stop.run_until_cancelled_owned(following));
        }
    }
}

impl Shared {
    /// Keeps up with the database; while it does not answer, what it said last holds.
    async fn follow(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut consumers = None;
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh(&mut consumers).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                let database = storage::redacted(&self.database.url);
                tracing::warn!(error, database, "cannot look for changed consumers; the known ones stay");
            }
        }
    }

    async fn refresh(&self, consumers: &mut Option<Consumers>) -> Result<(), ConsumersError> {
        let consumers = match consumers {
            Some(consumers) => consumers,
            None => consumers.insert(Consumers::open(&self.database).await?),
        };
        let keys = consumers.list().await?.into_iter();
        let keys = keys.filter_map(|key| Some((key.id.clone(), Held::new(key)?)));
        self.keys.store(Some(Arc::new(keys.collect())));
        self.warm.send_replace(true);
        Ok(())
    }
}

impl Held {
    /// None for a name that no header can carry, which no key is issued for.
    fn new(key: ApiKey) -> Option<Self> {
        let caller = Caller {
            consumer: HeaderValue::from_str(&key.grant.consumer).ok()?,
            permissions: HeaderValue::from_str(&key.grant.permissions.join(",")).ok()?,
        };
        Some(Self { key, caller })
    }
}
