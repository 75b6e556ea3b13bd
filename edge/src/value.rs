//! Values that many of Envoy's messages share, as the edge uses them.

use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{DataSource, Metadata};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{
    BoolValue, Duration as DurationValue, ListValue, Struct, Timestamp, UInt32Value, Value as ProtoValue,
};
use serde_json::{Map, Value};

use crate::problem::{Path, Problem};

/// A duration; a negative one counts as none at all.
pub(crate) fn duration(value: &DurationValue) -> Duration {
    let seconds = u64::try_from(value.seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(value.nanos).unwrap_or(0).min(999_999_999))
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Centuries of seconds and a second of nanoseconds fit.
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default() }
}

/// A time limit, where zero means none.
pub(crate) fn limit(value: Option<&DurationValue>, default: Option<Duration>) -> Option<Duration> {
    match value {
        Some(value) => Some(duration(value)).filter(|limit| !limit.is_zero()),
        None => default,
    }
}

pub(crate) fn flag(value: Option<&BoolValue>, default: bool) -> bool {
    value.map_or(default, |value| value.value)
}

pub(crate) fn number(value: Option<&UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}

/// What a data source holds now.
pub(crate) fn read(source: &DataSource, at: &Path<'_>) -> Result<Vec<u8>, Problem> {
    match &source.specifier {
        Some(Specifier::Filename(file)) => std::fs::read(file)
            .map_err(|error| at.field("filename").problem(format!("cannot read {file}: {error}"))),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::EnvironmentVariable(name)) => {
            std::env::var(name).map(String::into_bytes).map_err(|error| {
                at.field("environment_variable").problem(format!("cannot read the variable {name}: {error}"))
            })
        }
        None => Err(at.problem("name a filename, inline_bytes, inline_string or environment_variable")),
    }
}

/// The file that a data source names, if it names one.
pub(crate) fn file(source: &DataSource) -> Option<&str> {
    match &source.specifier {
        Some(Specifier::Filename(file)) => Some(file),
        _ => None,
    }
}

/// What metadata says, by filter.
pub(crate) fn metadata(config: Option<&Metadata>) -> Map<String, Value> {
    let filters = config.into_iter().flat_map(|metadata| &metadata.filter_metadata);
    filters.map(|(name, fields)| (name.clone(), Value::Object(object(fields)))).collect()
}

/// A struct as JSON.
pub(crate) fn object(fields: &Struct) -> Map<String, Value> {
    fields.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

fn json(value: &ProtoValue) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::StringValue(text)) => Value::from(text.as_str()),
        Some(Kind::BoolValue(is)) => Value::from(*is),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
    }
}

/// JSON as a struct.
pub(crate) fn structure(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), proto(value))).collect() }
}

fn proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(is) => Kind::BoolValue(*is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(proto).collect() }),
        Value::Object(object) => Kind::StructValue(structure(object)),
    };
    ProtoValue { kind: Some(kind) }
}
