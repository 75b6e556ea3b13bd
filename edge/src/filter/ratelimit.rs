//! Asks a rate limit service (`envoy.service.ratelimit.v3`) whether a call is one too many.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValue as HeaderField;
use envoy_types::pb::envoy::config::route::v3::RateLimit as RuleConfig;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3 as pb;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::{Any, UInt64Value};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pb::rate_limit::XRateLimitHeadersRfcVersion;
use pb::rate_limit_per_route::{OverrideOptions, VhRateLimitsOptions};
use tokio::runtime::Handle;

use crate::bootstrap::unpack;
use crate::call::{Call, Protocol};
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::grpc::{Service, Unanswered};
use crate::matcher::{Fraction, each};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::route::{Descriptor, HeaderRules, RateLimitRule};
use crate::value;

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const TIMEOUT: Duration = Duration::from_millis(20);
const NAMESPACE: &str = "envoy.filters.http.ratelimit";
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RESOURCE_EXHAUSTED: i32 = 8;

/// The filter as one route has it.
#[derive(Debug)]
pub(crate) struct RateLimit {
    shared: Arc<Shared>,
    domain: String,
    /// In place of those of the route and its virtual host.
    rules: Arc<[RateLimitRule]>,
    of_virtual_host: OfVirtualHost,
}

/// What no route changes.
#[derive(Debug)]
struct Shared {
    service: Service,
    node_cluster: String,
    stage: u32,
    asks: Asks,
    enabled: Option<Fraction>,
    enforced: Option<Fraction>,
    /// Whether nobody passes without an answer: always, never, or for some calls.
    failure_denies: bool,
    failure_denies_some: Option<Fraction>,
    status: StatusCode,
    status_on_error: StatusCode,
    resource_exhausted: bool,
    tells_limited: bool,
    tells_limits: bool,
    tells_retry_after: bool,
    headers: HeaderRules,
    /// `ratelimit.<stat_prefix>`
    stats_prefix: String,
}

/// For whose requests the service is asked.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Both,
    Internal,
    External,
}

/// Whether the rules of a virtual host count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OfVirtualHost {
    /// Where the route has none of its own.
    InPlaceOfNone,
    Besides,
    Never,
}

/// What a response carries of a decision.
#[derive(Clone, Debug)]
struct Told {
    headers: HeaderMap,
    over: bool,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: pb::RateLimit = unpack(config, at)?;
    if !config.metadata_namespace.is_empty() {
        return Err(at.field("metadata_namespace").problem("is not supported: remove it"));
    }
    let at_service = at.field("rate_limit_service");
    let service = config.rate_limit_service.as_ref().and_then(|service| service.grpc_service.as_ref());
    let service = service.ok_or_else(|| at_service.problem("needs a grpc_service"))?;
    let timeout = value::limit(config.timeout.as_ref(), Some(TIMEOUT));
    let status = |code: i32, field: &str| {
        let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
        status.ok_or_else(|| at.field(field).field("code").problem("is no status of an answer"))
    };
    let limited = config.rate_limited_status.as_ref().map_or(429, |status| status.code);
    let failed = config.status_on_error.as_ref().map_or(500, |status| status.code);
    let fraction = |fraction: &Option<envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent>| {
        fraction.as_ref().map(|fraction| Fraction::compile(fraction.default_value.as_ref()))
    };
    let shared = Shared {
        service: Service::compile(service, timeout, &at_service.field("grpc_service"), context)?,
        node_cluster: context.node_cluster.to_owned(),
        stage: config.stage,
        asks: match config.request_type.as_str() {
            "internal" => Asks::Internal,
            "external" => Asks::External,
            _ => Asks::Both,
        },
        enabled: fraction(&config.filter_enabled),
        enforced: fraction(&config.filter_enforced),
        failure_denies: config.failure_mode_deny,
        failure_denies_some: fraction(&config.failure_mode_deny_percent),
        status: status(if limited < 400 { 429 } else { limited }, "rate_limited_status")?,
        status_on_error: status(failed, "status_on_error")?,
        resource_exhausted: config.rate_limited_as_resource_exhausted,
        tells_limited: !config.disable_x_envoy_ratelimited_header,
        tells_limits: config.enable_x_ratelimit_headers() == XRateLimitHeadersRfcVersion::DraftVersion03,
        tells_retry_after: config.enable_retry_after_header,
        headers: HeaderRules::compile(
            &config.response_headers_to_add,
            &[],
            at,
            ["response_headers_to_add", ""],
        )?,
        stats_prefix: match config.stat_prefix.as_str() {
            "" => "ratelimit".to_owned(),
            own => format!("ratelimit.{own}"),
        },
    };
    Ok(Arc::new(RateLimit {
        shared: Arc::new(shared),
        domain: config.domain,
        rules: rules(&config.rate_limits, at)?,
        of_virtual_host: OfVirtualHost::InPlaceOfNone,
    }))
}

