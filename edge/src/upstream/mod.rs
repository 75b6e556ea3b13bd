//! Clusters of upstream hosts: who answers a call, over which connection.

#![expect(deprecated, reason = "configurations in use still say so, and Envoy still reads them")]

mod balance;
mod body;
mod breaker;
mod clusters;
mod connect;
mod describe;
mod discover;
mod endpoints;
mod health;
mod host;
mod http1;
mod http2;
mod members;
mod outlier;
mod pool;
mod read;
mod settings;
mod stats;
mod tend;
mod tls;
mod work;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use http::header::UPGRADE;
use http::{Request, Version, response};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use body::Underway;
use breaker::Breakers;
use discover::Lookup;
use endpoints::Endpoint;
use health::Check;
use members::{Members, Rules};
use outlier::Detector;
use pool::Place;
use read::refuse;
use settings::{Protocol, Settings};
use stats::ClusterStats;
use tls::Tls;

use crate::body::{BodyError, RequestBody};
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::stats::Stats;

pub(crate) use body::UpstreamBody;
pub(crate) use breaker::Permit as RetryPermit;
pub(crate) use clusters::Clusters;
pub(crate) use host::Host;

/// Why an upstream did not answer, or not to the end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind:?}: {reason}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: Arc<str>,
    pub(crate) host: Option<Arc<Host>>,
    /// Whether any byte of the request may have reached the upstream.
    pub(crate) sent: bool,
    /// What the client is told where its request's body cannot be passed on.
    pub(crate) refused: Option<Box<LocalReply>>,
}

/// The ways in which an upstream fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    NoHealthyHost,
    /// A circuit breaker is open.
    Overflow,
    ConnectFailure,
    ConnectTimeout,
    /// The connection ended under the call.
    ConnectionTermination,
    RefusedStream,
    Reset(h2::Reason),
    /// The upstream broke its protocol.
    Protocol,
    /// The request's body ended before its end, so the upstream stream was given up.
    ClientGone,
}

impl Failure {
    fn new(kind: FailureKind, reason: impl Into<Arc<str>>) -> Self {
        Self { kind, reason: reason.into(), host: None, sent: false, refused: None }
    }

    /// The request's body ended before its end.
    fn of_request(error: BodyError) -> Self {
        let refused = match error {
            BodyError::Refused(reply) => Some(reply),
            _ => None,
        };
        Self { sent: true, refused, ..Self::new(FailureKind::ClientGone, "") }
    }

    fn at(self, host: &Arc<Host>) -> Self {
        if !matches!(self.kind, FailureKind::ClientGone | FailureKind::Overflow) {
            host.failed_locally(503);
        }
        Self { host: Some(Arc::clone(host)), ..self }
    }
}

/// What a call wants of its host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Want {
    /// Of the route's hash policy.
    pub(crate) hash: Option<u64>,
    /// Hosts that a retry would rather not meet again.
    pub(crate) tried: Vec<Arc<Host>>,
    /// How often another host is drawn in the place of such a one.
    pub(crate) redraws: u32,
    /// Priority HIGH rather than DEFAULT, for circuit breakers.
    pub(crate) high_priority: bool,
    pub(crate) random: u64,
    pub(crate) chosen: Chosen,
}

/// Whom the latest attempt was sent to, known also where it is given up before its answer. Attempts share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen(Arc<Mutex<Option<Arc<Host>>>>);

impl Chosen {
    fn set(&self, host: &Arc<Host>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(host));
    }

    pub(crate) fn host(&self) -> Option<Arc<Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An answer's head, and the body that follows.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: response::Parts,
    pub(crate) body: UpstreamBody,
    pub(crate) host: Arc<Host>,
    /// Our end of the connection.
    pub(crate) local: Option<SocketAddr>,
}

/// What a cluster's connections and background work share with it.
#[derive(Debug)]
struct Core {
    name: Arc<str>,
    settings: Settings,
    tls: Option<Tls>,
    breakers: Breakers,
    members: Arc<Members>,
    detector: Option<Arc<Detector>>,
    checks: Vec<Arc<Check>>,
    stats: Arc<ClusterStats>,
}

/// Hosts that serve the same.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    pub(crate) stats: Arc<ClusterStats>,
    config: ClusterConfig,
    core: Arc<Core>,
    lookup: Lookup,
    warm: watch::Sender<bool>,
    /// Ends the background work with the cluster.
    work: OnceLock<DropGuard>,
}

