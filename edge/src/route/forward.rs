//! How a request is forwarded.

#![expect(deprecated, reason = "files that Envoy reads still have these fields")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{HedgePolicy, RouteAction};
use envoy_types::pb::google::protobuf::BoolValue;
use http::{HeaderName, HeaderValue, StatusCode};

use super::duration;
use super::hash::{HashPolicy, combine};
use super::limit::RateLimitRule;
use super::retry::Retry;
use super::rewrite::{HostRewrite, PathFields, PathRewrite};
use crate::call::Call;
use crate::downstream::upgrade::Upgrades;
use crate::head::{Field, Fields};
use crate::matcher::{PathMatch, Substitution, each};
use crate::problem::{Path, Problem};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");

/// Where requests go and what they may take.
#[derive(Debug)]
pub(crate) struct Forward {
    to: To,
    /// What a client is answered where the cluster is not known.
    pub(crate) cluster_not_found: StatusCode,
    timeouts: Timeouts,
    /// Without a byte either way, or no limit; none: as the listener has it.
    pub(crate) idle_timeout: Option<Option<Duration>>,
    retry: Option<Arc<Retry>>,
    /// Whether a try that takes too long is joined by another one rather than given up.
    pub(crate) hedges: bool,
    pub(crate) high_priority: bool,
    pub(crate) rate_limits: Vec<RateLimitRule>,
    /// Whether the virtual host's rate limits count besides the route's own; else only in place of none.
    pub(crate) include_virtual_host_rate_limits: bool,
    /// Such as `websocket`, and whether it is allowed.
    pub(crate) upgrades: Upgrades,
    /// What a part of a weighted cluster calls the host; set first, and never told.
    pub(super) weighted_host: Option<HeaderValue>,
    pub(crate) host_rewrite: HostRewrite,
    /// Whether what host_rewrite replaces is told in `x-forwarded-host`.
    pub(crate) append_x_forwarded_host: bool,
    path_rewrite: PathRewrite,
    hash: Vec<HashPolicy>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) enum To {
    Cluster(Arc<str>),
    /// To the cluster that a header of the request names.
    Header(Field),
}

/// How long things may take. Zero switches a limit off.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    /// For the whole response, from the end of the request.
    response: Duration,
    /// For the whole stream.
    stream: Option<Duration>,
    /// `grpc-timeout` takes the place of `stream`, up to this.
    grpc_max: Option<Duration>,
    grpc_offset: Duration,
    /// The deprecated form: `grpc-timeout` takes the place of `response`.
    legacy_grpc_max: Option<Duration>,
    legacy_grpc_offset: Duration,
}

/// What a virtual host says to all its routes.
#[derive(Debug)]
pub(super) struct HostPolicies<'c> {
    pub(super) retry: Option<&'c Arc<Retry>>,
    pub(super) hedge: Option<&'c HedgePolicy>,
}

impl Forward {
    pub(super) fn compile(
        config: &RouteAction,
        to: To,
        matched: &PathMatch,
        host: &HostPolicies<'_>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let idle_timeout = duration(&config.idle_timeout, &at.field("idle_timeout"))?;
        let path_rewrite = PathFields {
            prefix: &config.prefix_rewrite,
            regex: config.regex_rewrite.as_ref(),
            whole: &config.path_rewrite,
        };
        Ok(Self {
            to,
            cluster_not_found: match config.cluster_not_found_response_code() {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            },
            timeouts: Timeouts::compile(config, at)?,
            idle_timeout: idle_timeout.map(some),
            retry: match &config.retry_policy {
                Some(policy) => Some(Arc::new(Retry::compile(policy, &at.field("retry_policy"))?)),
                None => host.retry.cloned(),
            },
            hedges: config
                .hedge_policy
                .as_ref()
                .or(host.hedge)
                .is_some_and(|policy| policy.hedge_on_per_try_timeout),
            high_priority: config.priority() == RoutingPriority::High,
            rate_limits: each(&config.rate_limits, at, "rate_limits", RateLimitRule::compile)?,
            include_virtual_host_rate_limits: config
                .include_vh_rate_limits
                .as_ref()
                .is_some_and(|include| include.value),
            upgrades: upgrades(config, at)?,
            weighted_host: None,
            host_rewrite: host_rewrite(config, at)?,
            append_x_forwarded_host: config.append_x_forwarded_host,
            path_rewrite: PathRewrite::compile(&path_rewrite, matched, at)?,
            hash: each(&config.hash_policy, at, "hash_policy", HashPolicy::compile)?,
        })
    }

    /// The name of the cluster that answers the call; none where the request had to name it and did not.
    pub(crate) fn cluster<'a>(&'a self, call: &'a Call) -> Option<Cow<'a, str>> {
        match &self.to {
            To::Cluster(name) => Some(Cow::Borrowed(name)),
            To::Header(field) => call.request.first(field).map(String::from_utf8_lossy),
        }
    }

