//! Answers that the configuration itself holds.

use std::borrow::Cow;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::DirectResponseAction;
use http::StatusCode;

use crate::problem::{Path, Problem};

/// An answer that is always the same.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    pub(crate) status: StatusCode,
    pub(crate) body: Cow<'static, str>,
}

impl Direct {
    pub(super) fn compile(
        config: &DirectResponseAction,
        max_body_len: usize,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let status = u16::try_from(config.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.ok_or_else(|| at.field("status").problem("must be 200 to 599"))?;
        let at = at.field("body");
        let body =
            match config.body.as_ref().map(|body| &body.specifier) {
                None => Vec::new(),
                Some(Some(Specifier::InlineString(text))) => text.clone().into_bytes(),
                Some(Some(Specifier::InlineBytes(bytes))) => bytes.clone(),
                Some(Some(Specifier::Filename(name))) => std::fs::read(name)
                    .map_err(|error| at.field("filename").problem(format!("cannot read {name}: {error}")))?,
                Some(Some(Specifier::EnvironmentVariable(name))) => std::env::var(name)
                    .map(String::into_bytes)
                    .map_err(|error| at.field("environment_variable").problem(format!("{name}: {error}")))?,
                Some(None) => return Err(at.problem("needs one of filename, inline_bytes, inline_string")),
            };
        if body.len() > max_body_len {
            return Err(at.problem(format!(
                "response body size is {} bytes; maximum is {max_body_len}: \
                 raise max_direct_response_body_size_bytes",
                body.len()
            )));
        }
        let body = String::from_utf8(body).map_err(|_| at.problem("must be UTF-8 text"))?;
        Ok(Self { status, body: body.into() })
    }
}
