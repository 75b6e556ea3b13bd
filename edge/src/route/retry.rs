//! When a request is tried again.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RetryPolicy;
use envoy_types::pb::envoy::config::route::v3::retry_policy::ResetHeaderFormat;
use http::HeaderName;

use super::duration;
use crate::call::Call;
use crate::downstream::normalize::speaks_of_envoy;
use crate::head::header_name;
use crate::matcher::{HeaderMatcher, each};
use crate::problem::{Path, Problem};

/// The conditions of a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryOn(u32);

impl RetryOn {
    pub(crate) const SERVER_ERROR: Self = Self(1);
    pub(crate) const GATEWAY_ERROR: Self = Self(1 << 1);
    pub(crate) const CONNECT_FAILURE: Self = Self(1 << 2);
    pub(crate) const RETRIABLE_4XX: Self = Self(1 << 3);
    pub(crate) const REFUSED_STREAM: Self = Self(1 << 4);
    pub(crate) const STATUS_CODES: Self = Self(1 << 5);
    pub(crate) const HEADERS: Self = Self(1 << 6);
    pub(crate) const RESET: Self = Self(1 << 7);
    pub(crate) const RESET_BEFORE_REQUEST: Self = Self(1 << 8);
    pub(crate) const RATE_LIMITED: Self = Self(1 << 9);
    pub(crate) const CANCELLED: Self = Self(1 << 10);
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(1 << 11);
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(1 << 12);
    pub(crate) const UNAVAILABLE: Self = Self(1 << 13);
    pub(crate) const INTERNAL: Self = Self(1 << 14);

    const NAMES: [(&'static str, Self); 15] = [
        ("5xx", Self::SERVER_ERROR),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("refused-stream", Self::REFUSED_STREAM),
        ("retriable-status-codes", Self::STATUS_CODES),
        ("retriable-headers", Self::HEADERS),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("envoy-ratelimited", Self::RATE_LIMITED),
        ("cancelled", Self::CANCELLED),
        ("deadline-exceeded", Self::DEADLINE_EXCEEDED),
        ("resource-exhausted", Self::RESOURCE_EXHAUSTED),
        ("unavailable", Self::UNAVAILABLE),
        ("internal", Self::INTERNAL),
    ];

    /// The conditions in a list with commas, and the first name that is none.
    pub(crate) fn parse(names: &str) -> (Self, Option<&str>) {
        let (mut conditions, mut unknown) = (Self::default(), None);
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Self::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, condition)) => conditions = conditions.with(*condition),
                None => unknown = unknown.or(Some(name)),
            }
        }
        (conditions, unknown)
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of the other conditions is among these.
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A route's retry policy.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) on: RetryOn,
    pub(crate) num_retries: u32,
    pub(crate) per_try_timeout: Option<Duration>,
    /// The first back-off, and the longest.
    pub(crate) base_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) rate_limited: Option<RateLimitedBackOff>,
    pub(crate) status_codes: Vec<u16>,
    /// Headers of responses that are tried again, of requests that may be.
    pub(crate) response_headers: Vec<HeaderMatcher>,
    pub(crate) request_headers: Vec<HeaderMatcher>,
    /// Whether hosts that were tried are passed over, and how often another one is drawn.
    pub(crate) avoid_previous_hosts: bool,
    pub(crate) host_selection_attempts: u32,
}

/// How long a response asks to wait.
#[derive(Clone, Debug)]
pub(crate) struct RateLimitedBackOff {
    /// In the order in which they are looked for.
    pub(crate) headers: Vec<ResetHeader>,
    pub(crate) max_interval: Duration,
}

/// A header that tells when to come again.
#[derive(Clone, Debug)]
pub(crate) struct ResetHeader {
    pub(crate) name: HeaderName,
    /// A point in time rather than seconds from now.
    pub(crate) unix_timestamp: bool,
}

const BASE_INTERVAL: Duration = Duration::from_millis(25);
const MAX_RATE_LIMITED_INTERVAL: Duration = Duration::from_secs(300);

impl Retry {
    pub(super) fn compile(config: &RetryPolicy, at: &Path<'_>) -> Result<Self, Problem> {
        let (on, unknown) = RetryOn::parse(&config.retry_on);
        if let Some(unknown) = unknown {
            return Err(at.field("retry_on").problem(format!("'{unknown}' is no condition of a retry")));
        }
        let (base_interval, max_interval) = back_off(config, at)?;
        let predicates =
            each(&config.retry_host_predicate, at, "retry_host_predicate", |predicate, at| match predicate
                .name
                .as_str()
            {
                "envoy.retry_host_predicates.previous_hosts" => Ok(()),
                other => Err(at.problem(format!(
                    "'{other}' is not supported: use envoy.retry_host_predicates.previous_hosts"
                ))),
            })?;
        let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
        Ok(Self {
            on,
            num_retries: config.num_retries.as_ref().map_or(1, |retries| retries.value),
            per_try_timeout: some(duration(&config.per_try_timeout, &at.field("per_try_timeout"))?),
            base_interval,
            max_interval,
            rate_limited: rate_limited(config, at)?,
            status_codes: each(&config.retriable_status_codes, at, "retriable_status_codes", |code, at| {
                u16::try_from(*code).map_err(|_| at.problem("is no HTTP status"))
            })?,
            response_headers: each(
                &config.retriable_headers,
                at,
                "retriable_headers",
                HeaderMatcher::compile,
            )?,
            request_headers: each(
                &config.retriable_request_headers,
                at,
                "retriable_request_headers",
                HeaderMatcher::compile,
            )?,
            avoid_previous_hosts: !predicates.is_empty(),
            host_selection_attempts: u32::try_from(config.host_selection_retry_max_attempts)
                .unwrap_or(1)
                .max(1),
        })
    }
}

