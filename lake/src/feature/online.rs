//! Features as they are now: the rows that may be current, in memory.
//!
//! What is said online as of a moment must be what the tables say of that moment ever after. So a run's rows become known
//! only some time after the run ([`ACTIVATION`]), and a reader answers only for as long as what it last saw of a table
//! must be all that is known ([`LEASE`]).

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, Ordering},
};
use std::{convert::Infallible, time::Duration};

use datafusion::execution::runtime_env::RuntimeEnv;
use mesh::Clock;

use super::{
    asof::Timelines,
    rows,
    view::{self, SECOND, View},
};
use crate::{Error, Layer, TableName, Version, dataset::Store, run::PROD};

/// From the beginning of a run to when its rows are known, at least; in microseconds.
pub(super) const ACTIVATION: i64 = 60 * SECOND;
/// How long a table that was looked at is known to say all that is known; in microseconds.
pub(super) const LEASE: i64 = 10 * SECOND;
/// How often tables are looked at.
const PACE: Duration = Duration::from_secs(1);

/// The views' rows that may be current.
pub(crate) struct Online {
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
    clock: Clock,
    views: Vec<Slot>,
}

struct Slot {
    view: &'static View,
    /// Swapped whole, so that an answer is of one version.
    served: RwLock<Option<Arc<Served>>>,
}

/// A version of a view's table.
pub(crate) struct Served {
    pub(super) rows: Timelines,
    version: u64,
    /// The earliest moment that the rows can tell of.
    from: i64,
    /// When the version was last seen to be the newest one.
    seen: AtomicI64,
}

impl Online {
    pub(crate) fn new(store: Arc<Store>, runtime: Arc<RuntimeEnv>, clock: Clock) -> Self {
        let views = view::ALL.iter().map(|view| Slot { view, served: RwLock::default() }).collect();
        Self { store, runtime, clock, views }
    }

    /// Follows what runs publish.
    pub(crate) async fn follow(self: Arc<Self>) -> Infallible {
        let mut pace = tokio::time::interval(PACE);
        loop {
            pace.tick().await;
            self.refresh().await;
        }
    }

    /// Looks at every table once. What cannot be read is served on until its lease ends.
    pub(crate) async fn refresh(&self) {
        for slot in &self.views {
            if let Err(error) = events::caught(self.load(slot)).await {
                tracing::warn!(view = slot.view.name, %error, "features cannot be read; trying again");
            }
        }
    }

    async fn load(&self, slot: &Slot) -> Result<(), Error> {
        let seen = self.clock.now_micros();
        let name = TableName::new(Layer::Features, slot.view.name)?;
        let Some(dataset) = self.store.at(&name, &Version::Tag(PROD.to_owned())).await? else {
            return Ok(());
        };
        let version = dataset.version().version;
        if let Some(served) = slot.served().filter(|served| served.version == version) {
            served.seen.store(seen, Ordering::Release);
            return Ok(());
        }
        let (rows, _) = rows::current(slot.view, &Arc::new(dataset), &self.runtime, seen).await?;
        let served = Served { rows, version, from: seen, seen: AtomicI64::new(seen) };
        *slot.served.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(served));
        Ok(())
    }

    /// The rows of each of `views`, and the moment to ask them about.
    pub(crate) fn now(&self, views: &[&'static View]) -> Result<(i64, Vec<Arc<Served>>), Error> {
        let slot = |view: &&'static View| self.views.iter().find(|slot| slot.view.name == view.name);
        let served = views.iter().map(|view| match slot(view).and_then(Slot::served) {
            Some(served) => Ok(served),
            None => Err(Error::Missing { table: TableName::new(Layer::Features, view.name)? }),
        });
        let served = served.collect::<Result<Vec<_>, _>>()?;
        let from = served.iter().map(|served| served.from).max().unwrap_or_default();
        let now = self.clock.now_micros().max(from);
        let is_stale = |served: &Arc<Served>| now >= served.seen.load(Ordering::Acquire) + LEASE;
        if let Some((view, _)) = views.iter().zip(&served).find(|(_, served)| is_stale(served)) {
            return Err(Error::FeaturesStale { view: view.name });
        }
        Ok((now, served))
    }
}

impl Slot {
    fn served(&self) -> Option<Arc<Served>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
