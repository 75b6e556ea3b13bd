//! Answers the health checks that others make of the edge.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck as Config;
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::matcher::{HeaderMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::{Counter, Scope};
use crate::upstream::Clusters;

const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");
const FAIL_NOW: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

/// Says that the edge is well, unless it was told to fail or too few hosts of a cluster are healthy.
#[derive(Debug)]
pub(crate) struct HealthCheck {
    headers: Vec<HeaderMatcher>,
    /// The upstream answers while the edge itself is well.
    pass_through: bool,
    /// Clusters, with the percentage of their hosts that have to be healthy.
    minimums: Vec<(String, f64)>,
    clusters: Arc<Clusters>,
    node_cluster: HeaderValue,
    stats: Stats,
}

/// A call that is a health check.
#[derive(Clone)]
struct Check;

/// What a health check finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Well,
    ClustersWell,
    Failing,
    NoCluster,
    EmptyCluster,
    SickCluster,
}

#[derive(Debug)]
struct Stats {
    total: Counter,
    ok: Counter,
    failed: Counter,
    no_cluster: Counter,
    empty_cluster: Counter,
    sick_cluster: Counter,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: Config = unpack(config, at)?;
    let at_mode = at.field("pass_through_mode");
    let pass_through = config.pass_through_mode.ok_or_else(|| at_mode.problem("is required"))?.value;
    if config.cache_time.is_some() {
        return Err(at.field("cache_time").problem("is not supported: every check is answered anew"));
    }
    let at_minimums = at.field("cluster_min_healthy_percentages");
    if pass_through && !config.cluster_min_healthy_percentages.is_empty() {
        return Err(at_minimums.problem("needs pass_through_mode: false"));
    }
    let minimums = config.cluster_min_healthy_percentages.iter();
    Ok(Arc::new(HealthCheck {
        headers: each(&config.headers, at, "headers", HeaderMatcher::compile)?,
        pass_through,
        minimums: minimums.map(|(name, percent)| (name.clone(), percent.value)).collect(),
        clusters: Arc::clone(context.clusters),
        node_cluster: HeaderValue::from_str(context.node_cluster)
            .map_err(|_| at.problem("the cluster of the node cannot stand in a header"))?,
        stats: Stats::new(&context.stats.scope("health_check")),
    }))
}

impl Filter for HealthCheck {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if !self.headers.iter().all(|header| header.matches(&call.request)) {
            return Flow::Continue;
        }
        call.kept.insert(Check);
        if self.pass_through && !call.failing {
            return Flow::Continue;
        }
        let finding = if call.failing { Finding::Failing } else { self.look() };
        self.stats.count(finding);
        let reply = match finding {
            Finding::Well | Finding::ClustersWell => LocalReply::new(StatusCode::OK, "", finding.details()),
            _ => LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "", finding.details())
                .with_flag(Flag::FailedLocalHealthCheck),
        };
        Flow::Reply(reply)
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        if call.kept.get::<Check>().is_some() {
            reply.headers.insert(CHECKED_CLUSTER, self.node_cluster.clone());
        }
        if call.failing {
            reply.headers.insert(FAIL_NOW, HeaderValue::from_static("true"));
        }
    }
}

impl HealthCheck {
    /// Whether enough hosts are healthy.
    fn look(&self) -> Finding {
        for (name, minimum) in &self.minimums {
            let Some(cluster) = self.clusters.get(name) else { return Finding::NoCluster };
            let stats = &cluster.stats;
            let healthy = stats.membership_healthy.value() + stats.membership_degraded.value();
            let finding = judge(stats.membership_total.value(), healthy, *minimum);
            if finding != Finding::ClustersWell {
                return finding;
            }
        }
        if self.minimums.is_empty() { Finding::Well } else { Finding::ClustersWell }
    }
}

fn judge(total: i64, healthy: i64, minimum: f64) -> Finding {
    if total == 0 {
        return if minimum == 0.0 { Finding::ClustersWell } else { Finding::EmptyCluster };
    }
    let enough = 100.0 * healthy as f64 >= total as f64 * minimum;
    if enough { Finding::ClustersWell } else { Finding::SickCluster }
}

impl Finding {
    fn details(self) -> &'static str {
        match self {
            Self::Well => "health_check_ok",
            Self::ClustersWell => "health_check_ok_cluster_healthy",
            Self::Failing => "health_check_failed",
            Self::NoCluster => "health_check_failed_cluster_not_found",
            Self::EmptyCluster => "health_check_failed_cluster_empty",
            Self::SickCluster => "health_check_failed_cluster_unhealthy",
        }
    }
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        Self {
            total: scope.counter("request_total"),
            ok: scope.counter("ok"),
            failed: scope.counter("failed"),
            no_cluster: scope.counter("failed_cluster_not_found"),
            empty_cluster: scope.counter("failed_cluster_empty"),
            sick_cluster: scope.counter("failed_cluster_unhealthy"),
        }
    }

    fn count(&self, finding: Finding) {
        self.total.inc();
        match finding {
            Finding::Well | Finding::ClustersWell => return self.ok.inc(),
            Finding::Failing => {}
            Finding::NoCluster => self.no_cluster.inc(),
            Finding::EmptyCluster => self.empty_cluster.inc(),
            Finding::SickCluster => self.sick_cluster.inc(),
        }
        self.failed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_hosts_of_a_cluster_have_to_be_healthy() {
        for (total, healthy, minimum, expected) in [
            (0, 0, 0.0, Finding::ClustersWell),
            (0, 0, 50.0, Finding::EmptyCluster),
            (4, 2, 50.0, Finding::ClustersWell),
            (4, 1, 50.0, Finding::SickCluster),
            (4, 4, 100.0, Finding::ClustersWell),
        ] {
            assert_eq!(judge(total, healthy, minimum), expected, "{healthy} of {total}, {minimum} %");
        }
    }

    #[test]
    fn failures_are_counted_by_their_reason() {
        let stats = crate::stats::Stats::default();
        let counted = Stats::new(&stats.scope("http.web.health_check"));
        for finding in [Finding::Well, Finding::Failing, Finding::EmptyCluster, Finding::ClustersWell] {
            counted.count(finding);
        }
        let counts =
            [&counted.total, &counted.ok, &counted.failed, &counted.empty_cluster].map(Counter::value);
        assert_eq!(counts, [4, 2, 2, 1]);
    }
}