fn rules(config: &[RuleConfig], at: &Path<'_>) -> Result<Arc<[RateLimitRule]>, Problem> {
    each(config, at, "rate_limits", RateLimitRule::compile).map(Arc::from)
}

impl Filter for RateLimit {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let shared = &*self.shared;
        let internal = call.request.headers.get(INTERNAL).is_some_and(|internal| internal == "true");
        let asks = match shared.asks {
            Asks::Both => true,
            Asks::Internal => internal,
            Asks::External => !internal,
        };
        if !asks || shared.enabled.is_some_and(|enabled| !enabled.takes(call.random)) {
            return Flow::Continue;
        }
        let Some(question) = self.question(call, false) else { return Flow::Continue };
        Flow::Wait(Box::pin(async move {
            let answer = shared.service.ask::<_, RateLimitResponse>(SHOULD_RATE_LIMIT, &question, call);
            match answer.await {
                Ok(answer) => shared.decide(call, answer),
                Err(error) => shared.failed(call, &error),
            }
        }))
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        let Some(told) = call.kept.remove::<Told>() else { return };
        if reply.local && told.headers.contains_key(CONTENT_TYPE) {
            reply.headers.remove(CONTENT_TYPE);
        }
        for (name, value) in &told.headers {
            reply.headers.append(name, value.clone());
        }
        if told.over {
            self.shared.headers.apply_response(call, reply.status, &mut reply.headers);
        }
    }

    fn ended(&self, call: &mut Call) {
        // Nobody waits for this answer, and while the edge ends nobody can be asked.
        if let Some(question) = self.question(call, true)
            && let Ok(runtime) = Handle::try_current()
        {
            let service = &self.shared.service;
            runtime.spawn(service.ask::<_, RateLimitResponse>(SHOULD_RATE_LIMIT, &question, call));
        }
    }

    fn on_route(
        &self,
        config: &Any,
        at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        let config: pb::RateLimitPerRoute = unpack(config, at)?;
        let own = rules(&config.rate_limits, at)?;
        let of_virtual_host = match (config.override_option(), config.vh_rate_limits()) {
            (OverrideOptions::IncludePolicy, _)
            | (OverrideOptions::Default, VhRateLimitsOptions::Include) => OfVirtualHost::Besides,
            (OverrideOptions::IgnorePolicy, _) | (OverrideOptions::Default, VhRateLimitsOptions::Ignore) => {
                OfVirtualHost::Never
            }
            _ => OfVirtualHost::InPlaceOfNone,
        };
        Ok(Arc::new(Self {
            shared: Arc::clone(&self.shared),
            domain: if config.domain.is_empty() { self.domain.clone() } else { config.domain },
            rules: if own.is_empty() { Arc::clone(&self.rules) } else { own },
            of_virtual_host,
        }))
    }
}

