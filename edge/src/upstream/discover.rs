//! Looks up the names of a cluster's endpoints, again and again.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;

use super::endpoints::{Discovery, Endpoint};
use super::host::{Host, Spec, Target};
use super::read::positive;
use super::stats::ClusterStats;
use crate::problem::{Path, Problem};

/// How and when names are looked up.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) discovery: Discovery,
    pub(super) endpoints: Vec<Endpoint>,
    family: DnsLookupFamily,
    refresh: Duration,
    jitter: Duration,
    after_failure: (Duration, Duration),
}

/// What a lookup of all names found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) specs: Vec<Spec>,
    pub(super) failed: bool,
}

impl Lookup {
    pub(super) fn compile(
        config: &ClusterConfig,
        discovery: Discovery,
        endpoints: Vec<Endpoint>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let five = Duration::from_secs(5);
        let refresh = positive(config.dns_refresh_rate.as_ref(), &at.field("dns_refresh_rate"), five)?;
        let mut after_failure = (refresh, refresh);
        if let Some(rate) = &config.dns_failure_refresh_rate {
            let at = at.field("dns_failure_refresh_rate");
            let base = positive(rate.base_interval.as_ref(), &at.field("base_interval"), refresh)?;
            let max =
                positive(rate.max_interval.as_ref(), &at.field("max_interval"), base.saturating_mul(10))?;
            after_failure = (base, max);
        }
        let jitter = config.dns_jitter.as_ref().map_or(Duration::ZERO, crate::value::duration);
        Ok(Self { discovery, endpoints, family: config.dns_lookup_family(), refresh, jitter, after_failure })
    }

    /// Whether there is any name to look up.
    pub(super) fn has_names(&self) -> bool {
        self.endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Named { .. }))
    }

    /// Looks every name up. What cannot be found stays as it was.
    pub(super) async fn look(&self, before: &[std::sync::Arc<Host>], stats: &ClusterStats) -> Found {
        let mut found = Found { specs: Vec::new(), failed: false };
        for endpoint in &self.endpoints {
            let (name, port, template) = match endpoint {
                Endpoint::At(spec) => {
                    found.specs.push(spec.clone());
                    continue;
                }
                Endpoint::Named { name, port, spec } => (name, *port, spec),
            };
            stats.update_attempt.inc();
            let known = before
                .iter()
                .filter(|host| Spec { target: template.target.clone(), ..host.spec.clone() } == *template);
            match tokio::net::lookup_host((name.as_str(), port)).await {
                Ok(addresses) => {
                    stats.update_success.inc();
                    let mut targets: Vec<_> =
                        of_family(addresses.collect(), self.family).into_iter().map(Target::Tcp).collect();
                    if targets.is_empty() {
                        stats.update_empty.inc();
                    }
                    if self.discovery == Discovery::LogicalDns {
                        // An address that still holds is kept, so that names with many of them do not wander.
                        let kept = known
                            .map(|host| &host.spec.target)
                            .find(|target| targets.contains(target))
                            .cloned();
                        targets = kept.or(targets.into_iter().next()).into_iter().collect();
                    }
                    let specs = targets.into_iter().map(|target| Spec { target, ..template.clone() });
                    found.specs.extend(specs);
                }
                Err(error) => {
                    stats.update_failure.inc();
                    tracing::warn!(%name, %error, "a name of an upstream cannot be looked up");
                    found.failed = true;
                    found.specs.extend(known.map(|host| host.spec.clone()));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        found.specs.retain(|spec| seen.insert(spec.target.clone()));
        found
    }

    /// How long to wait before the next lookup, after so many failures in a row.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        if failures == 0 {
            return self.refresh + self.jitter.mul_f64(rand::random());
        }
        let (base, max) = self.after_failure;
        if base == max {
            return base;
        }
        base.saturating_mul(1 << (failures - 1).min(16)).min(max).mul_f64(rand::random_range(0.5..1.0))
    }
}

fn of_family(addresses: Vec<SocketAddr>, family: DnsLookupFamily) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(SocketAddr::is_ipv4);
    match family {
        DnsLookupFamily::V4Only => v4,
        DnsLookupFamily::V6Only => v6,
        DnsLookupFamily::Auto if v6.is_empty() => v4,
        DnsLookupFamily::Auto => v6,
        DnsLookupFamily::V4Preferred if v4.is_empty() => v6,
        DnsLookupFamily::V4Preferred => v4,
        DnsLookupFamily::All => addresses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_chosen_as_configured() {
        let (v4, v6) = ("127.0.0.1:80".parse().expect("v4"), "[::1]:80".parse().expect("v6"));
        let cases: [(DnsLookupFamily, &[SocketAddr], &[SocketAddr]); 7] = [
            (DnsLookupFamily::Auto, &[v4, v6], &[v6]),
            (DnsLookupFamily::Auto, &[v4], &[v4]),
            (DnsLookupFamily::V4Only, &[v4, v6], &[v4]),
            (DnsLookupFamily::V6Only, &[v4], &[]),
            (DnsLookupFamily::V4Preferred, &[v6, v4], &[v4]),
            (DnsLookupFamily::V4Preferred, &[v6], &[v6]),
            (DnsLookupFamily::All, &[v6, v4], &[v6, v4]),
        ];
        for (family, addresses, expected) in cases {
            assert_eq!(of_family(addresses.to_vec(), family), expected, "{family:?}");
        }
    }
}