impl Cluster {
    pub(crate) fn compile(config: &ClusterConfig, at: &Path<'_>, stats: &Stats) -> Result<Self, Problem> {
        if config.name.is_empty() {
            return Err(at.field("name").problem("must not be empty"));
        }
        refuse_unknown(config, at)?;
        let scope = match config.alt_stat_name.as_str() {
            "" => &config.name,
            other => other,
        };
        let scope = stats.scope(format!("cluster.{}", scope.replace(':', "_")));
        let settings = Settings::compile(config, at)?;
        let tls = Tls::compile(
            config.transport_socket.as_ref(),
            settings.protocol,
            &at.field("transport_socket"),
            &scope,
        )?;
        let breakers =
            Breakers::compile(config.circuit_breakers.as_ref(), &at.field("circuit_breakers"), &scope)?;
        let detector = match &config.outlier_detection {
            Some(config) => {
                Some(Arc::new(Detector::compile(config, &at.field("outlier_detection"), &scope)?))
            }
            None => None,
        };
        let at_checks = at.field("health_checks");
        let checks = config
            .health_checks
            .iter()
            .enumerate()
            .map(|(index, check)| Check::compile(check, &at_checks.index(index), &scope).map(Arc::new));
        let checks: Vec<_> = checks.collect::<Result<_, _>>()?;
        let discovery = endpoints::discovery(config, at)?;
        let assignment = config.load_assignment.clone().unwrap_or_default();
        let endpoints = endpoints::endpoints(&assignment, discovery, &at.field("load_assignment"))?;
        let lookup = Lookup::compile(config, discovery, endpoints, at)?;
        let common = config.common_lb_config.clone().unwrap_or_default();
        let overprovisioning = assignment.policy.and_then(|policy| policy.overprovisioning_factor);
        let rules = Rules {
            policy: balance::config::policy(config, at)?,
            panic_threshold: common.healthy_panic_threshold.map_or(50.0, |percent| percent.value),
            overprovisioning: overprovisioning.map_or(140, |percent| percent.value.into()),
        };
        let stats = Arc::new(ClusterStats::new(scope));
        let members = Arc::new(Members::new(rules, Arc::clone(&stats)));
        if let Some(detector) = &detector {
            detector.watch(&members);
        }
        let name: Arc<str> = config.name.as_str().into();
        let core = Core {
            name: Arc::clone(&name),
            settings,
            tls,
            breakers,
            members,
            detector,
            checks,
            stats: Arc::clone(&stats),
        };
        let known = lookup.endpoints.iter().filter_map(|endpoint| match endpoint {
            Endpoint::At(spec) => Some(spec.clone()),
            Endpoint::Named { .. } => None,
        });
        core.adopt(known.collect());
        let warm = watch::Sender::new(!lookup.has_names() && core.checks.is_empty());
        let (config, core) = (config.clone(), Arc::new(core));
        Ok(Self { name, stats, config, core, lookup, warm, work: OnceLock::new() })
    }

    /// Begins what goes on in the background, unless that was done before.
    pub(crate) fn start(&self, runtime: &Handle, stop: &CancellationToken) {
        let stop = stop.child_token();
        if self.work.set(stop.clone().drop_guard()).is_ok() {
            runtime.spawn(work::run(Arc::clone(&self.core), self.lookup.clone(), self.warm.clone(), stop));
        }
    }

    /// Done when the first hosts are known, and known to be well or not.
    pub(crate) async fn warm(&self) {
        // The sender lives as long as the cluster.
        let _ = self.warm.subscribe().wait_for(|warm| *warm).await;
    }

    /// Sends a request to one of the hosts; done when the answer's head is there.
    pub(crate) async fn call(
        &self,
        mut request: Box<Request<RequestBody>>,
        want: &Want,
    ) -> Result<Answered, Failure> {
        let core = &self.core;
        let Some(host) = core.members.pick(want) else {
            core.stats.upstream_cx_none_healthy.inc();
            return Err(Failure::new(FailureKind::NoHealthyHost, ""));
        };
        want.chosen.set(&host);
        let protocol = match core.settings.protocol {
            Protocol::Downstream if request.version() == Version::HTTP_2 => Protocol::Http2,
            Protocol::Downstream => Protocol::Http1,
            other => other,
        };
        if protocol == Protocol::Http2 && request.headers().contains_key(UPGRADE) {
            // HTTP/2 knows no such thing.
            return Err(Failure::new(FailureKind::Protocol, "").at(&host));
        }
        let level = core.breakers.level(want.high_priority);
        let pool = pool::of(&host);
        loop {
            let place = match pool.place(core, &host, protocol, level).await {
                Ok(place) => place,
                Err(failure) => {
                    Box::pin(request.body_mut().take_in()).await;
                    return Err(failure.at(&host));
                }
            };
            let Some(permit) = level.requests.try_take() else {
                core.stats.upstream_rq_pending_overflow.inc();
                return Err(Failure::new(FailureKind::Overflow, "").at(&host));
            };
            let underway = Underway::new(core, &host, permit);
            let local = place.local();
            let (head, body) = match place {
                Place::Http2(mut lane) => match http2::send(&mut lane, request).await {
                    Ok((head, body, upload)) => (head, UpstreamBody::http2(body, upload, lane, underway)),
                    Err(failure) => return Err(underway.failed(failure)),
                },
                Place::Http1(mut lease) => match lease.send(request).await {
                    Ok(answer) => {
                        let (head, body) = answer.into_parts();
                        (head, UpstreamBody::http1(body, lease, underway))
                    }
                    // The connection was closed before it took the request: another one may.
                    Err(Ok(unsent)) => {
                        underway.complete();
                        request = unsent;
                        continue;
                    }
                    Err(Err(failure)) => return Err(underway.failed(failure)),
                },
            };
            core.stats.answered(head.status.as_u16());
            return Ok(Answered { head, body, host, local });
        }
    }

    /// One more retry, unless there are too many already.
    pub(crate) fn try_retry(&self, high_priority: bool) -> Option<RetryPermit> {
        self.core.breakers.level(high_priority).try_retry()
    }

    /// How long any call may take, whatever its route says.
    pub(crate) fn max_stream_duration(&self) -> Option<Duration> {
        self.core.settings.max_stream_duration
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for host in self.core.members.hosts() {
            host.gone.cancel();
        }
    }
}

fn refuse_unknown(config: &ClusterConfig, at: &Path<'_>) -> Result<(), Problem> {
    refuse!(
        config,
        at,
        transport_socket_matches,
        transport_socket_matcher,
        stats_matcher,
        eds_cluster_config,
        upstream_bind_config,
        lb_subset_config,
        close_connections_on_host_health_failure,
        filters,
        lrs_server,
        lrs_report_endpoint_metrics,
        upstream_config,
        connection_pool_per_downstream_connection,
        queuing_policies,
    );
    Ok(())
}

#[cfg(test)]
mod tests;
