//! Outlier detection: a host that fails where others do not is left out for a while.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use envoy_types::pb::google::protobuf::UInt32Value;
use tokio::time::Instant;

use super::host::{Flaw, Host};
use super::members::Members;
use super::read::{positive, refuse};
use crate::problem::{Path, Problem};
use crate::stats::{Counter, Gauge, Scope};
use crate::value::{self, number};

/// What is known of a host's answers.
#[derive(Debug, Default)]
pub(super) struct Record {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Of the interval that runs.
    outside: Tally,
    local: Tally,
    ejection: Mutex<Ejection>,
}

#[derive(Debug, Default)]
struct Tally {
    successes: AtomicU64,
    total: AtomicU64,
}

impl Tally {
    fn note(&self, success: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.successes.fetch_add(u64::from(success), Ordering::Relaxed);
    }

    /// The successes of the interval that ends here, in percent, where there were enough calls.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls")]
    fn take(&self) -> (f64, u64) {
        let total = self.total.swap(0, Ordering::Relaxed);
        let successes = self.successes.swap(0, Ordering::Relaxed);
        (if total == 0 { 0.0 } else { 100.0 * successes as f64 / total as f64 }, total)
    }
}

#[derive(Debug, Default)]
struct Ejection {
    until: Option<Instant>,
    /// The more often, the longer.
    times: u32,
}

/// Why a host is left out.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
}

impl Cause {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Consecutive5xx, "consecutive_5xx"),
        (Self::ConsecutiveGatewayFailure, "consecutive_gateway_failure"),
        (Self::ConsecutiveLocalOriginFailure, "consecutive_local_origin_failure"),
        (Self::SuccessRate, "success_rate"),
        (Self::LocalOriginSuccessRate, "local_origin_success_rate"),
        (Self::FailurePercentage, "failure_percentage"),
        (Self::LocalOriginFailurePercentage, "local_origin_failure_percentage"),
    ];
}

/// A rule with how often, in percent, it is obeyed.
#[derive(Clone, Copy, Debug)]
struct Rule {
    cause: Cause,
    limit: u32,
    enforcing: u32,
}

/// Rules over the answers of an interval.
#[derive(Clone, Copy, Debug)]
struct Statistics {
    hosts: u32,
    calls: u32,
}

/// The outlier detection of a cluster.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) interval: Duration,
    base: Duration,
    longest: Duration,
    percent: u32,
    one_always: bool,
    checks_let_back: bool,
    split: bool,
    server_errors: Rule,
    gateway_errors: Rule,
    local_failures: Rule,
    rate: (Statistics, f64, u32, u32),
    failures: (Statistics, u32, u32, u32),
    detected: Vec<(Counter, Counter)>,
    ejected: Gauge,
    ejections: Counter,
    overflow: Counter,
    members: OnceLock<Weak<Members>>,
}

