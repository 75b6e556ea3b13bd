//! Envoy's rate limit and authorization services: their messages, read and written for cases.

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{DescriptorStatus, RateLimit};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::Duration;
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;

use super::plan::fields;
use crate::observation::Observation;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Service {
    RateLimit {
        code: i32,
        #[serde(default)]
        statuses: Vec<Limit>,
        #[serde(default)]
        response_headers: Fields,
        #[serde(default)]
        request_headers: Fields,
    },
    Authorize {
        #[serde(default)]
        headers: Fields,
        #[serde(default)]
        remove: Vec<String>,
        #[serde(default)]
        response_headers: Fields,
    },
    Deny {
        #[serde(default)]
        status: i32,
        #[serde(default)]
        headers: Fields,
        #[serde(default)]
        body: String,
    },
}

type Fields = serde_json::Map<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    code: i32,
    requests: u32,
    /// Of the service's enumeration: 1 second, 2 minute, 3 hour.
    unit: i32,
    remaining: u32,
    reset_seconds: i64,
}

/// The response that a case describes, encoded.
pub(super) fn response(service: &Value) -> Vec<u8> {
    match serde_json::from_value(service.clone()).expect("a service's response") {
        Service::RateLimit { code, statuses, response_headers, request_headers } => RateLimitResponse {
            overall_code: code,
            statuses: statuses.into_iter().map(status).collect(),
            response_headers_to_add: values(&response_headers),
            request_headers_to_add: values(&request_headers),
            ..Default::default()
        }
        .encode_to_vec(),
        Service::Authorize { headers, remove, response_headers } => {
            let ok = OkHttpResponse {
                headers: options(&headers),
                headers_to_remove: remove,
                response_headers_to_add: options(&response_headers),
                ..Default::default()
            };
            check(0, HttpResponse::OkResponse(ok))
        }
        Service::Deny { status, headers, body } => {
            let status = (status != 0).then_some(HttpStatus { code: status });
            check(
                7,
                HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers: options(&headers), body }),
            )
        }
    }
}

fn check(code: i32, response: HttpResponse) -> Vec<u8> {
    let status = Some(Status { code, ..Default::default() });
    CheckResponse { status, http_response: Some(response), ..Default::default() }.encode_to_vec()
}

fn status(limit: Limit) -> DescriptorStatus {
    DescriptorStatus {
        code: limit.code,
        current_limit: Some(RateLimit {
            requests_per_unit: limit.requests,
            unit: limit.unit,
            ..Default::default()
        }),
        limit_remaining: limit.remaining,
        duration_until_reset: Some(Duration { seconds: limit.reset_seconds, nanos: 0 }),
        ..Default::default()
    }
}

fn values(headers: &Fields) -> Vec<HeaderValue> {
    fields(headers).map(|(key, value)| HeaderValue { key, value, ..Default::default() }).collect()
}

fn options(headers: &Fields) -> Vec<HeaderValueOption> {
    let option = |header| HeaderValueOption { header: Some(header), ..Default::default() };
    values(headers).into_iter().map(option).collect()
}

/// What a request to such a service asks; None for other requests.
pub(super) fn request(path: &str, body: &[u8]) -> Option<Observation> {
    let message = body.get(5..)?;
    match path {
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" => {
            RateLimitRequest::decode(message).ok().map(limits)
        }
        "/envoy.service.auth.v3.Authorization/Check" => CheckRequest::decode(message).ok().map(attributes),
        _ => None,
    }
}

fn limits(request: RateLimitRequest) -> Observation {
    let mut observed = Observation::default();
    observed.put("domain", request.domain);
    observed.put("hits", request.hits_addend.to_string());
    for (number, descriptor) in request.descriptors.iter().enumerate() {
        let entries = descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value));
        observed.put(format!("descriptor.{number}"), entries.collect::<Vec<_>>().join(", "));
    }
    observed
}

fn attributes(request: CheckRequest) -> Observation {
    let mut observed = Observation::default();
    let attributes = request.attributes.unwrap_or_default();
    for (side, peer) in [("source", attributes.source), ("destination", attributes.destination)] {
        let peer = peer.unwrap_or_default();
        observed.put(format!("{side}.principal"), peer.principal);
        observed.put(format!("{side}.has_address"), peer.address.is_some().to_string());
        observed.put(format!("{side}.has_certificate"), (!peer.certificate.is_empty()).to_string());
    }
    for (key, value) in attributes.context_extensions {
        observed.put(format!("context.{key}"), value);
    }
    if let Some(session) = attributes.tls_session {
        observed.put("sni", session.sni);
    }
    let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
    for (key, value) in http.headers {
        observed.put(format!("http.headers.{key}"), value);
    }
    let texts = [
        ("method", http.method),
        ("path", http.path),
        ("host", http.host),
        ("scheme", http.scheme),
        ("query", http.query),
        ("protocol", http.protocol),
        ("size", http.size.to_string()),
        ("body", http.body),
    ];
    for (name, value) in texts {
        observed.put(format!("http.{name}"), value);
    }
    observed
}
