//! Access logs that are sent to an OpenTelemetry collector: a log record for every call.

use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::opentelemetry::proto::common::v1 as pb;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};

use crate::bootstrap::unpack;
use crate::compile::Shared;
use crate::format::{Facts, Format};
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::telemetry::otlp::{attribute, nanos, resource, text};
use crate::telemetry::{Collector, Figures, Queue};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A log whose lines are records.
#[derive(Debug)]
pub(super) struct Records {
    body: Option<Template>,
    attributes: Vec<(String, Template)>,
    queue: Queue<LogRecord>,
}

/// A value whose texts are formats.
#[derive(Clone, Debug)]
enum Template {
    Text(Format),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

impl Records {
    pub(super) fn compile(any: &Any, at: &Path<'_>, shared: &Shared<'_>) -> Result<Self, Problem> {
        let config: OpenTelemetryAccessLogConfig = unpack(any, at)?;
        let stats = shared.stats.scope("access_logs.open_telemetry_access_log");
        let context = shared.context(&stats);
        #[expect(deprecated, reason = "Envoy still reads common_config")]
        let common = config.common_config.clone().unwrap_or_default();
        let log_name = if config.log_name.is_empty() { &common.log_name } else { &config.log_name };
        let grpc = config.grpc_service.as_ref().or(common.grpc_service.as_ref());
        let at_grpc = at.field("grpc_service");
        let grpc = grpc.ok_or_else(|| at_grpc.problem("is required"))?;
        let collector = Collector::grpc(grpc, EXPORT, &at_grpc, &context)?;
        let mut about = Vec::new();
        if !config.disable_builtin_labels {
            let zone = shared.node.locality.as_ref().map_or("", |locality| &locality.zone);
            about.extend([
                attribute("log_name", log_name.as_str()),
                attribute("zone_name", zone),
                attribute("cluster_name", shared.node.cluster.as_str()),
                attribute("node_name", shared.node.id.as_str()),
            ]);
        }
        about.extend(constants(config.resource_attributes.as_ref(), &at.field("resource_attributes"))?);
        let body = config.body.as_ref().map(|body| Template::compile(body, &at.field("body"))).transpose()?;
        let attributes = pairs(config.attributes.as_ref(), &at.field("attributes"))?;
        let figures = Figures::new(&stats, "logs_written", "logs_dropped");
        let queue = shared.exports.queue(collector, move |records| wrap(about.clone(), records), figures);
        Ok(Self { body, attributes, queue })
    }

    pub(super) fn write(&self, facts: Facts<'_>) {
        let call = facts.call;
        let (trace_id, span_id) = match &call.trace {
            Some(trace) => {
                let context = &trace.context;
                (context.trace_id.to_be_bytes().to_vec(), context.span_id.to_be_bytes().to_vec())
            }
            None => Default::default(),
        };
        self.queue.push(LogRecord {
            time_unix_nano: nanos(call.start_time),
            body: self.body.as_ref().map(|body| body.write(facts)),
            attributes: write_all(&self.attributes, facts),
            trace_id,
            span_id,
            ..LogRecord::default()
        });
    }
}

impl Template {
    fn compile(config: &pb::AnyValue, at: &Path<'_>) -> Result<Self, Problem> {
        use pb::any_value::Value as Config;
        Ok(match &config.value {
            Some(Config::StringValue(format)) => {
                Self::Text(Format::parse(format, &at.field("string_value"))?)
            }
            Some(Config::ArrayValue(list)) => {
                Self::List(each(&list.values, &at.field("array_value"), "values", Self::compile)?)
            }
            Some(Config::KvlistValue(map)) => Self::Map(pairs(Some(map), &at.field("kvlist_value"))?),
            _ => return Err(at.problem("say string_value, array_value or kvlist_value")),
        })
    }

    fn write(&self, facts: Facts<'_>) -> AnyValue {
        match self {
            Self::Text(format) => {
                let mut written = String::new();
                format.write(facts, "-", &mut written);
                text(written)
            }
            Self::List(items) => {
                let values = items.iter().map(|item| item.write(facts)).collect();
                AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }
            }
            Self::Map(entries) => {
                let values = write_all(entries, facts);
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
            }
        }
    }
}

fn pairs(config: Option<&pb::KeyValueList>, at: &Path<'_>) -> Result<Vec<(String, Template)>, Problem> {
    let values = config.map(|config| &config.values[..]).unwrap_or_default();
    each(values, at, "values", |pair, at| {
        let value = pair.value.as_ref().ok_or_else(|| at.field("value").problem("is required"))?;
        Ok((pair.key.clone(), Template::compile(value, &at.field("value"))?))
    })
}

/// Attributes that say the same of every call.
fn constants(config: Option<&pb::KeyValueList>, at: &Path<'_>) -> Result<Vec<KeyValue>, Problem> {
    use pb::any_value::Value as Config;
    let values = config.map(|config| &config.values[..]).unwrap_or_default();
    each(values, at, "values", |pair, at| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Config::StringValue(text)) => Ok(attribute(pair.key.as_str(), text.as_str())),
        _ => Err(at.field("value").problem("say string_value")),
    })
}

fn write_all(entries: &[(String, Template)], facts: Facts<'_>) -> Vec<KeyValue> {
    let write = |(key, value): &(String, Template)| KeyValue {
        key: key.clone(),
        value: Some(value.write(facts)),
        ..KeyValue::default()
    };
    entries.iter().map(write).collect()
}

fn wrap(about: Vec<KeyValue>, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let logs = ScopeLogs { log_records, ..ScopeLogs::default() };
    let resource = Some(resource(about));
    let logs = ResourceLogs { resource, scope_logs: vec![logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}
