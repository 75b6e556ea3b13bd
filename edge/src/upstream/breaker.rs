//! Circuit breakers: how much a cluster takes at once, counted over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envoy_types::pb::envoy::config::cluster::v3::CircuitBreakers;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;

use super::read::refuse;
use crate::problem::{Path, Problem};
use crate::stats::{Gauge, Scope};

/// One thing of which there may be so many at once.
#[derive(Debug)]
pub(super) struct Limit {
    max: u64,
    used: AtomicU64,
    open: Gauge,
    remaining: Option<Gauge>,
}

/// One of what a limit counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limit>);

impl Limit {
    fn new(max: u64, open: Gauge, remaining: Option<Gauge>) -> Arc<Self> {
        let limit = Self { max, used: AtomicU64::new(0), open, remaining };
        limit.show(0);
        Arc::new(limit)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        self.try_take_of(self.max)
    }

    fn try_take_of(self: &Arc<Self>, max: u64) -> Option<Permit> {
        let permit = self.take();
        // Dropped, the permit gives back what it took too much.
        (permit.1 <= max).then_some(permit.0)
    }

    /// One more, and how many there are with it.
    fn take(self: &Arc<Self>) -> (Permit, u64) {
        let used = self.used.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(used);
        (Permit(Arc::clone(self)), used)
    }

    /// One more even where that is too many.
    pub(super) fn take_anyway(self: &Arc<Self>) -> Permit {
        self.take().0
    }

    fn show(&self, used: u64) {
        // The gauge changes only where the limit is crossed, so that most calls do not touch it.
        if used == self.max || used + 1 == self.max {
            self.open.set(i64::from(used >= self.max));
        }
        if let Some(remaining) = &self.remaining {
            remaining.set(i64::try_from(self.max.saturating_sub(used)).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let used = self.0.used.fetch_sub(1, Ordering::Relaxed) - 1;
        self.0.show(used);
    }
}

/// Retries as a share of what is under way.
#[derive(Debug)]
struct Budget {
    percent: f64,
    at_least: u64,
}

/// The limits of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) name: &'static str,
    pub(super) connections: Arc<Limit>,
    pub(super) pending: Arc<Limit>,
    pub(super) requests: Arc<Limit>,
    pub(super) retries: Arc<Limit>,
    budget: Option<Budget>,
}

impl Level {
    fn compile(name: &'static str, config: Option<&Thresholds>, stats: &Scope) -> Self {
        let scope = stats.scope("circuit_breakers").scope(name);
        let none = Thresholds::default();
        let config = config.unwrap_or(&none);
        let limit = |open: &str, remaining: &str, max: u64| {
            let remaining = config.track_remaining.then(|| scope.gauge(remaining));
            Limit::new(max, scope.gauge(open), remaining)
        };
        let or = |value: Option<u32>, default: u64| value.map_or(default, u64::from);
        Self {
            name,
            connections: limit(
                "cx_open",
                "remaining_cx",
                or(config.max_connections.map(|max| max.value), 1024),
            ),
            pending: limit(
                "rq_pending_open",
                "remaining_pending",
                or(config.max_pending_requests.map(|max| max.value), 1024),
            ),
            requests: limit("rq_open", "remaining_rq", or(config.max_requests.map(|max| max.value), 1024)),
            retries: limit(
                "rq_retry_open",
                "remaining_retries",
                or(config.max_retries.map(|max| max.value), 3),
            ),
            budget: config.retry_budget.as_ref().map(|budget| Budget {
                percent: budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value),
                at_least: or(budget.min_retry_concurrency.map(|at_least| at_least.value), 3),
            }),
        }
    }

    /// The limits by the names that they are configured under.
    pub(super) fn limits(&self) -> [(&'static str, u64); 4] {
        [
            ("max_connections", self.connections.max),
            ("max_pending_requests", self.pending.max),
            ("max_requests", self.requests.max),
            ("max_retries", self.retries.max),
        ]
    }

    pub(super) fn try_retry(&self) -> Option<Permit> {
        let Some(budget) = &self.budget else { return self.retries.try_take() };
        let under_way = self.requests.used() + self.pending.used();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count of calls"
        )]
        let share = (under_way as f64 * budget.percent / 100.0) as u64;
        self.retries.try_take_of(share.max(budget.at_least))
    }
}

/// The limits of a cluster.
#[derive(Debug)]
pub(super) struct Breakers {
    levels: [Level; 2],
}

impl Breakers {
    pub(super) fn compile(
        config: Option<&CircuitBreakers>,
        at: &Path<'_>,
        stats: &Scope,
    ) -> Result<Self, Problem> {
        let mut by_priority = [None, None];
        if let Some(config) = config {
            refuse!(config, at, per_host_thresholds);
            for (index, thresholds) in config.thresholds.iter().enumerate() {
                let field = at.field("thresholds");
                refuse!(thresholds, field.index(index), max_connection_pools);
                let priority = usize::from(thresholds.priority == RoutingPriority::High as i32);
                by_priority[priority].get_or_insert(thresholds);
            }
        }
        let [default, high] = by_priority;
        Ok(Self { levels: [Level::compile("default", default, stats), Level::compile("high", high, stats)] })
    }

    pub(super) fn level(&self, high_priority: bool) -> &Level {
        &self.levels[usize::from(high_priority)]
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }
}
