//! Active health checks: hosts are asked how they are, and those that are not well get no calls.

mod config;
mod probe;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, uri::PathAndQuery};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Core;
use super::host::{Flaw, Host};
use crate::stats::{Counter, Gauge};
use probe::Prober;

/// A health check of a cluster.
#[derive(Debug)]
pub(super) struct Check {
    kind: Kind,
    timeout: Duration,
    pace: Pace,
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    reuse_connection: bool,
    alt_port: Option<u16>,
    stats: CheckStats,
}

/// How long to wait between two checks.
#[derive(Clone, Copy, Debug)]
struct Pace {
    initial_jitter: Duration,
    jitter: Duration,
    jitter_percent: u32,
    healthy: Duration,
    healthy_edge: Duration,
    unhealthy: Duration,
    unhealthy_edge: Duration,
    /// While nobody calls the cluster.
    idle_healthy: Duration,
    idle_unhealthy: Duration,
}

#[derive(Debug)]
enum Kind {
    Http(HttpCheck),
    Tcp { send: Bytes, receive: Vec<Bytes> },
    Grpc { service: String, authority: String, headers: HeaderMap },
}

#[derive(Debug)]
struct HttpCheck {
    host: String,
    path: PathAndQuery,
    method: Method,
    headers: HeaderMap,
    removed: Vec<String>,
    http2: bool,
    expected: Vec<Range<u16>>,
    retriable: Vec<Range<u16>>,
}

#[derive(Debug)]
struct CheckStats {
    attempt: Counter,
    success: Counter,
    failure: Counter,
    network_failure: Counter,
    healthy: Gauge,
}

/// What a check finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Well,
    /// The host says itself that it is not well.
    Unwell,
    /// It may be a passing trouble.
    Unsure,
    /// It did not answer.
    Silent,
}

/// What was found of a host so far.
#[derive(Debug, Default)]
struct Course {
    known: bool,
    well: u32,
    unwell: u32,
}

impl Check {
    /// Checks a host until the task is cancelled; tells once the first check is done.
    pub(super) async fn watch(self: Arc<Self>, core: Arc<Core>, host: Arc<Host>, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let (mut prober, mut course) = (Prober::new(&self, &core, &host), Course::default());
        sleep(self.pace.initial_jitter.mul_f64(rand::random())).await;
        loop {
            self.stats.attempt.inc();
            let finding = prober.probe().await;
            self.count(finding);
            let failed = host.has(Flaw::FailedActiveCheck);
            let unwell = course.note(finding, failed, self.healthy_threshold, self.unhealthy_threshold);
            if self.settle(&core, &host, unwell) {
                tracing::info!(host = %host.address, healthy = !unwell, "a host's health changed");
            }
            // A success that is the first of several shows the edge of a change as well.
            let edge = unwell != failed || (finding == Finding::Well) == unwell;
            if let Some(first) = first.take() {
                // Nobody may wait for it any more.
                let _ = first.send(());
            }
            sleep(self.pace.next(unwell, edge, core.stats.upstream_cx_total.value() > 0)).await;
        }
    }

    fn count(&self, finding: Finding) {
        match finding {
            Finding::Well => self.stats.success.inc(),
            Finding::Unwell | Finding::Unsure => self.stats.failure.inc(),
            Finding::Silent => {
                self.stats.failure.inc();
                self.stats.network_failure.inc();
            }
        }
    }

    /// Notes a host's health; whether it changed.
    fn settle(&self, core: &Core, host: &Host, unwell: bool) -> bool {
        let known = host.mark(Flaw::PendingActiveCheck, false);
        let changed = host.mark(Flaw::FailedActiveCheck, unwell);
        if changed || known {
            core.members.refresh();
            let hosts = core.members.hosts();
            let healthy = hosts.iter().filter(|host| !host.has(Flaw::FailedActiveCheck)).count();
            self.stats.healthy.set(i64::try_from(healthy).unwrap_or(i64::MAX));
        }
        if !unwell && let Some(detector) = &core.detector {
            detector.checked(host);
        }
        changed
    }
}

impl Course {
    /// Whether the host counts as unwell after one more finding.
    fn note(&mut self, finding: Finding, failed: bool, healthy_after: u32, unhealthy_after: u32) -> bool {
        let first = !std::mem::replace(&mut self.known, true);
        if finding == Finding::Well {
            self.unwell = 0;
            self.well += 1;
            // The very first check decides by itself.
            return failed && !first && self.well < healthy_after;
        }
        self.well = 0;
        self.unwell += 1;
        failed || finding == Finding::Unwell || self.unwell >= unhealthy_after
    }
}

impl Pace {
    fn next(&self, unwell: bool, edge: bool, busy: bool) -> Duration {
        let base = match (busy, unwell, edge) {
            (false, true, _) => self.idle_unhealthy,
            (false, false, _) => self.idle_healthy,
            (true, true, true) => self.unhealthy_edge,
            (true, true, false) => self.unhealthy,
            (true, false, true) => self.healthy_edge,
            (true, false, false) => self.healthy,
        };
        let jitter = self.jitter + base.mul_f64(f64::from(self.jitter_percent) / 100.0);
        base + jitter.mul_f64(rand::random())
    }
}

/// Headers of a check besides those that it always has.
fn agent() -> HeaderValue {
    HeaderValue::from_static("Envoy/HC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_health_follows_the_findings() {
        use Finding::{Silent, Unsure, Unwell, Well};
        // What was found, and whether the host then counts as unwell (healthy after 2, unhealthy after 3).
        let courses: [&[(Finding, bool)]; 6] = [
            &[(Well, false)],
            &[(Silent, true), (Well, true), (Well, false)],
            &[(Well, false), (Silent, false), (Silent, false), (Silent, true), (Well, true), (Well, false)],
            &[
                (Well, false),
                (Unsure, false),
                (Well, false),
                (Unsure, false),
                (Unsure, false),
                (Unsure, true),
            ],
            &[(Well, false), (Unwell, true), (Well, true), (Silent, true), (Well, true), (Well, false)],
            &[(Unwell, true), (Silent, true)],
        ];
        for findings in courses {
            let (mut course, mut failed) = (Course::default(), true);
            for &(finding, expected) in findings {
                failed = course.note(finding, failed, 2, 3);
                assert_eq!(failed, expected, "{finding:?} in {findings:?}");
            }
        }
    }

    #[test]
    fn checks_are_rare_while_nobody_calls() {
        let seconds = Duration::from_secs;
        let pace = Pace {
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
            healthy: seconds(1),
            healthy_edge: seconds(2),
            unhealthy: seconds(3),
            unhealthy_edge: seconds(4),
            idle_healthy: seconds(60),
            idle_unhealthy: seconds(61),
        };
        let cases = [
            (false, false, true, 1),
            (false, true, true, 2),
            (true, false, true, 3),
            (true, true, true, 4),
            (false, true, false, 60),
            (true, true, false, 61),
        ];
        for (unwell, edge, busy, expected) in cases {
            assert_eq!(pace.next(unwell, edge, busy), seconds(expected));
        }
    }
}
