//! Counters, gauges and histograms under Envoy's names, such as `cluster.backend.upstream_rq_total`.

mod histogram;
mod prometheus;
mod show;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use histogram::Histogram;
pub(crate) use show::{Kind, Wanted};

/// Counts up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Goes up and down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub(crate) fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) enum Stat {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// Every figure of an edge. A name asked for twice is the same figure, so that a reload goes on counting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    all: Arc<Mutex<BTreeMap<String, Stat>>>,
}

impl Stats {
    /// The figures whose names begin with `prefix` and a dot.
    pub(crate) fn scope(&self, prefix: impl Into<String>) -> Scope {
        Scope { stats: self.clone(), prefix: prefix.into() }
    }

    /// All figures in order of their names.
    pub(crate) fn all(&self) -> Vec<(String, Stat)> {
        self.lock().iter().map(|(name, stat)| (name.clone(), stat.clone())).collect()
    }

    /// Sets every counter to zero.
    pub(crate) fn reset_counters(&self) {
        for stat in self.lock().values() {
            if let Stat::Counter(counter) = stat {
                counter.reset();
            }
        }
    }

    /// Begins the next interval of every histogram.
    pub(crate) fn next_interval(&self) {
        for stat in self.lock().values() {
            if let Stat::Histogram(histogram) = stat {
                histogram.next_interval();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stat>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where figures of one thing are made.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    stats: Stats,
    prefix: String,
}

macro_rules! make {
    ($($make:ident $kind:ident)*) => {
        $(pub(crate) fn $make(&self, name: &str) -> $kind {
            let mut all = self.stats.lock();
            let stat = all
                .entry(format!("{}.{name}", self.prefix))
                .or_insert_with(|| Stat::$kind($kind::default()));
            match stat {
                Stat::$kind(stat) => stat.clone(),
                // The name is taken by a figure of another kind: this one is shown nowhere.
                _ => $kind::default(),
            }
        })*
    };
}

impl Scope {
    pub(crate) fn scope(&self, name: &str) -> Self {
        Self { stats: self.stats.clone(), prefix: format!("{}.{name}", self.prefix) }
    }

    /// The figures of something else, such as a cluster.
    pub(crate) fn beside(&self, prefix: impl Into<String>) -> Self {
        self.stats.scope(prefix)
    }

    make! { counter Counter gauge Gauge histogram Histogram }
}
