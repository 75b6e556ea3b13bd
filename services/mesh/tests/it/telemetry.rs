//! Traces and metrics reach a collector, and a call belongs to its caller's trace.

use std::net::SocketAddr;

use mesh::Config;
use mesh::config::TelemetryConfig;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::harness::{READ, Running, SERVICE, probe, said, unary};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Clone)]
struct Collector {
    spans: mpsc::UnboundedSender<Span>,
    metrics: mpsc::UnboundedSender<String>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        for span in resources.flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
            self.spans.send(span).unwrap();
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        for metric in resources.flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics) {
            self.metrics.send(metric.name).unwrap();
        }
        Ok(Response::new(Default::default()))
    }
}

async fn start_collector(collector: Collector) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_metrics_reach_a_collector_and_the_metrics_page() {
    let (spans, mut received_spans) = mpsc::unbounded_channel();
    let (metrics, mut received_metrics) = mpsc::unbounded_channel();
    let address = start_collector(Collector { spans, metrics }).await;
    let config =
        TelemetryConfig { otlp_endpoint: Some(format!("http://{address}")), ..TelemetryConfig::default() };
    let telemetry = mesh::telemetry::init(&config).unwrap();
    let server = Running::start(Config::default(), None).await;

    let mut request = probe("relay");
    let parent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let answer = unary(server.channel("reader"), READ, request).await.unwrap();
    let handed_on = said(&answer, "x-traceparent").expect("the peer is in the trace");
    assert!(handed_on.contains(TRACE_ID) && !handed_on.contains("b7ad6b7169203331"), "{handed_on}");
    server.stop().await;

    let page = telemetry.render();
    assert!(page.contains("rpc_server_call_duration_seconds_bucket"), "{page}");
    assert!(page.contains(&format!("rpc_method=\"{SERVICE}/{READ}\"")), "{page}");
    // Flushes, and blocks while it does.
    tokio::task::spawn_blocking(move || drop(telemetry)).await.unwrap();

    let trace_id: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&TRACE_ID[2 * at..2 * at + 2], 16).unwrap()).collect();
    let mut of_the_trace = 0;
    while of_the_trace < 2 {
        let span = received_spans.recv().await.unwrap();
        if span.name == format!("{SERVICE}/{READ}") && span.trace_id == trace_id {
            of_the_trace += 1;
        }
    }
    while received_metrics.recv().await.unwrap() != "rpc.server.call.duration" {}
}