impl Detector {
    pub(super) fn compile(config: &OutlierDetection, at: &Path<'_>, stats: &Scope) -> Result<Self, Problem> {
        refuse!(config, at, monitors, detect_degraded_hosts);
        let of = |value: &Option<UInt32Value>, default| number(value.as_ref(), default);
        let seconds = |value, name, seconds| positive(value, &at.field(name), Duration::from_secs(seconds));
        let base = seconds(config.base_ejection_time.as_ref(), "base_ejection_time", 30)?;
        let scope = stats.scope("outlier_detection");
        let (cx5, gateway, local) = (
            config.enforcing_consecutive_5xx,
            config.enforcing_consecutive_gateway_failure,
            config.enforcing_consecutive_local_origin_failure,
        );
        let rule = |cause, limit, enforcing| Rule { cause, limit, enforcing };
        Ok(Self {
            interval: seconds(config.interval.as_ref(), "interval", 10)?,
            longest: seconds(config.max_ejection_time.as_ref(), "max_ejection_time", 300)?.max(base),
            base,
            percent: of(&config.max_ejection_percent, 10),
            one_always: value::flag(config.always_eject_one_host.as_ref(), false),
            checks_let_back: value::flag(config.successful_active_health_check_uneject_host.as_ref(), true),
            split: config.split_external_local_origin_errors,
            server_errors: rule(Cause::Consecutive5xx, of(&config.consecutive_5xx, 5), of(&cx5, 100)),
            gateway_errors: rule(
                Cause::ConsecutiveGatewayFailure,
                of(&config.consecutive_gateway_failure, 5),
                of(&gateway, 0),
            ),
            local_failures: rule(
                Cause::ConsecutiveLocalOriginFailure,
                of(&config.consecutive_local_origin_failure, 5),
                of(&local, 100),
            ),
            rate: (
                Statistics {
                    hosts: of(&config.success_rate_minimum_hosts, 5),
                    calls: of(&config.success_rate_request_volume, 100),
                },
                f64::from(of(&config.success_rate_stdev_factor, 1900)) / 1000.0,
                of(&config.enforcing_success_rate, 100),
                of(&config.enforcing_local_origin_success_rate, 100),
            ),
            failures: (
                Statistics {
                    hosts: of(&config.failure_percentage_minimum_hosts, 5),
                    calls: of(&config.failure_percentage_request_volume, 50),
                },
                of(&config.failure_percentage_threshold, 85),
                of(&config.enforcing_failure_percentage, 0),
                of(&config.enforcing_failure_percentage_local_origin, 0),
            ),
            detected: Cause::ALL
                .map(|(_, name)| {
                    let counter = |kind| scope.counter(&format!("ejections_{kind}_{name}"));
                    (counter("detected"), counter("enforced"))
                })
                .into(),
            ejected: scope.gauge("ejections_active"),
            ejections: scope.counter("ejections_enforced_total"),
            overflow: scope.counter("ejections_overflow"),
            members: OnceLock::new(),
        })
    }

    /// Tells the detector whom it watches.
    pub(super) fn watch(&self, members: &Arc<Members>) {
        self.members.get_or_init(|| Arc::downgrade(members));
    }

    pub(super) fn answered(&self, host: &Host, status: u16) {
        let record = &host.record;
        record.outside.note(status < 500);
        if status < 500 {
            record.server_errors.store(0, Ordering::Relaxed);
            record.gateway_errors.store(0, Ordering::Relaxed);
            return;
        }
        if matches!(status, 502..=504) {
            self.failed_again(host, &record.gateway_errors, self.gateway_errors);
        } else {
            record.gateway_errors.store(0, Ordering::Relaxed);
        }
        self.failed_again(host, &record.server_errors, self.server_errors);
    }

    pub(super) fn failed_locally(&self, host: &Host, status: u16) {
        if !self.split {
            return self.answered(host, status);
        }
        host.record.local.note(false);
        self.failed_again(host, &host.record.local_failures, self.local_failures);
    }

    pub(super) fn reached(&self, host: &Host) {
        if self.split {
            host.record.local.note(true);
            host.record.local_failures.store(0, Ordering::Relaxed);
        }
    }

    /// A successful active check lets the host back in.
    pub(super) fn checked(&self, host: &Host) {
        if !self.checks_let_back {
            return;
        }
        let mut ejection = host.record.ejection.lock().unwrap_or_else(PoisonError::into_inner);
        if ejection.until.take().is_some() {
            drop(ejection);
            Self::let_back(host);
            if let Some(members) = self.members.get().and_then(Weak::upgrade) {
                self.refresh(&members);
            }
        }
    }

    fn failed_again(&self, host: &Host, failures: &AtomicU32, rule: Rule) {
        if failures.fetch_add(1, Ordering::Relaxed) + 1 == rule.limit {
            failures.store(0, Ordering::Relaxed);
            self.eject(host, rule.cause, rule.enforcing);
        }
    }

