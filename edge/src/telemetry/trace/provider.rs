//! Where spans go, and of whom they are told.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::trace::v3::OpenTelemetryConfig;
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::{
    EnvironmentResourceDetectorConfig, StaticConfigResourceDetectorConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::super::otlp::{attribute, resource, scope};
use super::super::{Collector, Figures, Queue};
use crate::bootstrap::{type_name, unpack};
use crate::compile::Shared;
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::stats::Scope;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Where spans go; `None` where nobody is named.
pub(super) fn provider(
    config: &Tracing,
    stats: &Scope,
    shared: &Shared<'_>,
    at: &Path<'_>,
) -> Result<Option<Queue<Span>>, Problem> {
    let at = at.field("provider");
    let Some(provider) = &config.provider else { return Ok(None) };
    let Some(ConfigType::TypedConfig(any)) = &provider.config_type else {
        return Err(at.problem("a tracer needs typed_config with its \"@type\""));
    };
    let at = at.field("typed_config");
    let config: OpenTelemetryConfig = unpack(any, &at)?;
    let context = shared.context(stats);
    let collector = match (&config.grpc_service, &config.http_service) {
        (Some(grpc), None) => Collector::grpc(grpc, EXPORT, &at.field("grpc_service"), &context)?,
        (None, Some(http)) => Collector::http(http, &at.field("http_service"), &context)?,
        (None, None) => return Ok(None),
        _ => {
            return Err(
                at.problem("OpenTelemetry Tracer cannot have both gRPC and HTTP exporters configured")
            );
        }
    };
    let about = attributes(&config, &at)?;
    let figures = shared.stats.scope("tracing.opentelemetry");
    let figures = Figures::new(&figures, "spans_sent", "spans_dropped");
    Ok(Some(shared.exports.queue(collector, move |spans| wrap(about.clone(), spans), figures)))
}

/// Who speaks.
fn attributes(config: &OpenTelemetryConfig, at: &Path<'_>) -> Result<Vec<KeyValue>, Problem> {
    let name = if config.service_name.is_empty() { "unknown_service:omnimesh" } else { &config.service_name };
    let mut all = vec![
        attribute("telemetry.sdk.name", "omnimesh"),
        attribute("telemetry.sdk.language", "rust"),
        attribute("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        attribute("service.name", name),
    ];
    let detected = each(&config.resource_detectors, at, "resource_detectors", detect)?;
    all.extend(
        detected
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| attribute(key, value)),
    );
    Ok(all)
}

fn detect(config: &TypedExtensionConfig, at: &Path<'_>) -> Result<Vec<(String, String)>, Problem> {
    let at = at.field("typed_config");
    let any = config.typed_config.as_ref().ok_or_else(|| at.problem("is required"))?;
    let package = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3";
    match type_name(&any.type_url).strip_prefix(package) {
        Some(".EnvironmentResourceDetectorConfig") => {
            let EnvironmentResourceDetectorConfig {} = unpack(any, &at)?;
            let told = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
            let pairs = told.split(',').filter_map(|pair| pair.split_once('='));
            Ok(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
        }
        Some(".StaticConfigResourceDetectorConfig") => {
            let config: StaticConfigResourceDetectorConfig = unpack(any, &at)?;
            Ok(config.attributes.into_iter().collect())
        }
        _ => Err(at.problem("resources are told by the environment or in the file")),
    }
}

fn wrap(about: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let spans = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource(about)),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}
