//! Logs, traces and metrics of a process: where they go, and that nothing is lost at the end.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _};

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::{Registry, TextEncoder};
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, TelemetryConfig};
use crate::error::StartError;

const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The process's telemetry. Flushes what is left when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    traces: Option<SdkTracerProvider>,
}

/// Starts logs on standard error, metrics, and with an OTLP endpoint the export of traces and metrics. Called
/// once per process, within its tokio runtime, before the server is built.
pub fn init(config: &TelemetryConfig) -> Result<Telemetry, StartError> {
    let resource = Resource::builder().with_service_name(config.service_name.clone()).build();
    let endpoint = config.otlp_endpoint.clone().or_else(|| env::var(ENDPOINT_VARIABLE).ok());
    let registry = Registry::new();
    let meters = meters(&registry, endpoint.as_deref(), resource.clone())?;
    let traces = endpoint.map(|endpoint| tracer(&endpoint, resource)).transpose()?;

    global::set_meter_provider(meters.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    let exported = traces.as_ref().map(|traces| {
        // Spans are for whoever collects them, whatever is logged.
        tracing_opentelemetry::layer().with_tracer(traces.tracer("mesh")).with_filter(LevelFilter::INFO)
    });
    tracing_subscriber::registry()
        .with(exported)
        .with(logs(config)?)
        .try_init()
        .map_err(|error| StartError::failed("start logging", error))?;
    Ok(Telemetry { registry, meters, traces })
}

impl Telemetry {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot render the metrics");
            String::new()
        })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let traces = self.traces.as_ref().map_or(Ok(()), SdkTracerProvider::shutdown);
        if let Err(error) = traces.and(self.meters.shutdown()) {
            tracing::warn!(%error, "the last traces or metrics were not exported");
        }
    }
}

/// The current span as a W3C `traceparent`, to be kept with what it causes later; none where nothing exports
/// traces.
pub fn traceparent() -> Option<String> {
    let mut carrier = std::collections::HashMap::new();
    let context: Context = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}

fn meters(
    registry: &Registry,
    endpoint: Option<&str>,
    resource: Resource,
) -> Result<SdkMeterProvider, StartError> {
    let prometheus = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(|error| StartError::failed("set up the metrics page", error))?;
    let mut meters = SdkMeterProvider::builder().with_resource(resource).with_reader(prometheus);
    if let Some(endpoint) = endpoint {
        let otlp = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let otlp = otlp.map_err(endpoint_unusable)?;
        meters = meters.with_periodic_exporter(otlp);
    }
    Ok(meters.build())
}

fn tracer(endpoint: &str, resource: Resource) -> Result<SdkTracerProvider, StartError> {
    let otlp = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let otlp = otlp.map_err(endpoint_unusable)?;
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(otlp).build())
}

/// Says so without the endpoint itself, which can hold a password.
fn endpoint_unusable(error: impl Display) -> StartError {
    StartError::config(format!("telemetry.otlp_endpoint or {ENDPOINT_VARIABLE}: {error}"))
}

fn logs<S>(config: &TelemetryConfig) -> Result<impl Layer<S>, StartError>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let filter = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| config.log_filter.clone());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| StartError::config(format!("log filter {filter:?}: {error}")))?;
    // Standard output belongs to commands' results.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.log_format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    Ok(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn warnings_are_logged_but_of_how_vectors_lie() {
        let filter = EnvFilter::try_new(TelemetryConfig::default().log_filter).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            assert!(enabled!(target: "lake::run", Level::WARN));
            assert!(enabled!(target: "lance_index::vector", Level::WARN));
            assert!(!enabled!(target: "lance_index::vector::kmeans", Level::WARN));
            assert!(enabled!(target: "lance_index::vector::kmeans", Level::ERROR));
        });
    }
}
