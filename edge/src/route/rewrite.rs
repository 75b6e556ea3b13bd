//! What a route writes in place of a request's path and authority.

use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use crate::call::Call;
use crate::format::{Facts, Format};
use crate::head::{Field, Fields};
use crate::matcher::{PathMatch, Substitution};
use crate::problem::{Path, Problem};

const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What becomes of a path.
#[derive(Debug)]
pub(crate) enum PathRewrite {
    Keep,
    /// What the route matched is replaced.
    Prefix {
        matched: PathMatch,
        with: String,
    },
    Regex(Substitution),
    /// All of it but the query.
    Whole(Format),
}

/// The fields of a configuration that say so.
#[derive(Debug)]
pub(super) struct PathFields<'c> {
    pub(super) prefix: &'c str,
    pub(super) regex: Option<&'c RegexMatchAndSubstitute>,
    pub(super) whole: &'c str,
}

impl PathRewrite {
    pub(super) fn compile(
        fields: &PathFields<'_>,
        matched: &PathMatch,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        match (fields.prefix, fields.regex, fields.whole) {
            ("", None, "") => Ok(Self::Keep),
            (prefix, None, "") => Ok(Self::Prefix { matched: matched.clone(), with: prefix.to_owned() }),
            ("", Some(regex), "") => {
                Ok(Self::Regex(Substitution::compile(regex, &at.field("regex_rewrite"))?))
            }
            ("", None, whole) => Ok(Self::Whole(Format::parse(whole, &at.field("path_rewrite"))?)),
            _ => Err(at.problem("prefix_rewrite, regex_rewrite and path_rewrite exclude each other")),
        }
    }

    /// The path with its query that takes the place of the request's, if another one does.
    pub(super) fn path(&self, call: &Call) -> Option<String> {
        let old = &call.request.path;
        let mut path = match self {
            Self::Keep => return None,
            Self::Prefix { matched, with } => {
                let rest = old.path().get(matched.matched_len(old.path())..).unwrap_or_default();
                format!("{with}{rest}")
            }
            Self::Regex(substitution) => substitution.replace(old.path()).into_owned(),
            Self::Whole(format) => {
                let path = format.text(Facts::of_request(call)).into_owned();
                if path.is_empty() {
                    return None;
                }
                path
            }
        };
        if let Some(query) = old.query() {
            path.push('?');
            path.push_str(query);
        }
        Some(path)
    }

    /// Rewrites the request's path, and notes the old one.
    pub(super) fn apply(&self, call: &mut Call) {
        let Some(path) = self.path(call).and_then(|path| PathAndQuery::try_from(path).ok()) else { return };
        let old = std::mem::replace(&mut call.request.path, path);
        if let Ok(old) = HeaderValue::from_str(old.as_str()) {
            call.request.headers.insert(X_ENVOY_ORIGINAL_PATH, old);
        }
    }
}

/// What becomes of an authority.
#[derive(Debug)]
pub(crate) enum HostRewrite {
    Keep,
    /// The name of the upstream's host.
    Auto,
    Literal(HeaderValue),
    Header(Field),
    Path(Substitution),
    Format(Format),
}

impl HostRewrite {
    fn host(&self, call: &Call) -> Option<HeaderValue> {
        let host = match self {
            Self::Keep | Self::Auto => return None,
            Self::Literal(host) => Some(host.clone()),
            Self::Header(field) => HeaderValue::from_bytes(call.request.first(field)?).ok(),
            Self::Path(substitution) => {
                HeaderValue::from_str(&substitution.replace(call.request.path_only())).ok()
            }
            Self::Format(format) => HeaderValue::from_str(&format.text(Facts::of_request(call))).ok(),
        };
        host.filter(|host| !host.is_empty())
    }

    pub(super) fn apply(&self, call: &mut Call, forwarded_host: bool) {
        if let Some(host) = self.host(call) {
            set_authority(call, host, forwarded_host);
        }
    }
}

/// Replaces the authority, and notes the old one; in `x-forwarded-host` too where the route asks for it.
pub(crate) fn set_authority(call: &mut Call, host: HeaderValue, forwarded_host: bool) {
    let old = std::mem::replace(&mut call.request.authority, host);
    if old.is_empty() {
        return;
    }
    let headers = &mut call.request.headers;
    if forwarded_host {
        headers.append(X_FORWARDED_HOST, old.clone());
    }
    headers.insert(X_ENVOY_ORIGINAL_HOST, old);
}
