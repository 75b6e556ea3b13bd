//! Counters and gauges under Envoy's names, such as `cluster.backend.upstream_rq_total`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, stat)| (name.clone(), stat.clone())).collect()
    }
}

/// Where figures of one thing are made.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    stats: Stats,
    prefix: String,
}

impl Scope {
    pub(crate) fn scope(&self, name: &str) -> Self {
        Self { stats: self.stats.clone(), prefix: format!("{}.{name}", self.prefix) }
    }

    /// The figures of something else, such as a cluster.
    pub(crate) fn beside(&self, prefix: impl Into<String>) -> Self {
        self.stats.scope(prefix)
    }

    pub(crate) fn counter(&self, name: &str) -> Counter {
        let mut all = self.stats.all.lock().unwrap_or_else(PoisonError::into_inner);
        let stat =
            all.entry(format!("{}.{name}", self.prefix)).or_insert_with(|| Stat::Counter(Counter::default()));
        match stat {
            Stat::Counter(counter) => counter.clone(),
            Stat::Gauge(_) => Counter::default(),
        }
    }

    pub(crate) fn gauge(&self, name: &str) -> Gauge {
        let mut all = self.stats.all.lock().unwrap_or_else(PoisonError::into_inner);
        let stat =
            all.entry(format!("{}.{name}", self.prefix)).or_insert_with(|| Stat::Gauge(Gauge::default()));
        match stat {
            Stat::Gauge(gauge) => gauge.clone(),
            Stat::Counter(_) => Gauge::default(),
        }
    }
}
