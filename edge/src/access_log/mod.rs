//! Access logs: a line for every call that has ended.

mod file;
mod filter;
mod line;

use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use envoy_types::pb::google::protobuf::Any;
use pb::access_log::ConfigType;

use crate::bootstrap::{type_name, unpack};
use crate::call::Call;
use crate::format::Facts;
use crate::problem::{Path, Problem};
pub(crate) use file::Files;
use file::{LogFile, Target};
use filter::Filter;
use line::Line;

/// One access log of a connection manager.
#[derive(Debug)]
pub(crate) struct AccessLog {
    filter: Option<Filter>,
    line: Line,
    file: Arc<LogFile>,
}

impl AccessLog {
    pub(crate) fn compile(config: &pb::AccessLog, at: &Path<'_>, files: &Files) -> Result<Self, Problem> {
        let filter_at = at.field("filter");
        let filter = config.filter.as_ref().map(|filter| Filter::compile(filter, &filter_at)).transpose()?;
        let Some(ConfigType::TypedConfig(any)) = &config.config_type else {
            return Err(at.problem("an access log needs typed_config with its \"@type\""));
        };
        let at = at.field("typed_config");
        let (target, line) = logger(any, &at)?;
        let file = files.open(target).map_err(|error| at.problem(format!("cannot open the log: {error}")))?;
        Ok(Self { filter, line, file })
    }

    /// Writes the line of a call that has ended.
    pub(crate) fn write(&self, call: &Call) {
        if self.filter.as_ref().is_none_or(|filter| filter.takes(call)) {
            self.file.append(&self.line.write(Facts::of_ended(call)));
        }
    }
}

/// Where a logger writes, and what.
#[expect(deprecated, reason = "Envoy still reads format, json_format and typed_json_format")]
fn logger(any: &Any, at: &Path<'_>) -> Result<(Target, Line), Problem> {
    let format_at = at.field("log_format");
    match type_name(&any.type_url) {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            let config: FileAccessLog = unpack(any, at)?;
            if config.path.is_empty() {
                return Err(at.field("path").problem("missing"));
            }
            let line = match &config.access_log_format {
                None => Line::default(at)?,
                Some(AccessLogFormat::Format(text)) if text.is_empty() => Line::default(at)?,
                Some(AccessLogFormat::Format(text)) => Line::text(text, &at.field("format"))?,
                Some(AccessLogFormat::JsonFormat(template)) => {
                    Line::json(template, &at.field("json_format"))?
                }
                Some(AccessLogFormat::TypedJsonFormat(template)) => {
                    Line::json(template, &at.field("typed_json_format"))?
                }
                Some(AccessLogFormat::LogFormat(format)) => Line::compile(format, &format_at)?,
            };
            Ok((Target::File(config.path.into()), line))
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let line = match unpack::<StdoutAccessLog>(any, at)?.access_log_format {
                None => Line::default(at)?,
                Some(stdout_access_log::AccessLogFormat::LogFormat(format)) => {
                    Line::compile(&format, &format_at)?
                }
            };
            Ok((Target::Stdout, line))
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let line = match unpack::<StderrAccessLog>(any, at)?.access_log_format {
                None => Line::default(at)?,
                Some(stderr_access_log::AccessLogFormat::LogFormat(format)) => {
                    Line::compile(&format, &format_at)?
                }
            };
            Ok((Target::Stderr, line))
        }
        other => Err(at.problem(format!(
            "{other} is not supported; access logs go to a FileAccessLog, StdoutAccessLog or StderrAccessLog"
        ))),
    }
}

#[cfg(test)]
mod tests;