    fn eject(&self, host: &Host, cause: Cause, enforcing: u32) {
        let (detected, enforced) = &self.detected[cause as usize];
        detected.inc();
        let Some(members) = self.members.get().and_then(Weak::upgrade) else { return };
        let hosts = members.hosts();
        let out = hosts.iter().filter(|host| host.has(Flaw::FailedOutlierCheck)).count();
        if out * 100 >= self.percent as usize * hosts.len().max(1) && !(out == 0 && self.one_always) {
            self.overflow.inc();
            return;
        }
        if rand::random_range(0..100) >= enforcing || !host.mark(Flaw::FailedOutlierCheck, true) {
            return;
        }
        let mut ejection = host.record.ejection.lock().unwrap_or_else(PoisonError::into_inner);
        ejection.times += 1;
        let time = self.base.saturating_mul(ejection.times).min(self.longest);
        ejection.until = Some(Instant::now() + time);
        drop(ejection);
        enforced.inc();
        self.ejections.inc();
        tracing::info!(host = %host.address, ?cause, ?time, "a host is left out");
        self.refresh(&members);
    }

    /// What is due at the end of each interval.
    pub(super) fn sweep(&self, now: Instant) {
        let Some(members) = self.members.get().and_then(Weak::upgrade) else { return };
        let hosts = members.hosts();
        for host in &hosts {
            let mut ejection = host.record.ejection.lock().unwrap_or_else(PoisonError::into_inner);
            match ejection.until {
                Some(until) if until <= now => {
                    ejection.until = None;
                    drop(ejection);
                    Self::let_back(host);
                }
                Some(_) => {}
                None => ejection.times = ejection.times.saturating_sub(1),
            }
        }
        self.refresh(&members);
        let outside: Vec<_> = hosts.iter().map(|host| (host, host.record.outside.take())).collect();
        let local: Vec<_> = hosts.iter().map(|host| (host, host.record.local.take())).collect();
        self.judge(&outside, [Cause::SuccessRate, Cause::FailurePercentage], self.rate.2, self.failures.2);
        if self.split {
            let causes = [Cause::LocalOriginSuccessRate, Cause::LocalOriginFailurePercentage];
            self.judge(&local, causes, self.rate.3, self.failures.3);
        }
    }

    /// Finds the hosts that did worse than the others in the interval.
    fn judge(
        &self,
        hosts: &[(&Arc<Host>, (f64, u64))],
        [rate, failures]: [Cause; 2],
        enforcing_rate: u32,
        enforcing_failures: u32,
    ) {
        let enough = |rule: &Statistics| -> Vec<_> {
            let busy: Vec<_> =
                hosts.iter().filter(|(_, (_, total))| *total >= u64::from(rule.calls)).collect();
            if busy.len() < rule.hosts.max(1) as usize { Vec::new() } else { busy }
        };
        let busy = enough(&self.rate.0);
        if !busy.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "a count of hosts")]
            let count = busy.len() as f64;
            let mean = busy.iter().map(|(_, (percent, _))| percent).sum::<f64>() / count;
            let variance = busy.iter().map(|(_, (percent, _))| (percent - mean).powi(2)).sum::<f64>() / count;
            let limit = mean - self.rate.1 * variance.sqrt();
            for (host, _) in busy.iter().filter(|(_, (percent, _))| *percent < limit) {
                self.eject(host, rate, enforcing_rate);
            }
        }
        for (host, (percent, _)) in enough(&self.failures.0) {
            if 100.0 - percent >= f64::from(self.failures.1) {
                self.eject(host, failures, enforcing_failures);
            }
        }
    }

    fn let_back(host: &Host) {
        if host.mark(Flaw::FailedOutlierCheck, false) {
            host.record.server_errors.store(0, Ordering::Relaxed);
            host.record.gateway_errors.store(0, Ordering::Relaxed);
            host.record.local_failures.store(0, Ordering::Relaxed);
        }
    }

    fn refresh(&self, members: &Members) {
        members.refresh();
        let out = members.hosts().iter().filter(|host| host.has(Flaw::FailedOutlierCheck)).count();
        self.ejected.set(i64::try_from(out).unwrap_or(i64::MAX));
    }
}
