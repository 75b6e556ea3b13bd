//! Which route a request takes: virtual hosts by domain, routes in order.

mod answer;
mod compile;
mod criteria;
mod direct;
mod domain;
mod forward;
mod hash;
mod headers;
mod limit;
mod overlay;
mod redirect;
mod retry;
mod rewrite;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Duration as DurationConfig;
use http::HeaderName;
use serde_json::{Map, Value};

use crate::call::Connection;
use crate::filter::Filter;
use crate::head::{Field, Fields, Head};
use crate::matcher::HeaderMatcher;
use crate::problem::{Path, Problem};
use crate::telemetry::trace::{Decorator, RouteTracing};
use domain::Domains;

pub(crate) use criteria::{Criteria, Mismatch};
pub(crate) use direct::Direct;
pub(crate) use forward::Forward;
pub(crate) use headers::HeaderRules;
pub(crate) use limit::{Descriptor, RateLimitRule};
pub(crate) use overlay::Link;
pub(crate) use redirect::Redirect;
pub(crate) use retry::{Retry, RetryOn};

const X_FORWARDED_PROTO: Field = Field::Header(HeaderName::from_static("x-forwarded-proto"));
const X_ENVOY_INTERNAL: Field = Field::Header(HeaderName::from_static("x-envoy-internal"));

/// The routes of one listener, ready to be asked.
#[derive(Debug)]
pub(crate) struct Table {
    hosts: Domains<Arc<Host>>,
    ignore_port: bool,
    ignore_path_parameters: bool,
    /// Headers that only internal clients may send.
    pub(crate) internal_only_headers: Vec<HeaderName>,
}

/// A virtual host with its routes.
#[derive(Debug)]
struct Host {
    /// Which of the table's virtual hosts it is.
    index: usize,
    require_tls: RequireTls,
    to_https: Arc<Matched>,
    routes: Vec<Route>,
}

#[derive(Clone, Copy, Debug)]
enum RequireTls {
    No,
    OfExternal,
    Yes,
}

#[derive(Debug)]
struct Route {
    criteria: Criteria,
    choice: Choice,
}

/// What becomes of the requests of a route.
#[derive(Debug)]
enum Choice {
    One(Arc<Matched>),
    /// Shared out by weight.
    Weighted {
        random: Option<Field>,
        total: u64,
        parts: Vec<(u64, Arc<Matched>)>,
    },
}

/// The route that a request takes.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) name: String,
    pub(crate) virtual_host: Arc<VirtualHost>,
    pub(crate) action: Action,
    /// The chain as this route overrides it.
    pub(crate) filters: Arc<[Arc<dyn Filter>]>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) tracing: Option<RouteTracing>,
    pub(crate) decorator: Option<Decorator>,
    /// `x-envoy-attempt-count` for the upstream, for the client.
    pub(crate) attempts_in_request: bool,
    pub(crate) attempts_in_response: bool,
    /// `x-envoy-is-timeout-retry` for the upstream.
    pub(crate) timeout_retry_header: bool,
    /// How many bytes of a request are kept for its retries.
    pub(crate) request_kept: Option<usize>,
    /// In the order in which they are applied.
    request_rules: Vec<Arc<HeaderRules>>,
    response_rules: Vec<Arc<HeaderRules>>,
}

/// What all routes of a virtual host share.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    pub(crate) rate_limits: Vec<RateLimitRule>,
    virtual_clusters: Vec<(String, Vec<HeaderMatcher>)>,
}

/// What is done with a request.
#[derive(Debug)]
pub(crate) enum Action {
    Forward(Box<Forward>),
    Redirect(Box<Redirect>),
    Direct(Direct),
}