impl RateLimit {
    /// What the service is asked of a call, if anything; `done`: once the call has ended.
    fn question(&self, call: &Call, done: bool) -> Option<RateLimitRequest> {
        let route = call.route.as_ref()?;
        let forward = route.forward()?;
        let of_host = &route.virtual_host.rate_limits;
        let host_counts = match self.of_virtual_host {
            _ if forward.include_virtual_host_rate_limits => true,
            OfVirtualHost::InPlaceOfNone => forward.rate_limits.is_empty(),
            OfVirtualHost::Besides => true,
            OfVirtualHost::Never => false,
        };
        let of_host = of_host.iter().filter(|_| host_counts);
        let of_route = forward.rate_limits.iter().chain(of_host);
        let of_route = of_route.filter(|rule| self.rules.is_empty() && rule.stage == self.shared.stage);
        let descriptors: Vec<_> = self
            .rules
            .iter()
            .chain(of_route)
            .filter(|rule| rule.on_stream_done == done)
            .filter_map(|rule| rule.descriptor(call, &self.shared.node_cluster))
            .map(written)
            .collect();
        let domain = self.domain.clone();
        (!descriptors.is_empty()).then_some(RateLimitRequest { domain, descriptors, hits_addend: 0 })
    }
}

fn written(descriptor: Descriptor) -> RateLimitDescriptor {
    let hits = descriptor.hits_addend;
    RateLimitDescriptor {
        entries: descriptor.entries.into_iter().map(|(key, value)| Entry { key, value }).collect(),
        limit: descriptor.limit.map(|limit| RateLimitOverride {
            requests_per_unit: limit.requests_per_unit,
            unit: limit.unit.into(),
        }),
        hits_addend: hits.map(|hits| UInt64Value { value: hits.unsigned_abs() }),
        is_negative_hits: hits.is_some_and(i64::is_negative),
    }
}

impl Shared {
    fn decide(&self, call: &mut Call, answer: RateLimitResponse) -> Result<(), LocalReply> {
        for (key, fact) in answer.dynamic_metadata.iter().flat_map(value::object) {
            call.note(NAMESPACE, &key, fact);
        }
        let over = answer.overall_code() == Code::OverLimit;
        let enforced = self.enforced.is_none_or(|enforced| enforced.takes(call.random));
        call.count(&self.stats_prefix, if over { "over_limit" } else { "ok" });
        let mut headers = fields(&answer.response_headers_to_add);
        if over && self.tells_limited {
            headers.insert(RATE_LIMITED, HeaderValue::from_static("true"));
        }
        if self.tells_limits {
            tell_limits(&answer.statuses, &mut headers);
        }
        if over && enforced && self.tells_retry_after && self.status == StatusCode::TOO_MANY_REQUESTS {
            tell_retry_after(&answer.statuses, &mut headers);
        }
        call.kept.insert(Told { headers, over });
        if over && let Some(cluster) = call.cluster() {
            cluster.stats.answered(self.status.as_u16());
        }
        if !(over && enforced) {
            for (name, value) in &fields(&answer.request_headers_to_add) {
                call.request.headers.append(name, value.clone());
            }
            return Ok(());
        }
        let body = String::from_utf8_lossy(&answer.raw_body).into_owned();
        let refused = LocalReply::new(self.status, body, "request_rate_limited").with_flag(Flag::RateLimited);
        let browser = matches!(call.protocol, Protocol::GrpcWeb { .. });
        let exhausted = self.resource_exhausted || browser;
        Err(if exhausted { refused.with_grpc(RESOURCE_EXHAUSTED) } else { refused })
    }

    /// The service has not decided.
    fn failed(&self, call: &Call, error: &Unanswered) -> Result<(), LocalReply> {
        tracing::debug!(%error, "the rate limit service did not answer");
        call.count(&self.stats_prefix, "error");
        let some = self.failure_denies_some.map(|some| some.takes(call.random));
        if some.unwrap_or(self.failure_denies) {
            let refused = LocalReply::new(self.status_on_error, "", "rate_limiter_error");
            return Err(refused.with_flag(Flag::RateLimitServiceError));
        }
        call.count(&self.stats_prefix, "failure_mode_allowed");
        Ok(())
    }
}

