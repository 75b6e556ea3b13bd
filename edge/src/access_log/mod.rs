//! Access logs: a line for every call that has ended.

mod file;
mod filter;
mod line;
mod otel;

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
use crate::compile::Shared;
use crate::format::Facts;
use crate::problem::{Path, Problem};
pub(crate) use file::Files;
use file::{LogFile, Target};
pub(crate) use filter::Filter;
pub(crate) use line::Line;
use otel::Records;

const OPEN_TELEMETRY: &str = "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig";

/// One access log of a connection manager.
#[derive(Debug)]
pub(crate) struct AccessLog {
    filter: Option<Filter>,
    logger: Logger,
}

/// Where a log goes.
#[derive(Debug)]
enum Logger {
    Lines { line: Line, file: Arc<LogFile> },
    Records(Records),
}

impl AccessLog {
    pub(crate) fn compile(
        config: &pb::AccessLog,
        at: &Path<'_>,
        shared: &Shared<'_>,
    ) -> Result<Self, Problem> {
        let filter_at = at.field("filter");
        let filter = config.filter.as_ref().map(|filter| Filter::compile(filter, &filter_at)).transpose()?;
        let Some(ConfigType::TypedConfig(any)) = &config.config_type else {
            return Err(at.problem("an access log needs typed_config with its \"@type\""));
        };
        let at = at.field("typed_config");
        let logger = match type_name(&any.type_url) {
            OPEN_TELEMETRY => Logger::Records(Records::compile(any, &at, shared)?),
            _ => {
                let (target, line) = lines(any, &at)?;
                let file = shared.files.open(target);
                let file = file.map_err(|error| at.problem(format!("cannot open the log: {error}")))?;
                Logger::Lines { line, file }
            }
        };
        Ok(Self { filter, logger })
    }

    /// Writes the line of a call that has ended.
    pub(crate) fn write(&self, call: &Call) {
        if self.filter.as_ref().is_none_or(|filter| filter.takes(call)) {
            match &self.logger {
                Logger::Lines { line, file } => file.append(&line.write(Facts::of_ended(call))),
                Logger::Records(records) => records.write(Facts::of_ended(call)),
            }
        }
    }
}

/// Where a logger writes lines, and what.
#[expect(deprecated, reason = "Envoy still reads format, json_format and typed_json_format")]
fn lines(any: &Any, at: &Path<'_>) -> Result<(Target, Line), Problem> {
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
            "{other} is not supported; access logs go to a FileAccessLog, StdoutAccessLog, StderrAccessLog or \
             OpenTelemetryAccessLogConfig"
        ))),
    }
}

#[cfg(test)]
mod tests;
