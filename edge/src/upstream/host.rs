//! One address of a cluster: how it is reached, how it is, and what it does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::outlier::{Detector, Record};
use crate::stats::{Counter, Gauge};

/// Where a host listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What a configuration says of a host's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stated {
    Healthy,
    Degraded,
    Unhealthy,
}

/// What a host is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) target: Target,
    pub(super) hostname: String,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) sub_zone: String,
    pub(super) stated: Stated,
    pub(super) check: CheckAt,
}

/// How a host is asked for its health, where that differs from how it is called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CheckAt {
    pub(super) port: Option<u16>,
    pub(super) hostname: String,
    pub(super) off: bool,
}

/// Why a host is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    FailedActiveCheck = 1,
    FailedOutlierCheck = 2,
    /// It was not checked yet.
    PendingActiveCheck = 4,
}

/// One address of a cluster.
#[derive(Debug)]
pub(crate) struct Host {
    /// As logs write it.
    pub(crate) address: Arc<str>,
    pub(super) id: u64,
    pub(super) hostname: String,
    pub(super) weight: u32,
    pub(super) spec: Spec,
    pub(super) stats: HostStats,
    pub(super) record: Record,
    /// Cancelled when the host leaves its cluster: its connections are used no more.
    pub(super) gone: CancellationToken,
    flaws: AtomicU32,
    detector: Option<Arc<Detector>>,
}

/// The figures of a host, as `/clusters` shows them.
#[derive(Debug, Default)]
pub(super) struct HostStats {
    pub(super) cx_active: Gauge,
    pub(super) cx_total: Counter,
    pub(super) cx_connect_fail: Counter,
    pub(super) rq_active: AtomicU32,
    pub(super) rq_pending_active: Gauge,
    pub(super) rq_total: Counter,
    pub(super) rq_success: Counter,
    pub(super) rq_error: Counter,
    pub(super) rq_timeout: Counter,
}

impl Host {
    pub(super) fn new(spec: Spec, detector: Option<Arc<Detector>>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let address: Arc<str> = match &spec.target {
            Target::Tcp(address) => address.to_string().into(),
            Target::Unix(path) => path.display().to_string().into(),
        };
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            hostname: if spec.hostname.is_empty() { address.to_string() } else { spec.hostname.clone() },
            address,
            weight: spec.weight,
            spec,
            stats: HostStats::default(),
            record: Record::default(),
            gone: CancellationToken::new(),
            flaws: AtomicU32::new(0),
            detector,
        })
    }

    /// Tells the host's outlier detection how a call went: its HTTP status, or for gRPC what the status means in HTTP.
    pub(crate) fn answered(&self, status: u16) {
        if status < 500 {
            self.stats.rq_success.inc()
        } else {
            self.stats.rq_error.inc()
        }
        if let Some(detector) = &self.detector {
            detector.answered(self, status);
        }
    }

    /// Notes that a call was given up for it took too long.
    pub(crate) fn timed_out(&self) {
        self.stats.rq_timeout.inc();
        self.failed_locally(504);
    }

    /// Tells the outlier detection that no answer came; `status` is what that would be in HTTP.
    pub(super) fn failed_locally(&self, status: u16) {
        self.stats.rq_error.inc();
        if let Some(detector) = &self.detector {
            detector.failed_locally(self, status);
        }
    }

    /// Tells the outlier detection that the host could be reached.
    pub(super) fn reached(&self) {
        if let Some(detector) = &self.detector {
            detector.reached(self);
        }
    }

    /// Calls under way.
    pub(super) fn active(&self) -> u32 {
        self.stats.rq_active.load(Ordering::Relaxed)
    }

    /// Notes or takes back a flaw; whether that changed anything.
    pub(super) fn mark(&self, flaw: Flaw, set: bool) -> bool {
        let bit = flaw as u32;
        let before = if set {
            self.flaws.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.flaws.fetch_and(!bit, Ordering::AcqRel)
        };
        (before & bit != 0) != set
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaws.load(Ordering::Acquire) & flaw as u32 != 0
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.spec.stated == Stated::Healthy && !self.is_failed()
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.spec.stated == Stated::Degraded && !self.is_failed()
    }

    fn is_failed(&self) -> bool {
        self.has(Flaw::FailedActiveCheck) || self.has(Flaw::FailedOutlierCheck)
    }

    /// As `/clusters` writes it.
    pub(super) fn health_flags(&self) -> String {
        let mut flags = String::new();
        for (flaw, name) in [
            (Flaw::FailedActiveCheck, "/failed_active_hc"),
            (Flaw::FailedOutlierCheck, "/failed_outlier_check"),
            (Flaw::PendingActiveCheck, "/pending_active_hc"),
        ] {
            if self.has(flaw) {
                flags.push_str(name);
            }
        }
        match self.spec.stated {
            Stated::Healthy => {}
            Stated::Degraded => flags.push_str("/degraded_eds_health"),
            Stated::Unhealthy => flags.push_str("/failed_eds_health"),
        }
        if flags.is_empty() { "healthy".to_owned() } else { flags }
    }
}
