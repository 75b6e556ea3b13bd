//! How a request is forwarded.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{RouteAction, VirtualHost};
use http::{HeaderValue, StatusCode};

use super::duration;
use super::hash::{Hash, HashPolicy, combine};
use super::limit::RateLimitRule;
use super::retry::{Retry, hedge};
use super::rewrite::{HostRewrite, PathFields, PathRewrite};
use crate::call::Call;
use crate::head::{Field, Fields, Head};
use crate::matcher::{PathMatch, Substitution, each};
use crate::problem::{Path, Problem};
use crate::upstream::{Cluster, Clusters};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where requests go and what they may take.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(super) to: To,
    /// What a client is answered where the cluster is not known.
    pub(crate) cluster_not_found: StatusCode,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<Retry>,
    pub(crate) hedge_on_per_try_timeout: bool,
    pub(crate) high_priority: bool,
    pub(crate) rate_limits: Vec<RateLimitRule>,
    /// Whether the virtual host's rate limits count besides the route's own; else only in place of none.
    pub(crate) include_virtual_host_rate_limits: bool,
    /// Such as `websocket`, and whether it is allowed.
    pub(crate) upgrades: Vec<(String, bool)>,
    pub(crate) host_rewrite: HostRewrite,
    /// Whether what host_rewrite replaces is told in `x-forwarded-host`.
    pub(crate) append_x_forwarded_host: bool,
    pub(super) path_rewrite: PathRewrite,
    hash: Vec<HashPolicy>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) enum To {
    Cluster {
        name: Arc<str>,
        cluster: Option<Arc<Cluster>>,
    },
    /// To the cluster that a header of the request names.
    Header {
        field: Field,
        clusters: Arc<Clusters>,
    },
}

/// How long things may take. Zero switches a limit off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For the whole response, from the end of the request.
    pub(crate) response: Duration,
    /// Without a byte either way; none: as the listener has it.
    pub(crate) idle: Option<Duration>,
    /// For the whole stream; none: as the listener has it.
    pub(crate) max_stream_duration: Option<Duration>,
    /// `grpc-timeout` bounds the stream, up to this.
    pub(crate) grpc_timeout_max: Option<Duration>,
    pub(crate) grpc_timeout_offset: Option<Duration>,
    /// The deprecated form: `grpc-timeout` takes the place of `response`.
    pub(crate) legacy_grpc_timeout_max: Option<Duration>,
    pub(crate) legacy_grpc_timeout_offset: Option<Duration>,
}

impl Forward {
    pub(super) fn compile(
        config: &RouteAction,
        to: To,
        matched: &PathMatch,
        host: &VirtualHost,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        refuse(config, at)?;
        Ok(Self {
            to,
            cluster_not_found: match config.cluster_not_found_response_code() {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            },
            timeouts: Timeouts::compile(config, at)?,
            retry: match (&config.retry_policy, &host.retry_policy) {
                (Some(policy), _) => Some(Retry::compile(policy, &at.field("retry_policy"))?),
                // What is wrong with a virtual host's policy is told once, there.
                (None, Some(policy)) => Some(Retry::compile(policy, &Path::root())?),
                (None, None) => None,
            },
            hedge_on_per_try_timeout: match (&config.hedge_policy, &host.hedge_policy) {
                (Some(policy), _) => hedge(policy, &at.field("hedge_policy"))?,
                (None, Some(policy)) => hedge(policy, &Path::root())?,
                (None, None) => false,
            },
            high_priority: config.priority() == RoutingPriority::High,
            rate_limits: each(&config.rate_limits, at, "rate_limits", RateLimitRule::compile)?,
            include_virtual_host_rate_limits: config
                .include_vh_rate_limits
                .as_ref()
                .is_some_and(|include| include.value),
            upgrades: upgrades(config, at)?,
            host_rewrite: host_rewrite(config, at)?,
            append_x_forwarded_host: config.append_x_forwarded_host,
            path_rewrite: PathRewrite::compile(
                &PathFields {
                    prefix: &config.prefix_rewrite,
                    regex: config.regex_rewrite.as_ref(),
                    whole: &config.path_rewrite,
                },
                matched,
                at,
            )?,
            hash: each(&config.hash_policy, at, "hash_policy", HashPolicy::compile)?,
        })
    }

