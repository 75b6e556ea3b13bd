//! What collectors learn of calls: spans and log records, over gRPC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use edge::gateway::Running;
use http::Request;
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Response, Status};

use crate::harness::{PATIENCE, http1, serve};

const CONFIG: &str = r#"
node: { id: edge-1, cluster: shop, locality: { zone: here } }
static_resources:
  listeners:
  - name: web
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          access_log:
          - name: records
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig
              log_name: calls
              grpc_service: { envoy_grpc: { cluster_name: collector } }
              body: { string_value: "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%" }
              resource_attributes: { values: [ { key: service.name, value: { string_value: edge } } ] }
              attributes:
                values:
                - { key: protocol, value: { string_value: "%PROTOCOL%" } }
                - { key: missing, value: { string_value: "%REQ(X-NONE)%" } }
          tracing:
            spawn_upstream_span: true
            custom_tags:
            - { tag: literal, literal: { value: always } }
            - { tag: header, request_header: { name: x-tag, default_value: none } }
            - { tag: left-out, request_header: { name: x-none } }
            provider:
              name: otel
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                grpc_service: { envoy_grpc: { cluster_name: collector }, timeout: 5s }
                service_name: edge
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { path: /ok }
                direct_response: { status: 200, body: { inline_string: ok } }
                decorator: { operation: answer }
              - match: { prefix: /dead }
                route: { cluster: dead, retry_policy: { retry_on: connect-failure, num_retries: 1 } }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: dead
    load_assignment:
      cluster_name: dead
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } } ] } ]
  - name: collector
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: collector
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: {PORT} } } } } ] } ]
"#;

/// Passes on what it is sent.
struct Collector {
    traces: UnboundedSender<ExportTraceServiceRequest>,
    logs: UnboundedSender<ExportLogsServiceRequest>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.send(request.into_inner()).expect("the test listens");
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.send(request.into_inner()).expect("the test listens");
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

struct Gateway {
    running: Running,
    traces: UnboundedReceiver<ExportTraceServiceRequest>,
    logs: UnboundedReceiver<ExportLogsServiceRequest>,
}

impl Gateway {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (traces, heard_traces) = unbounded_channel();
        let (logs, heard_logs) = unbounded_channel();
        let service = || Collector { traces: traces.clone(), logs: logs.clone() };
        let server = Server::builder()
            .add_service(TraceServiceServer::new(service()))
            .add_service(LogsServiceServer::new(service()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let running = serve(&CONFIG.replace("{PORT}", &port.to_string()));
        Self { running, traces: heard_traces, logs: heard_logs }
    }

    fn address(&self) -> SocketAddr {
        self.running.listeners()[0].1
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> crate::harness::Reply {
        let mut request = Request::builder().uri(path).header("host", "edge.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        http1(self.address(), request.body(Full::new(Bytes::new())).expect("a request")).await
    }

    /// As many spans as that, by name.
    async fn spans(&mut self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let request = timeout(PATIENCE, self.traces.recv()).await.expect("in time").expect("spans");
            for resource in request.resource_spans {
                let about = resource.resource.expect("a resource").attributes;
                let told = attributes(&about);
                assert_eq!(told["service.name"], "edge");
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

fn attributes(all: &[KeyValue]) -> BTreeMap<&str, &str> {
    all.iter().map(|pair| (pair.key.as_str(), string(pair.value.as_ref()))).collect()
}

fn string(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("no string: {other:?}"),
    }
}

#[tokio::test]
async fn a_span_tells_of_a_call_and_goes_on_with_its_clients_trace() {
    let mut gateway = Gateway::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", parent), ("tracestate", "a=b"), ("x-tag", "mine")];
    let reply = gateway.get("/ok?a=b", &headers).await;
    assert_eq!(reply.header("x-envoy-decorator-operation"), "answer");
    let spans = gateway.spans(1).await;
    let span = &spans[0];
    assert_eq!(span.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("answer", 2, 0x301));
    assert_eq!(span.trace_state, "a=b");
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let told = attributes(&span.attributes);
    for (key, value) in [
        ("http.method", "GET"),
        ("http.url", "http://edge.test/ok?a=b"),
        ("http.status_code", "200"),
        ("http.protocol", "HTTP/1.1"),
        ("response_flags", "-"),
        ("response_size", "2"),
        ("component", "proxy"),
        ("node_id", "edge-1"),
        ("zone", "here"),
        ("literal", "always"),
        ("header", "mine"),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    assert!(told.contains_key("guid:x-request-id") && !told.contains_key("left-out"));
    assert_eq!(span.status, None);
}

#[tokio::test]
async fn each_attempt_has_a_span_and_errors_are_marked() {
    let mut gateway = Gateway::start().await;
    gateway.get("/dead", &[]).await;
    let spans = gateway.spans(3).await;
    let call = spans.iter().find(|span| span.name == "ingress").expect("the call's span");
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "router dead egress").collect();
    assert_eq!(attempts.len(), 2);
    for span in attempts {
        assert_eq!((span.kind, &span.parent_span_id), (3, &call.span_id));
        let told = attributes(&span.attributes);
        assert_eq!((told["http.status_code"], told["error"]), ("0", "true"));
        assert_eq!((told["upstream_cluster"], told["upstream_address"]), ("dead", "127.0.0.1:1"));
    }
    let told = attributes(&call.attributes);
    assert_eq!((told["http.status_code"], told["response_flags"]), ("503", "URX,UF"));
    assert_eq!(call.status.as_ref().map(|status| status.code), Some(2));
}

#[tokio::test]
async fn what_waits_is_sent_when_the_gateway_ends() {
    let mut gateway = Gateway::start().await;
    gateway.get("/ok", &[]).await;
    gateway.get("/ok", &[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]).await;
    gateway.running.shutdown(Duration::from_secs(10)).await;
    let request = timeout(PATIENCE, gateway.logs.recv()).await.expect("in time").expect("records");
    let resource = &request.resource_logs[0];
    let told = attributes(&resource.resource.as_ref().expect("a resource").attributes);
    assert_eq!((told["log_name"], told["node_name"], told["service.name"]), ("calls", "edge-1", "edge"));
    let records = &resource.scope_logs[0].log_records;
    assert_eq!(records.len(), 2);
    assert_eq!(string(records[0].body.as_ref()), "GET /ok 200");
    let told = attributes(&records[0].attributes);
    assert_eq!((told["protocol"], told["missing"]), ("HTTP/1.1", "-"));
    // What is not sampled has a place in its trace all the same, but no span.
    assert_eq!((records[1].trace_id.len(), records[1].span_id.len()), (16, 8));
    let request = timeout(PATIENCE, gateway.traces.recv()).await.expect("in time").expect("spans");
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 1);
}
