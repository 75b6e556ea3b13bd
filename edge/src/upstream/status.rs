//! How clusters are, for whoever looks after them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::host::{Host, Target};
use super::{Cluster, Clusters};

/// How a cluster is.
#[derive(Clone, Debug)]
pub(crate) struct ClusterStatus {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Vec<Limits>,
    pub(crate) hosts: Vec<HostStatus>,
}

/// How much a cluster takes of one priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) priority: &'static str,
    pub(crate) connections: u64,
    pub(crate) pending: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
}

/// How a host is.
#[derive(Clone, Debug)]
pub(crate) struct HostStatus {
    pub(crate) address: Arc<str>,
    /// None of a Unix socket.
    pub(crate) socket: Option<SocketAddr>,
    pub(crate) hostname: String,
    pub(crate) health_flags: String,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) sub_zone: String,
    pub(crate) cx_active: u64,
    pub(crate) cx_total: u64,
    pub(crate) cx_connect_fail: u64,
    pub(crate) rq_active: u64,
    pub(crate) rq_total: u64,
    pub(crate) rq_success: u64,
    pub(crate) rq_error: u64,
    pub(crate) rq_timeout: u64,
}

impl Clusters {
    /// Every cluster, in order of their names.
    pub(crate) fn status(&self) -> Vec<ClusterStatus> {
        let mut all: Vec<_> = self.by_name.values().map(|cluster| cluster.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Cluster {
    fn status(&self) -> ClusterStatus {
        let limits = self.core.breakers.levels().iter().map(|level| Limits {
            priority: level.name,
            connections: level.connections.max(),
            pending: level.pending.max(),
            requests: level.requests.max(),
            retries: level.retries.max(),
        });
        ClusterStatus {
            name: Arc::clone(&self.name),
            limits: limits.collect(),
            hosts: self.core.members.hosts().iter().map(|host| host.status()).collect(),
        }
    }
}

impl Host {
    fn status(&self) -> HostStatus {
        let (spec, stats) = (&self.spec, &self.stats);
        HostStatus {
            address: Arc::clone(&self.address),
            socket: match &spec.target {
                Target::Tcp(address) => Some(*address),
                Target::Unix(_) => None,
            },
            hostname: spec.hostname.clone(),
            health_flags: self.health_flags(),
            weight: self.weight,
            priority: spec.priority,
            region: spec.region.clone(),
            zone: spec.zone.clone(),
            sub_zone: spec.sub_zone.clone(),
            cx_active: u64::try_from(stats.cx_active.value()).unwrap_or(0),
            cx_total: stats.cx_total.value(),
            cx_connect_fail: stats.cx_connect_fail.value(),
            rq_active: stats.rq_active.load(Ordering::Relaxed).into(),
            rq_total: stats.rq_total.value(),
            rq_success: stats.rq_success.value(),
            rq_error: stats.rq_error.value(),
            rq_timeout: stats.rq_timeout.value(),
        }
    }
}
