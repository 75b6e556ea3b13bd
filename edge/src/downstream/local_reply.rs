//! What operators want the edge's own replies to look like.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use pb::{LocalReplyConfig, ResponseMapper};

use crate::access_log::{Filter, Line};
use crate::call::Call;
use crate::format::Facts;
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::route::HeaderRules;
use crate::value;

/// How replies that the edge makes are rewritten: the first mapper that takes one, and then the form of all.
#[derive(Debug)]
pub(crate) struct LocalReplies {
    mappers: Vec<Mapper>,
    form: Option<Form>,
}

#[derive(Debug)]
struct Mapper {
    filter: Filter,
    status: Option<StatusCode>,
    body: Option<String>,
    headers: HeaderRules,
    form: Option<Form>,
}

/// How a body is written.
#[derive(Debug)]
struct Form {
    line: Line,
    content_type: HeaderValue,
}

impl LocalReplies {
    pub(crate) fn compile(config: &LocalReplyConfig, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(Self {
            mappers: each(&config.mappers, at, "mappers", Mapper::compile)?,
            form: Form::compile(config.body_format.as_ref(), &at.field("body_format"))?,
        })
    }

    /// Rewrites a reply before it is told in the words of the client's protocol. `headers` are those that it brings.
    pub(crate) fn rewrite(
        &self,
        call: &mut Call,
        status: &mut StatusCode,
        body: &mut String,
        headers: &mut HeaderMap,
    ) {
        call.ended.status = Some(*status);
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.takes(call));
        if let Some(mapper) = mapper {
            if let Some(own) = &mapper.body {
                body.clone_from(own);
            }
            mapper.headers.apply_response(call, *status, headers);
            *status = mapper.status.unwrap_or(*status);
            call.ended.status = Some(*status);
        }
        if let Some(form) = mapper.and_then(|mapper| mapper.form.as_ref()).or(self.form.as_ref()) {
            let facts = Facts::of_response(call, *status, headers).saying(body);
            let written = form.line.write(facts);
            *body = written;
            headers.insert(CONTENT_TYPE, form.content_type.clone());
        }
    }
}

impl Mapper {
    fn compile(config: &ResponseMapper, at: &Path<'_>) -> Result<Self, Problem> {
        let filter = config.filter.as_ref().ok_or_else(|| at.field("filter").problem("is required"))?;
        let status = config.status_code.as_ref().map(|status| {
            let status =
                u16::try_from(status.value).ok().and_then(|status| StatusCode::from_u16(status).ok());
            status.ok_or_else(|| at.field("status_code").problem("must be 200 to 599"))
        });
        let body_at = at.field("body");
        let body = config.body.as_ref().map(|body| {
            String::from_utf8(value::read(body, &body_at)?).map_err(|_| body_at.problem("is not UTF-8"))
        });
        Ok(Self {
            filter: Filter::compile(filter, &at.field("filter"))?,
            status: status.transpose()?,
            body: body.transpose()?,
            headers: HeaderRules::compile(&config.headers_to_add, &[], at, ["headers_to_add", ""])?,
            form: Form::compile(config.body_format_override.as_ref(), &at.field("body_format_override"))?,
        })
    }
}

impl Form {
    fn compile(
        config: Option<&envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString>,
        at: &Path<'_>,
    ) -> Result<Option<Self>, Problem> {
        let Some(config) = config else { return Ok(None) };
        let line = Line::compile(config, at)?;
        let usual = if line.is_json() { "application/json" } else { "text/plain" };
        let named = if config.content_type.is_empty() { usual } else { &config.content_type };
        let content_type = HeaderValue::from_str(named)
            .map_err(|_| at.field("content_type").problem("is no header's value"))?;
        Ok(Some(Self { line, content_type }))
    }
}
