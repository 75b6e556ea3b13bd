//! Spans, with the attributes that Envoy gives them.

use std::time::SystemTime;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::super::otlp::{attribute, nanos};
use super::{Attempt, SpanContext, Trace, Tracer};
use crate::call::Call;
use crate::format::protocol;

/// gRPC statuses that say that the server, not the client, is to blame.
const FAILURES: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// The attributes of a span, and whether it tells of an error.
#[derive(Default)]
struct Facts {
    attributes: Vec<KeyValue>,
    error: bool,
}

impl Facts {
    fn tell(&mut self, key: &str, value: impl Into<String>) {
        self.attributes.push(attribute(key, value));
    }

    /// What spans of both ends say of how the call went.
    fn tell_end(&mut self, call: &Call, status: Option<u16>) {
        self.tell("component", "proxy");
        if let Some(cluster) = &call.upstream.cluster {
            self.tell("upstream_cluster", &**cluster);
            self.tell("upstream_cluster.name", &**cluster);
        }
        self.tell("http.status_code", status.unwrap_or(0).to_string());
        self.tell("response_flags", call.flags.to_string());
        self.error |= status.is_none_or(|status| status >= 500);
    }

    fn tell_grpc(&mut self, call: &Call) {
        let Some(status) = call.ended.grpc_status else { return };
        self.tell("grpc.status_code", status.to_string());
        self.tell("grpc.message", call.ended.grpc_message.clone().unwrap_or_default());
        self.error |= FAILURES.contains(&status);
    }

    fn span(
        mut self,
        context: &SpanContext,
        name: String,
        kind: SpanKind,
        tags: impl IntoIterator<Item = KeyValue>,
    ) -> Span {
        if self.error {
            self.tell("error", "true");
        }
        self.attributes.extend(tags);
        Span {
            trace_id: context.trace_id.to_be_bytes().to_vec(),
            span_id: context.span_id.to_be_bytes().to_vec(),
            trace_state: context.state.clone(),
            flags: u32::from(context.sampled) | SpanFlags::ContextHasIsRemoteMask as u32,
            name,
            kind: kind.into(),
            attributes: self.attributes,
            status: self.error.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
            ..Span::default()
        }
    }
}

/// The span of a call as its client sees it.
pub(super) fn of_call(tracer: &Tracer, trace: &Trace, call: &Call, tags: Vec<KeyValue>) -> Span {
    let mut facts = Facts::default();
    let headers = &call.request.headers;
    let header =
        |name| headers.get(name).map(|value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    facts.tell("node_id", tracer.node_id.as_str());
    facts.tell("zone", tracer.zone.as_str());
    if let Some(id) = header("x-request-id") {
        facts.tell("guid:x-request-id", id);
    }
    facts.tell("http.url", url(call, tracer.longest_path));
    facts.tell("http.method", call.request.method.as_str());
    facts.tell("downstream_cluster", header("x-envoy-downstream-service-cluster").unwrap_or("-".into()));
    facts.tell("user_agent", header("user-agent").unwrap_or("-".into()));
    facts.tell("http.protocol", protocol(call.version));
    facts.tell("peer.address", call.connection.remote.ip().to_string());
    if let Some(id) = header("x-client-trace-id") {
        facts.tell("guid:x-client-trace-id", id);
    }
    if call.is_grpc() {
        facts.tell("grpc.path", call.request.path.as_str());
        facts.tell("grpc.authority", call.request.host());
        facts.tell("grpc.content_type", header("content-type").unwrap_or_default());
        if let Some(timeout) = header("grpc-timeout") {
            facts.tell("grpc.timeout", timeout);
        }
    }
    facts.tell("request_size", call.ended.bytes_received.to_string());
    facts.tell("response_size", call.ended.bytes_sent.to_string());
    facts.tell_end(call, call.ended.status.map(|status| status.as_u16()));
    facts.tell_grpc(call);
    let span = facts.span(&trace.context, trace.operation.clone(), SpanKind::Server, tags);
    let began = call.start_time;
    let remote = if trace.parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    Span {
        parent_span_id: trace.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: span.flags | remote,
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(began + call.ended.duration),
        ..span
    }
}

/// The span of an attempt; the last one's end is the call's.
pub(super) fn of_attempt(
    attempt: &Attempt,
    last: bool,
    trace: &Trace,
    call: &Call,
    tags: &[KeyValue],
) -> Span {
    let answered = last && call.upstream.service_time.is_some();
    let own = call.ended.status.filter(|_| answered).map(|status| status.as_u16());
    let (host, status) =
        if last { (call.upstream.host.as_ref(), own) } else { (attempt.host.as_ref(), attempt.status) };
    let mut facts = Facts::default();
    facts.tell("http.protocol", protocol(call.version));
    if let Some(host) = host {
        facts.tell("upstream_address", &**host);
        facts.tell("peer.address", &**host);
    }
    facts.tell_end(call, status);
    if answered {
        facts.tell_grpc(call);
    }
    let cluster = call.upstream.cluster.as_deref().unwrap_or_default();
    let name = format!("router {cluster} egress");
    let ended = attempt.ended.unwrap_or_else(SystemTime::now);
    Span {
        parent_span_id: trace.context.span_id.to_be_bytes().to_vec(),
        start_time_unix_nano: nanos(attempt.began),
        end_time_unix_nano: nanos(ended),
        ..facts.span(&attempt.context, name, SpanKind::Client, tags.iter().cloned())
    }
}

/// What the client asked for, as it asked.
fn url(call: &Call, longest: usize) -> String {
    let headers = &call.request.headers;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").unwrap_or(call.request.scheme.as_str());
    let path = text("x-envoy-original-path").unwrap_or(call.request.path.as_str());
    let path = &path[..path.floor_char_boundary(longest)];
    format!("{scheme}://{}{path}", call.request.host())
}
