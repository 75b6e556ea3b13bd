//! Values that many of Envoy's messages share, as the edge uses them.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::google::protobuf::{BoolValue, Duration as DurationValue, UInt32Value};

use crate::problem::{Path, Problem};

/// A duration; a negative one counts as none at all.
pub(crate) fn duration(value: &DurationValue) -> Duration {
    let seconds = u64::try_from(value.seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(value.nanos).unwrap_or(0).min(999_999_999))
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
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name).map(String::into_bytes).map_err(|error| {
            at.field("environment_variable").problem(format!("cannot read the variable {name}: {error}"))
        }),
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
