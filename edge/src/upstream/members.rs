//! The hosts of a cluster as they are now: by priority, healthy ones first.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Want;
use super::balance::{Balancer, Policy};
use super::host::Host;
use super::stats::ClusterStats;

/// How calls are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) policy: Policy,
    /// Below so many percent of healthy hosts, all are asked. Zero: never.
    pub(super) panic_threshold: f64,
    /// In percent: how much of a priority may be unhealthy before calls go to the next.
    pub(super) overprovisioning: u64,
}

/// The hosts of a cluster.
#[derive(Debug)]
pub(super) struct Members {
    rules: Rules,
    stats: Arc<ClusterStats>,
    hosts: Mutex<Vec<Arc<Host>>>,
    now: ArcSwap<Standing>,
}

/// Who is asked, and how often.
#[derive(Debug, Default)]
struct Standing {
    hosts: Vec<Arc<Host>>,
    /// Percent of the calls, and over which hosts they are spread.
    shares: Vec<(u64, Balancer)>,
    panic: bool,
}

impl Members {
    pub(super) fn new(rules: Rules, stats: Arc<ClusterStats>) -> Self {
        Self { rules, stats, hosts: Mutex::default(), now: ArcSwap::default() }
    }

    pub(super) fn hosts(&self) -> Vec<Arc<Host>> {
        self.now.load().hosts.clone()
    }

    /// Replaces the hosts; those that are no longer among them are gone.
    pub(super) fn set(&self, hosts: Vec<Arc<Host>>) {
        let mut current = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for host in current.iter().filter(|host| !hosts.iter().any(|stays| stays.id == host.id)) {
            host.gone.cancel();
        }
        *current = hosts;
        self.stats.membership_change.inc();
        self.now.store(Arc::new(self.standing(&current)));
    }

    /// Looks again at who is healthy.
    pub(super) fn refresh(&self) {
        let current = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.store(Arc::new(self.standing(&current)));
    }

    /// The host for a call.
    pub(super) fn pick(&self, want: &Want) -> Option<Arc<Host>> {
        let now = self.now.load();
        if now.panic {
            self.stats.lb_healthy_panic.inc();
        }
        let mut left = want.hash.unwrap_or(want.random) % 100;
        let (_, balancer) = match &*now.shares {
            [only] => only,
            shares => shares.iter().find(|(percent, _)| {
                let here = left < *percent;
                left = left.saturating_sub(*percent);
                here
            })?,
        };
        let mut picked = None;
        for attempt in 0..=want.redraws {
            picked = balancer.pick(want.hash, want.random, attempt);
            if !picked.is_some_and(|host| want.tried.iter().any(|tried| tried.id == host.id)) {
                break;
            }
        }
        picked.cloned()
    }

    fn standing(&self, hosts: &[Arc<Host>]) -> Standing {
        let levels = hosts.iter().map(|host| host.spec.priority + 1).max().unwrap_or(0);
        let levels: Vec<Level> = (0..levels).map(|priority| Level::new(hosts, priority)).collect();
        self.count(hosts);
        let shares = shares(&levels, self.rules.overprovisioning);
        let covered: u64 = shares.iter().map(|share| share.percent).sum();
        let mut standing = Standing { hosts: hosts.to_vec(), ..Standing::default() };
        let random = rand::random();
        let mut add = |percent, hosts: &Vec<_>| {
            standing.shares.push((percent, Balancer::new(self.rules.policy, hosts.clone(), random)));
        };
        if covered == 0 {
            // Nobody is healthy: then everybody of the first priority that has somebody is as good.
            if self.rules.panic_threshold > 0.0
                && let Some(level) = levels.iter().find(|level| !level.all.is_empty())
            {
                add(100, &level.all);
                standing.panic = true;
            }
            return standing;
        }
        let enough = levels.iter().map(|level| level.health(self.rules.overprovisioning)).sum::<u64>() >= 100;
        for share in shares {
            let level = &levels[share.level];
            if !enough && level.healthy_percent() < self.rules.panic_threshold {
                standing.panic = true;
                add(share.percent, &level.all);
            } else {
                add(share.percent, if share.degraded { &level.degraded } else { &level.healthy });
            }
        }
        standing
    }

    fn count(&self, hosts: &[Arc<Host>]) {
        let count = |which: fn(&Host) -> bool| {
            i64::try_from(hosts.iter().filter(|host| which(host)).count()).unwrap_or(i64::MAX)
        };
        self.stats.membership_total.set(count(|_| true));
        self.stats.membership_healthy.set(count(Host::is_healthy));
        self.stats.membership_degraded.set(count(Host::is_degraded));
        self.stats.max_host_weight.set(hosts.iter().map(|host| i64::from(host.weight)).max().unwrap_or(0));
    }
}

/// The hosts of one priority.
struct Level {
    all: Vec<Arc<Host>>,
    healthy: Vec<Arc<Host>>,
    degraded: Vec<Arc<Host>>,
}

impl Level {
    fn new(hosts: &[Arc<Host>], priority: u32) -> Self {
        let of = |which: fn(&Host) -> bool| {
            hosts.iter().filter(|host| host.spec.priority == priority && which(host)).cloned().collect()
        };
        Self { all: of(|_| true), healthy: of(Host::is_healthy), degraded: of(Host::is_degraded) }
    }

    fn percent(&self, some: usize, overprovisioning: u64) -> u64 {
        if self.all.is_empty() {
            0
        } else {
            (overprovisioning * some as u64 / self.all.len() as u64).min(100)
        }
    }

    /// How much of the calls the priority can take, in percent.
    fn health(&self, overprovisioning: u64) -> u64 {
        (self.percent(self.healthy.len(), overprovisioning)
            + self.percent(self.degraded.len(), overprovisioning))
        .min(100)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of hosts")]
    fn healthy_percent(&self) -> f64 {
        if self.all.is_empty() {
            return 0.0;
        }
        100.0 * (self.healthy.len() + self.degraded.len()) as f64 / self.all.len() as f64
    }
}

/// A part of the calls.
struct Share {
    level: usize,
    degraded: bool,
    percent: u64,
}

/// Healthy hosts take what they can in order of priority, then degraded ones. Together 100 percent, or none.
fn shares(levels: &[Level], overprovisioning: u64) -> Vec<Share> {
    let available = |degraded: bool| {
        levels.iter().enumerate().map(move |(level, hosts)| {
            let some = if degraded { &hosts.degraded } else { &hosts.healthy };
            Share { level, degraded, percent: hosts.percent(some.len(), overprovisioning) }
        })
    };
    let able: Vec<_> = available(false).chain(available(true)).filter(|share| share.percent > 0).collect();
    let total: u64 = able.iter().map(|share| share.percent).sum::<u64>().min(100);
    let mut left = 100;
    let mut shares: Vec<_> = able
        .into_iter()
        .map(|share| {
            let percent = (share.percent * 100 / total).min(left);
            left -= percent;
            Share { percent, ..share }
        })
        .filter(|share| share.percent > 0)
        .collect();
    if let Some(first) = shares.first_mut() {
        // What rounding left over.
        first.percent += left;
    }
    shares
}
