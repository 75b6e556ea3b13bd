//! What OpenTelemetry's messages have in common: attributes, and the resource that they are told of.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

pub(crate) fn text(value: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.into())) }
}

pub(crate) fn attribute(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(text(value)), ..KeyValue::default() }
}

/// A later attribute takes the place of an earlier one of the same name.
pub(crate) fn resource(attributes: impl IntoIterator<Item = KeyValue>) -> Resource {
    let mut all: Vec<KeyValue> = Vec::new();
    for attribute in attributes {
        all.retain(|earlier| earlier.key != attribute.key);
        all.push(attribute);
    }
    Resource { attributes: all, ..Resource::default() }
}

pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "omnimesh".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