impl Table {
    /// The route that a request takes; `random` decides where chance does.
    pub(crate) fn find(&self, request: &Head, connection: &Connection, random: u64) -> Option<Arc<Matched>> {
        let host = self.hosts.find(request.host(), self.ignore_port)?;
        if host.require_tls.redirects(request) {
            return Some(host.to_https.clone());
        }
        let path = self.compared(request);
        let route =
            host.routes.iter().find(|route| route.criteria.matches(path, request, connection, random))?;
        Some(route.choice.of(request, random).clone())
    }

    /// Which routes are tried for a request, in order, and what kept it from each: the last one takes it if nothing
    /// did.
    pub(crate) fn tried(&self, request: &Head, connection: &Connection, random: u64) -> Option<Tried> {
        let host = self.hosts.find(request.host(), self.ignore_port)?;
        let to_https = host.require_tls.redirects(request);
        let path = self.compared(request);
        let mut mismatches = Vec::new();
        for route in host.routes.iter().filter(|_| !to_https) {
            let mismatch = route.criteria.mismatch(path, request, connection, random);
            mismatches.push(mismatch);
            if mismatch.is_none() {
                break;
            }
        }
        Some(Tried { host: host.index, mismatches })
    }

    /// What of a path routes are compared with.
    fn compared<'r>(&self, request: &'r Head) -> &'r str {
        let path = request.path_only();
        match path.find(';') {
            Some(parameters) if self.ignore_path_parameters => &path[..parameters],
            _ => path,
        }
    }
}

/// How a route was looked for.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Which virtual host it was.
    pub(crate) host: usize,
    /// Of its first routes; none is looked at where the host redirects to TLS.
    pub(crate) mismatches: Vec<Option<Mismatch>>,
}

impl RequireTls {
    fn redirects(self, request: &Head) -> bool {
        match self {
            Self::No => false,
            _ if scheme(request) == "https" => false,
            Self::OfExternal => request.first(&X_ENVOY_INTERNAL) != Some(b"true"),
            Self::Yes => true,
        }
    }
}

/// What the client used, whoever ends TLS.
fn scheme(request: &Head) -> &str {
    let forwarded = request.first(&X_FORWARDED_PROTO).and_then(|proto| std::str::from_utf8(proto).ok());
    forwarded.unwrap_or(request.scheme.as_str())
}

impl Choice {
    fn of(&self, request: &Head, random: u64) -> &Arc<Matched> {
        match self {
            Self::One(matched) => matched,
            Self::Weighted { random: field, total, parts } => {
                let told = field.as_ref().and_then(|field| number(request, field));
                let mut at = told.unwrap_or(random) % total;
                let part = parts.iter().find(|(weight, _)| {
                    let found = at < *weight;
                    at = at.saturating_sub(*weight);
                    found
                });
                &part.unwrap_or(&parts[0]).1
            }
        }
    }
}

/// The number in a header that is there once.
fn number(request: &Head, field: &Field) -> Option<u64> {
    std::str::from_utf8(&request.value(field)?).ok()?.parse().ok()
}

impl Matched {
    /// How the request is forwarded, if it is.
    pub(crate) fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }
}

impl VirtualHost {
    /// The name under which requests like this one are counted.
    pub(crate) fn virtual_cluster(&self, request: &Head) -> Option<&str> {
        let mut clusters = self.virtual_clusters.iter();
        match clusters.find(|(_, headers)| headers.iter().all(|header| header.matches(request))) {
            Some((name, _)) => Some(name),
            None => (!self.virtual_clusters.is_empty()).then_some("other"),
        }
    }
}

fn duration(config: &Option<DurationConfig>, at: &Path<'_>) -> Result<Option<Duration>, Problem> {
    let Some(config) = config else { return Ok(None) };
    let whole = u64::try_from(config.seconds).ok().map(Duration::from_secs);
    let part = u64::try_from(config.nanos).ok().map(Duration::from_nanos);
    match (whole, part) {
        (Some(whole), Some(part)) => Ok(Some(whole + part)),
        _ => Err(at.problem("must not be negative")),
    }
}

#[cfg(test)]
mod tests;
