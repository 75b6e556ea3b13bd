//! Reads what a cluster's configuration says of its health checks.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::health_check::payload::Payload as PayloadKind;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, HealthCheck, RequestMethod};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Check, CheckStats, HttpCheck, Kind, Pace};
use crate::problem::{Path, Problem};
use crate::stats::Scope;
use crate::upstream::read::{positive, refuse};
use crate::value;

impl Check {
    pub(in crate::upstream) fn compile(
        config: &HealthCheck,
        at: &Path<'_>,
        stats: &Scope,
    ) -> Result<Self, Problem> {
        refuse!(
            config,
            at,
            event_log_path,
            event_logger,
            event_service,
            transport_socket_match_criteria,
            tls_options
        );
        let required = |threshold: Option<u32>, name| {
            threshold
                .filter(|threshold| *threshold > 0)
                .ok_or_else(|| at.field(name).problem("must be at least 1"))
        };
        let timeout = config.timeout.as_ref().ok_or_else(|| at.field("timeout").problem("is missing"))?;
        let scope = stats.scope("health_check");
        Ok(Self {
            kind: kind(config, at)?,
            timeout: positive(Some(timeout), &at.field("timeout"), Duration::ZERO)?,
            pace: pace(config, at)?,
            unhealthy_threshold: required(
                config.unhealthy_threshold.map(|t| t.value),
                "unhealthy_threshold",
            )?,
            healthy_threshold: required(config.healthy_threshold.map(|t| t.value), "healthy_threshold")?,
            reuse_connection: value::flag(config.reuse_connection.as_ref(), true),
            alt_port: config.alt_port.and_then(|port| u16::try_from(port.value).ok()),
            stats: CheckStats {
                attempt: scope.counter("attempt"),
                success: scope.counter("success"),
                failure: scope.counter("failure"),
                network_failure: scope.counter("network_failure"),
                healthy: scope.gauge("healthy"),
            },
        })
    }
}

fn pace(config: &HealthCheck, at: &Path<'_>) -> Result<Pace, Problem> {
    let interval = config.interval.as_ref().ok_or_else(|| at.field("interval").problem("is missing"))?;
    let healthy = positive(Some(interval), &at.field("interval"), Duration::ZERO)?;
    let or = |name, value: Option<_>, default| positive(value, &at.field(name), default);
    let unhealthy = or("unhealthy_interval", config.unhealthy_interval.as_ref(), healthy)?;
    let idle_unhealthy =
        or("no_traffic_interval", config.no_traffic_interval.as_ref(), Duration::from_secs(60))?;
    let short = |value: Option<&_>| value.map_or(Duration::ZERO, value::duration);
    Ok(Pace {
        initial_jitter: short(config.initial_jitter.as_ref()),
        jitter: short(config.interval_jitter.as_ref()),
        jitter_percent: config.interval_jitter_percent,
        healthy,
        healthy_edge: or("healthy_edge_interval", config.healthy_edge_interval.as_ref(), healthy)?,
        unhealthy,
        unhealthy_edge: or("unhealthy_edge_interval", config.unhealthy_edge_interval.as_ref(), unhealthy)?,
        idle_healthy: or(
            "no_traffic_healthy_interval",
            config.no_traffic_healthy_interval.as_ref(),
            idle_unhealthy,
        )?,
        idle_unhealthy,
    })
}

fn kind(config: &HealthCheck, at: &Path<'_>) -> Result<Kind, Problem> {
    match &config.health_checker {
        Some(HealthChecker::HttpHealthCheck(config)) => http(config, &at.field("http_health_check")),
        Some(HealthChecker::TcpHealthCheck(config)) => tcp(config, &at.field("tcp_health_check")),
        Some(HealthChecker::GrpcHealthCheck(config)) => grpc(config, &at.field("grpc_health_check")),
        _ => Err(at.problem("needs one of http_health_check, tcp_health_check, grpc_health_check")),
    }
}

fn http(config: &HttpHealthCheck, at: &Path<'_>) -> Result<Kind, Problem> {
    refuse!(config, at, send, receive, response_buffer_size, service_name_matcher);
    let path = PathAndQuery::try_from(config.path.as_str());
    let http2 = match config.codec_client_type() {
        CodecClientType::Http1 => false,
        CodecClientType::Http2 => true,
        CodecClientType::Http3 => {
            return Err(at.field("codec_client_type").problem("HTTP/3 is not supported"));
        }
    };
    let method = match config.method() {
        RequestMethod::MethodUnspecified => Method::GET,
        other => Method::from_bytes(other.as_str_name().as_bytes())
            .map_err(|_| at.field("method").problem("is not a method"))?,
    };
    let mut expected = ranges(&config.expected_statuses, &at.field("expected_statuses"))?;
    if expected.is_empty() {
        expected.push(200..201);
    }
    Ok(Kind::Http(HttpCheck {
        host: config.host.clone(),
        path: path.map_err(|_| at.field("path").problem("is not a path"))?,
        method,
        headers: headers(&config.request_headers_to_add, &at.field("request_headers_to_add"))?,
        removed: config.request_headers_to_remove.clone(),
        http2,
        expected,
        retriable: ranges(&config.retriable_statuses, &at.field("retriable_statuses"))?,
    }))
}

fn tcp(config: &TcpHealthCheck, at: &Path<'_>) -> Result<Kind, Problem> {
    refuse!(config, at, proxy_protocol_config);
    let send = match &config.send {
        Some(send) => payload(send, &at.field("send"))?,
        None => Bytes::new(),
    };
    let at = at.field("receive");
    let receive =
        config.receive.iter().enumerate().map(|(index, expected)| payload(expected, &at.index(index)));
    Ok(Kind::Tcp { send, receive: receive.collect::<Result<_, _>>()? })
}

fn grpc(config: &GrpcHealthCheck, at: &Path<'_>) -> Result<Kind, Problem> {
    Ok(Kind::Grpc {
        service: config.service_name.clone(),
        authority: config.authority.clone(),
        headers: headers(&config.initial_metadata, &at.field("initial_metadata"))?,
    })
}

fn payload(payload: &Payload, at: &Path<'_>) -> Result<Bytes, Problem> {
    match &payload.payload {
        Some(PayloadKind::Binary(bytes)) => Ok(bytes.clone().into()),
        Some(PayloadKind::Text(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .map(Bytes::from)
            .ok_or_else(|| at.field("text").problem("must be bytes in hexadecimal digits")),
        None => Err(at.problem("needs text or binary")),
    }
}

fn ranges(config: &[Int64Range], at: &Path<'_>) -> Result<Vec<Range<u16>>, Problem> {
    let range =
        |(index, range): (usize, &Int64Range)| match (u16::try_from(range.start), u16::try_from(range.end)) {
            (Ok(start), Ok(end)) if start >= 100 && start < end && end <= 600 => Ok(start..end),
            _ => Err(at.index(index).problem("must be a range of statuses between 100 and 600")),
        };
    config.iter().enumerate().map(range).collect()
}

fn headers(config: &[HeaderValueOption], at: &Path<'_>) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::with_capacity(config.len());
    for (index, option) in config.iter().enumerate() {
        let at = at.index(index);
        let header = option.header.as_ref().ok_or_else(|| at.problem("needs a header"))?;
        let name = HeaderName::try_from(header.key.as_str());
        let value = HeaderValue::try_from(header.value.as_str());
        let (Ok(name), Ok(value)) = (name, value) else { return Err(at.problem("is not a header")) };
        headers.append(name, value);
    }
    Ok(headers)
}