const X_ENVOY_RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const X_ENVOY_RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const X_ENVOY_MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const X_ENVOY_RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

impl Retry {
    /// The policy of one call: what its own headers ask for comes on top, and is not passed on.
    pub(super) fn of(policy: Option<&Arc<Self>>, call: &mut Call) -> Option<Arc<Self>> {
        let headers = &mut call.request.headers;
        let says = speaks_of_envoy(headers);
        let mut take = |name: HeaderName| {
            let value = headers.remove(says.then_some(name)?)?;
            value.to_str().ok().map(str::to_owned)
        };
        let per_try_timeout = take(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
        let per_try_timeout =
            per_try_timeout.and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        let on = [take(X_ENVOY_RETRY_ON), take(X_ENVOY_RETRY_GRPC_ON)];
        let codes = take(X_ENVOY_RETRIABLE_STATUS_CODES);
        let num_retries = take(X_ENVOY_MAX_RETRIES).and_then(|value| value.parse().ok());
        let wanted =
            on.iter().flatten().fold(RetryOn::default(), |all, names| all.with(RetryOn::parse(names).0));
        let mut policy = match policy {
            Some(policy) => Arc::clone(policy),
            None if wanted.is_empty() => return None,
            None => Arc::new(Self::compile(&RetryPolicy::default(), &Path::root()).ok()?),
        };
        let refused = !policy.request_headers.is_empty()
            && !policy.request_headers.iter().any(|header| header.matches(&call.request));
        let asks = num_retries.is_some() || per_try_timeout.is_some() || codes.is_some();
        if asks || refused || !wanted.is_empty() {
            let own = Arc::make_mut(&mut policy);
            own.on = if refused { RetryOn::default() } else { own.on.with(wanted) };
            own.num_retries = num_retries.unwrap_or(own.num_retries);
            own.per_try_timeout = per_try_timeout.or(own.per_try_timeout);
            let codes = codes.iter().flat_map(|codes| codes.split(','));
            own.status_codes.extend(codes.filter_map(|code| code.trim().parse::<u16>().ok()));
        }
        Some(policy)
    }
}

fn back_off(config: &RetryPolicy, at: &Path<'_>) -> Result<(Duration, Duration), Problem> {
    let Some(config) = &config.retry_back_off else { return Ok((BASE_INTERVAL, 10 * BASE_INTERVAL)) };
    let at = at.field("retry_back_off");
    let base = positive(duration(&config.base_interval, &at.field("base_interval"))?)
        .ok_or_else(|| at.field("base_interval").problem("is required and must be above 0s"))?;
    let at_max = at.field("max_interval");
    let Some(max) = duration(&config.max_interval, &at_max)? else { return Ok((base, 10 * base)) };
    match positive(Some(max)) {
        Some(max) if max >= base => Ok((base, max)),
        _ => Err(at_max.problem("must be greater than or equal to the base_interval")),
    }
}

/// Nothing below a millisecond.
fn positive(interval: Option<Duration>) -> Option<Duration> {
    let interval = interval.filter(|interval| !interval.is_zero())?;
    Some(interval.max(Duration::from_millis(1)))
}

fn rate_limited(config: &RetryPolicy, at: &Path<'_>) -> Result<Option<RateLimitedBackOff>, Problem> {
    let Some(config) = &config.rate_limited_retry_back_off else { return Ok(None) };
    let at = at.field("rate_limited_retry_back_off");
    if config.reset_headers.is_empty() {
        return Err(at.field("reset_headers").problem("needs one header or more"));
    }
    Ok(Some(RateLimitedBackOff {
        headers: each(&config.reset_headers, &at, "reset_headers", |header, at| {
            Ok(ResetHeader {
                name: header_name(&header.name, &at.field("name"))?,
                unix_timestamp: header.format() == ResetHeaderFormat::UnixTimestamp,
            })
        })?,
        max_interval: positive(duration(&config.max_interval, &at.field("max_interval"))?)
            .unwrap_or(MAX_RATE_LIMITED_INTERVAL),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_from_a_list() {
        let listed = "connect-failure,refused-stream, unavailable,,";
        let expected = RetryOn::CONNECT_FAILURE.with(RetryOn::REFUSED_STREAM).with(RetryOn::UNAVAILABLE);
        assert_eq!(RetryOn::parse(listed), (expected, None));
        assert_eq!(RetryOn::parse("5xx,6xx,7xx"), (RetryOn::SERVER_ERROR, Some("6xx")));
        assert!(RetryOn::parse("").0.is_empty());
        for (name, condition) in RetryOn::NAMES {
            assert!(RetryOn::parse(name).0.intersects(condition), "{name}");
        }
    }
}