    /// The cluster that answers the request; its name where there is none of it.
    pub(crate) fn cluster<'a>(&'a self, request: &'a Head) -> Result<Arc<Cluster>, Cow<'a, str>> {
        let found = match &self.to {
            To::Cluster { cluster, .. } => cluster.clone(),
            To::Header { clusters, .. } => clusters.get(&self.cluster_name(request)).cloned(),
        };
        found.ok_or_else(|| self.cluster_name(request))
    }

    /// The name of the cluster that answers the request.
    pub(crate) fn cluster_name<'a>(&'a self, request: &'a Head) -> Cow<'a, str> {
        match &self.to {
            To::Cluster { name, .. } => Cow::Borrowed(name),
            To::Header { field, .. } => String::from_utf8_lossy(request.first(field).unwrap_or_default()),
        }
    }

    /// The hash by which the call's host is chosen.
    pub(crate) fn hash(&self, call: &Call) -> Hash {
        combine(&self.hash, call)
    }

    /// Whether the route allows an upgrade; none: as the listener has it.
    pub(crate) fn allows_upgrade(&self, protocol: &str) -> Option<bool> {
        let mut upgrades = self.upgrades.iter();
        upgrades.find(|(name, _)| name.eq_ignore_ascii_case(protocol)).map(|(_, enabled)| *enabled)
    }
}

impl Timeouts {
    fn compile(config: &RouteAction, at: &Path<'_>) -> Result<Self, Problem> {
        let stream = config.max_stream_duration.as_ref();
        let at_stream = at.field("max_stream_duration");
        let of_stream = |field: &str, value: Option<&Option<_>>| match value {
            Some(value) => duration(value, &at_stream.field(field)),
            None => Ok(None),
        };
        let legacy = |field: &str, value| match stream {
            Some(_) => Ok(None),
            None => duration(value, &at.field(field)),
        };
        Ok(Self {
            response: duration(&config.timeout, &at.field("timeout"))?.unwrap_or(DEFAULT_TIMEOUT),
            idle: duration(&config.idle_timeout, &at.field("idle_timeout"))?,
            max_stream_duration: of_stream(
                "max_stream_duration",
                stream.map(|stream| &stream.max_stream_duration),
            )?,
            grpc_timeout_max: of_stream(
                "grpc_timeout_header_max",
                stream.map(|stream| &stream.grpc_timeout_header_max),
            )?,
            grpc_timeout_offset: of_stream(
                "grpc_timeout_header_offset",
                stream.map(|stream| &stream.grpc_timeout_header_offset),
            )?,
            legacy_grpc_timeout_max: legacy("max_grpc_timeout", &config.max_grpc_timeout)?,
            legacy_grpc_timeout_offset: legacy("grpc_timeout_offset", &config.grpc_timeout_offset)?,
        })
    }
}

fn refuse(config: &RouteAction, at: &Path<'_>) -> Result<(), Problem> {
    super::unsupported(
        at,
        &[
            ("path_rewrite_policy", config.path_rewrite_policy.is_some()),
            ("flush_timeout", config.flush_timeout.is_some()),
            ("early_data_policy", config.early_data_policy.is_some()),
            ("retry_policy_typed_config", config.retry_policy_typed_config.is_some()),
            ("request_mirror_policies", !config.request_mirror_policies.is_empty()),
            ("internal_redirect_policy", config.internal_redirect_policy.is_some()),
            ("internal_redirect_action", config.internal_redirect_action != 0),
            ("max_internal_redirects", config.max_internal_redirects.is_some()),
        ],
    )
}

fn upgrades(config: &RouteAction, at: &Path<'_>) -> Result<Vec<(String, bool)>, Problem> {
    let upgrades = each(&config.upgrade_configs, at, "upgrade_configs", |upgrade, at| {
        if upgrade.upgrade_type.is_empty() {
            return Err(at.field("upgrade_type").problem("must not be empty"));
        }
        if upgrade.upgrade_type.eq_ignore_ascii_case("connect") || upgrade.connect_config.is_some() {
            return Err(at.problem("CONNECT is not supported"));
        }
        let enabled = upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value);
        Ok((upgrade.upgrade_type.to_ascii_lowercase(), enabled))
    })?;
    let duplicate = upgrades
        .iter()
        .enumerate()
        .find(|(index, (name, _))| upgrades[..*index].iter().any(|(other, _)| other == name));
    match duplicate {
        Some((index, (name, _))) => {
            let at = at.field("upgrade_configs");
            Err(at.index(index).problem(format!("Duplicate upgrade {name}")))
        }
        None => Ok(upgrades),
    }
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
