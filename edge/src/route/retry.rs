//! When a request is tried again.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::retry_policy::ResetHeaderFormat;
use envoy_types::pb::envoy::config::route::v3::{HedgePolicy, RetryPolicy};
use http::HeaderName;

use super::duration;
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

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of the other conditions is among these.
    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A route's retry policy.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) on: RetryOn,
    pub(crate) num_retries: u32,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) per_try_idle_timeout: Option<Duration>,
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
        super::unsupported(
            at,
            &[
                ("retry_priority", config.retry_priority.is_some()),
                ("retry_options_predicates", !config.retry_options_predicates.is_empty()),
                ("refresh_cluster_on_retry", config.refresh_cluster_on_retry),
            ],
        )?;
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
            per_try_idle_timeout: some(duration(
                &config.per_try_idle_timeout,
                &at.field("per_try_idle_timeout"),
            )?),
            base_interval,
            max_interval,
            rate_limited: rate_limited(config, at)?,
            status_codes: each(&config.retriable_status_codes, at, "retriable_status_codes", |code, at| {
                u16::try_from(*code).map_err(|_| at.problem("is no HTTP status"))
            })?,
            response_headers: each(&config.retriable_headers, at, "retriable_headers", HeaderMatcher::compile)?,
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

/// Whether a try that takes too long is joined by another one rather than given up.
pub(super) fn hedge(config: &HedgePolicy, at: &Path<'_>) -> Result<bool, Problem> {
    super::unsupported(
        at,
        &[
            ("initial_requests", config.initial_requests.as_ref().is_some_and(|count| count.value > 1)),
            ("additional_request_chance", config.additional_request_chance.is_some()),
        ],
    )?;
    Ok(config.hedge_on_per_try_timeout)
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
