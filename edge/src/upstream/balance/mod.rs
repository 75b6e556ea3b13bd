//! Load balancing: which of the hosts that may be asked is asked next.

pub(super) mod config;
mod edf;
mod maglev;
mod ring;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use edf::Schedule;

use super::host::Host;

/// How hosts are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Policy {
    RoundRobin,
    LeastRequest { choices: u32, bias: f64 },
    RingHash { min: u64, max: u64, by_hostname: bool },
    Maglev { size: u64, by_hostname: bool },
    Random,
}

/// A policy over the hosts that are there now.
#[derive(Debug)]
pub(super) struct Balancer {
    hosts: Vec<Arc<Host>>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Rotate(AtomicUsize),
    /// By weight, which the calls under way diminish where a bias is given.
    Weighted {
        schedule: Mutex<Schedule>,
        bias: Option<f64>,
    },
    LeastOf(u32),
    Table(Vec<u32>),
    Ring(Vec<(u64, u32)>),
    Random,
}

impl Balancer {
    pub(super) fn new(policy: Policy, hosts: Vec<Arc<Host>>, random: u64) -> Self {
        let equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let weighted = |bias| {
            let weights = hosts.iter().map(|host| f64::from(host.weight));
            Way::Weighted { schedule: Mutex::new(Schedule::new(weights)), bias }
        };
        let way = match policy {
            #[expect(clippy::cast_possible_truncation, reason = "any beginning will do")]
            Policy::RoundRobin if equal => Way::Rotate(AtomicUsize::new(random as usize)),
            Policy::RoundRobin => weighted(None),
            Policy::LeastRequest { choices, .. } if equal => Way::LeastOf(choices),
            Policy::LeastRequest { bias, .. } => weighted(Some(bias)),
            Policy::RingHash { min, max, by_hostname } => {
                Way::Ring(ring::build(&hosts, min, max, by_hostname))
            }
            Policy::Maglev { size, by_hostname } => Way::Table(maglev::build(&hosts, size, by_hostname)),
            Policy::Random => Way::Random,
        };
        Self { hosts, way }
    }

    /// The host for a call; a higher `attempt` of the same call leads elsewhere where that is possible.
    pub(super) fn pick(&self, hash: Option<u64>, random: u64, attempt: u32) -> Option<&Arc<Host>> {
        let random = spread(random, attempt);
        let at = match &self.way {
            _ if self.hosts.len() < 2 => 0,
            Way::Rotate(next) => next.fetch_add(1, Ordering::Relaxed) % self.hosts.len(),
            Way::Weighted { schedule, bias } => {
                let mut schedule = schedule.lock().unwrap_or_else(PoisonError::into_inner);
                schedule.pick(|at| self.weight(at, *bias))
            }
            Way::LeastOf(choices) => self.least_of(*choices, random),
            Way::Ring(ring) => ring::find(ring, hash.unwrap_or(random), attempt),
            Way::Table(table) => maglev::find(table, hash.unwrap_or(random), attempt),
            Way::Random => self.any(random),
        };
        self.hosts.get(at)
    }

    fn any(&self, random: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of hosts")]
        let at = (random % self.hosts.len() as u64) as usize;
        at
    }

    fn weight(&self, at: usize, bias: Option<f64>) -> f64 {
        let host = &self.hosts[at];
        let weight = f64::from(host.weight);
        match bias {
            Some(bias) if bias > 0.0 => weight / f64::from(host.active() + 1).powf(bias),
            _ => weight,
        }
    }

    fn least_of(&self, choices: u32, random: u64) -> usize {
        let mut best = self.any(random);
        for choice in 1..choices {
            let other = self.any(spread(random, choice));
            if self.hosts[other].active() < self.hosts[best].active() {
                best = other;
            }
        }
        best
    }
}

/// Another random number for each of several choices of one call (splitmix64).
fn spread(random: u64, choice: u32) -> u64 {
    if choice == 0 {
        return random;
    }
    let mut z = random.wrapping_add(u64::from(choice).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A host's weight as a share of all.
fn shares(hosts: &[Arc<Host>]) -> Vec<f64> {
    let total: f64 = hosts.iter().map(|host| f64::from(host.weight)).sum();
    hosts.iter().map(|host| f64::from(host.weight) / total).collect()
}

/// What a host is hashed by.
fn key(host: &Host, by_hostname: bool) -> &str {
    if by_hostname { &host.hostname } else { &host.address }
}

#[cfg(test)]
mod tests;