/// What can stand in headers of what the service wants there.
fn fields(headers: &[HeaderField]) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(headers.len());
    for header in headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(&header.key), HeaderValue::from_str(&header.value))
        {
            fields.append(name, value);
        }
    }
    fields
}

/// Tells the limit that is nearest, and the windows of all.
fn tell_limits(statuses: &[DescriptorStatus], headers: &mut HeaderMap) {
    let limits = || statuses.iter().filter_map(|status| Some((status, status.current_limit.as_ref()?)));
    let Some((nearest, limit)) = limits().min_by_key(|(status, _)| status.limit_remaining) else { return };
    let mut text = limit.requests_per_unit.to_string();
    for (_, limit) in limits() {
        let Some(seconds) = seconds_of(limit.unit()) else { continue };
        // Writing to a String cannot fail.
        let _ = write!(text, ", {};w={seconds}", limit.requests_per_unit);
        if !limit.name.is_empty() {
            let _ = write!(text, ";name=\"{}\"", limit.name);
        }
    }
    let reset = nearest.duration_until_reset.as_ref().map_or(0, |reset| reset.seconds);
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.append(LIMIT, text);
    }
    headers.append(REMAINING, HeaderValue::from(nearest.limit_remaining));
    headers.append(RESET, HeaderValue::from(reset));
}

fn tell_retry_after(statuses: &[DescriptorStatus], headers: &mut HeaderMap) {
    let over = statuses.iter().filter(|status| status.code() == Code::OverLimit);
    let resets = over.map(|status| status.duration_until_reset.as_ref().map_or(0, |reset| reset.seconds));
    if let Some(longest) = resets.max()
        && !headers.contains_key(RETRY_AFTER)
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(longest.max(1)));
    }
}

fn seconds_of(unit: Unit) -> Option<u32> {
    const DAY: u32 = 24 * 60 * 60;
    Some(match unit {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 60 * 60,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit as CurrentLimit;
    use envoy_types::pb::google::protobuf::Duration as DurationValue;

    use super::*;

    fn status(requests: u32, unit: Unit, name: &str, remaining: u32, reset: i64) -> DescriptorStatus {
        DescriptorStatus {
            code: Code::OverLimit.into(),
            current_limit: Some(CurrentLimit {
                name: name.to_owned(),
                requests_per_unit: requests,
                unit: unit.into(),
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(DurationValue { seconds: reset, nanos: 0 }),
            ..DescriptorStatus::default()
        }
    }

    #[test]
    fn limits_are_told_as_envoy_tells_them() {
        for (statuses, expected) in [
            (vec![], None),
            (vec![DescriptorStatus::default()], None),
            (vec![status(10, Unit::Minute, "", 0, 30)], Some(("10, 10;w=60", "0", "30"))),
            (
                vec![status(10, Unit::Minute, "", 7, 30), status(100, Unit::Hour, "per-ip", 3, 3000)],
                Some(("100, 10;w=60, 100;w=3600;name=\"per-ip\"", "3", "3000")),
            ),
            (vec![status(5, Unit::Unknown, "", 1, 2)], Some(("5", "1", "2"))),
        ] {
            let mut headers = HeaderMap::new();
            tell_limits(&statuses, &mut headers);
            let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().expect("ASCII"));
            let told = text(LIMIT)
                .map(|limit| (limit, text(REMAINING).unwrap_or_default(), text(RESET).unwrap_or_default()));
            assert_eq!(told, expected, "{statuses:?}");
        }
    }

    #[test]
    fn the_longest_limit_says_when_to_come_again() {
        let over = [status(1, Unit::Second, "", 0, 0), status(1, Unit::Hour, "", 0, 90)];
        for (statuses, there, expected) in [
            (&over[..], None, Some("90")),
            (&over[..1], None, Some("1")),
            (&[], None, None),
            (&over[..], Some("5"), Some("5")),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(there.map(|there| (RETRY_AFTER, HeaderValue::from_static(there))));
            tell_retry_after(statuses, &mut headers);
            assert_eq!(headers.get(RETRY_AFTER).map(|value| value.to_str().expect("ASCII")), expected);
        }
    }
}