    /// How long the whole response may take; `asked` is what `grpc-timeout` says.
    pub(crate) fn timeout(&self, call: &Call, asked: Option<Duration>) -> Option<Duration> {
        let told = millis(call, &X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
        let timeouts = &self.timeouts;
        let timeout = match timeouts.legacy_grpc_max {
            _ if told.is_some() => told.unwrap_or_default(),
            Some(max) if call.is_grpc() => {
                let asked = asked.unwrap_or_default();
                let asked = Some(asked.saturating_sub(timeouts.legacy_grpc_offset))
                    .filter(|less| !less.is_zero())
                    .unwrap_or(asked);
                if max.is_zero() || (!asked.is_zero() && asked < max) { asked } else { max }
            }
            _ => timeouts.response,
        };
        some(timeout)
    }

    /// How long the whole stream may take, or no limit; none: as the listener has it.
    pub(crate) fn max_duration(&self, asked: Option<Duration>) -> Option<Option<Duration>> {
        let timeouts = &self.timeouts;
        match (asked, timeouts.grpc_max) {
            (Some(asked), Some(max)) => {
                let capped = some(max).map_or(asked, |max| asked.min(max));
                Some(Some(capped.saturating_sub(timeouts.grpc_offset)))
            }
            _ => timeouts.stream.map(some),
        }
    }

    /// Whether the upstream reads in `grpc-timeout` what it has for an attempt.
    pub(crate) fn replaces_grpc_timeout(&self) -> bool {
        self.timeouts.legacy_grpc_max.is_some()
    }

    /// When the call is tried again: as the route has it, and as headers of the request change it.
    pub(crate) fn retry_of(&self, call: &mut Call) -> Option<Arc<Retry>> {
        Retry::of(self.retry.as_ref(), call)
    }

    /// The hash by which the call's host is chosen.
    pub(crate) fn hash(&self, call: &mut Call) -> Option<u64> {
        combine(&self.hash, call)
    }

    /// Writes the authority and the path that the upstream is to see.
    pub(super) fn rewrite(&self, call: &mut Call) {
        call.request.headers.remove(&X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
        if let Some(host) = &self.weighted_host {
            call.request.authority = host.clone();
        }
        self.host_rewrite.apply(call, self.append_x_forwarded_host);
        self.path_rewrite.apply(call);
    }
}

impl Timeouts {
    fn compile(config: &RouteAction, at: &Path<'_>) -> Result<Self, Problem> {
        let (stream, at_stream) = (config.max_stream_duration, at.field("max_stream_duration"));
        let legacy = stream.is_none();
        let stream = stream.unwrap_or_default();
        let of_stream = |field: &str, value| duration(value, &at_stream.field(field));
        let old = |field: &str, value| duration(value, &at.field(field));
        Ok(Self {
            response: duration(&config.timeout, &at.field("timeout"))?.unwrap_or(DEFAULT_TIMEOUT),
            stream: of_stream("max_stream_duration", &stream.max_stream_duration)?,
            grpc_max: of_stream("grpc_timeout_header_max", &stream.grpc_timeout_header_max)?,
            grpc_offset: of_stream("grpc_timeout_header_offset", &stream.grpc_timeout_header_offset)?
                .unwrap_or_default(),
            legacy_grpc_max: old("max_grpc_timeout", &config.max_grpc_timeout)?.filter(|_| legacy),
            legacy_grpc_offset: old("grpc_timeout_offset", &config.grpc_timeout_offset)?.unwrap_or_default(),
        })
    }
}

/// A limit; zero is none.
fn some(limit: Duration) -> Option<Duration> {
    Some(limit).filter(|limit| !limit.is_zero())
}

/// The milliseconds that a header of the request tells.
fn millis(call: &Call, header: &HeaderName) -> Option<Duration> {
    let value = call.request.headers.get(header)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_millis)
}

fn upgrades(config: &RouteAction, at: &Path<'_>) -> Result<Upgrades, Problem> {
    let enabled = |enabled: &Option<BoolValue>| enabled.is_none_or(|enabled| enabled.value);
    let all = config.upgrade_configs.iter();
    Upgrades::compile(all.map(|upgrade| (&*upgrade.upgrade_type, enabled(&upgrade.enabled))), at)
}

fn host_rewrite(config: &RouteAction, at: &Path<'_>) -> Result<HostRewrite, Problem> {
    Ok(match &config.host_rewrite_specifier {
        None => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            HostRewrite::Literal(host_value(host, &at.field("host_rewrite_literal"))?)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) if auto.value => HostRewrite::Auto,
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            HostRewrite::Header(Field::parse(name, &at.field("host_rewrite_header"))?)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
            HostRewrite::Path(Substitution::compile(regex, &at.field("host_rewrite_path_regex"))?)
        }
        Some(HostRewriteSpecifier::HostRewrite(format)) => {
            HostRewrite::Format(crate::format::Format::parse(format, &at.field("host_rewrite"))?)
        }
    })
}

pub(super) fn host_value(host: &str, at: &Path<'_>) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(host).map_err(|_| at.problem("is no host"))
}
