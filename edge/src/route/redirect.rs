//! Answers that send a client elsewhere.

use envoy_types::pb::envoy::config::route::v3::RedirectAction;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use http::{HeaderValue, StatusCode};

use super::rewrite::{PathFields, PathRewrite};
use crate::call::Call;
use crate::head::Head;
use crate::matcher::PathMatch;
use crate::problem::{Path, Problem};

/// Where a client is sent.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) status: StatusCode,
    scheme: Option<String>,
    host: String,
    port: String,
    path: Target,
    strip_query: bool,
}

#[derive(Debug)]
enum Target {
    Fixed(String),
    Rewritten(PathRewrite),
}

impl Redirect {
    /// The same address, encrypted.
    pub(super) fn to_https() -> Self {
        Self { scheme: Some("https".to_owned()), ..Self::to_itself(StatusCode::MOVED_PERMANENTLY) }
    }

    /// The same address.
    pub(super) fn to_itself(status: StatusCode) -> Self {
        Self {
            status,
            scheme: None,
            host: String::new(),
            port: String::new(),
            path: Target::Rewritten(PathRewrite::Keep),
            strip_query: false,
        }
    }

    pub(super) fn compile(
        config: &RedirectAction,
        matched: &PathMatch,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let status = match config.response_code() {
            RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            RedirectResponseCode::Found => StatusCode::FOUND,
            RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
            RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        };
        let scheme = match &config.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => {
                Some(scheme.clone())
            }
            _ => None,
        };
        let mut fields = PathFields { prefix: "", regex: None, whole: "" };
        match &config.path_rewrite_specifier {
            None | Some(PathRewriteSpecifier::PathRedirect(_)) => {}
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => fields.prefix = prefix,
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => fields.regex = Some(regex),
            Some(PathRewriteSpecifier::PathRewrite(whole)) => fields.whole = whole,
        }
        let path = match &config.path_rewrite_specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) if !path.is_empty() => Target::Fixed(path.clone()),
            _ => Target::Rewritten(PathRewrite::compile(&fields, matched, at)?),
        };
        let port = match config.port_redirect {
            0 => String::new(),
            port => format!(":{port}"),
        };
        let (host, strip_query) = (config.host_redirect.clone(), config.strip_query);
        Ok(Self { status, scheme, host, port, path, strip_query })
    }

    /// The `location` that the client is told.
    pub(crate) fn location(&self, call: &Call) -> Option<HeaderValue> {
        let request = &call.request;
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme.as_str());
        let host = match self.host.as_str() {
            "" => request_host(request, scheme, &self.port),
            host => host,
        };
        let mut path = self.path(call);
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        HeaderValue::try_from(format!("{scheme}://{host}{}{path}", self.port)).ok()
    }

    /// A query that the configuration names stays; the request's may be stripped.
    fn path(&self, call: &Call) -> String {
        let request = &call.request.path;
        let mut path = match &self.path {
            Target::Fixed(path) if path.contains('?') => return path.clone(),
            Target::Fixed(path) => match request.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.clone(),
            },
            Target::Rewritten(rewrite) => rewrite.path(call).unwrap_or_else(|| request.as_str().to_owned()),
        };
        if self.strip_query
            && let Some(query) = path.find('?')
        {
            path.truncate(query);
        }
        path
    }
}

/// The request's host; without its port where another one is told or it belongs to the old scheme.
fn request_host<'r>(request: &'r Head, scheme: &str, port: &str) -> &'r str {
    let authority = request.host();
    let host = super::domain::without_port(authority);
    let of_scheme = match (super::scheme(request), &authority[host.len()..]) {
        (old, _) if old == scheme => false,
        ("https", ":443") | ("http", ":80") => true,
        _ => false,
    };
    if !port.is_empty() || of_scheme { host } else { authority }
}
