//! Whether a route takes a request.

use envoy_types::pb::envoy::config::route::v3::RouteMatch;

use crate::call::Connection;
use crate::head::Head;
use crate::matcher::{CookieMatcher, Fraction, HeaderMatcher, PathMatch, QueryParameterMatcher, each};
use crate::problem::{Path, Problem};

/// What a request has to be like; all of it.
#[derive(Debug)]
pub(crate) struct Criteria {
    pub(super) path: PathMatch,
    fraction: Option<Fraction>,
    grpc: bool,
    headers: Vec<HeaderMatcher>,
    parameters: Vec<QueryParameterMatcher>,
    cookies: Vec<CookieMatcher>,
    /// Whether the client shows a certificate, and whether it was verified.
    presented: Option<bool>,
    validated: Option<bool>,
}

/// What about a request does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Path,
    /// It is not among those that chance sends here.
    Fraction,
    Grpc,
    /// Of the route's headers, the first that does not match.
    Header(usize),
    Query,
    Cookie,
    Certificate,
}

impl Criteria {
    pub(crate) fn compile(config: &RouteMatch, at: &Path<'_>) -> Result<Self, Problem> {
        let tls = config.tls_context.as_ref();
        Ok(Self {
            path: PathMatch::compile(config, at)?,
            fraction: config
                .runtime_fraction
                .as_ref()
                .map(|fraction| Fraction::compile(fraction.default_value.as_ref())),
            grpc: config.grpc.is_some(),
            headers: each(&config.headers, at, "headers", HeaderMatcher::compile)?,
            parameters: each(
                &config.query_parameters,
                at,
                "query_parameters",
                QueryParameterMatcher::compile,
            )?,
            cookies: each(&config.cookies, at, "cookies", CookieMatcher::compile)?,
            presented: tls.and_then(|tls| tls.presented.as_ref()).map(|presented| presented.value),
            validated: tls.and_then(|tls| tls.validated.as_ref()).map(|validated| validated.value),
        })
    }

    /// `path` is the request's, as far as it is compared.
    pub(crate) fn matches(&self, path: &str, request: &Head, connection: &Connection, random: u64) -> bool {
        self.mismatch(path, request, connection, random).is_none()
    }

    /// What keeps a request from the route, if anything does.
    pub(crate) fn mismatch(
        &self,
        path: &str,
        request: &Head,
        connection: &Connection,
        random: u64,
    ) -> Option<Mismatch> {
        if !self.path.matches(path) {
            return Some(Mismatch::Path);
        }
        if self.fraction.is_some_and(|fraction| !fraction.takes(random)) {
            return Some(Mismatch::Fraction);
        }
        if self.grpc && !crate::reply::is_grpc(&request.headers) {
            return Some(Mismatch::Grpc);
        }
        if let Some(index) = self.headers.iter().position(|header| !header.matches(request)) {
            return Some(Mismatch::Header(index));
        }
        if !self.matches_query(request) {
            return Some(Mismatch::Query);
        }
        if !self.cookies.iter().all(|cookie| cookie.matches(request)) {
            return Some(Mismatch::Cookie);
        }
        (!self.matches_tls(connection)).then_some(Mismatch::Certificate)
    }

    fn matches_query(&self, request: &Head) -> bool {
        if self.parameters.is_empty() {
            return true;
        }
        let query = request.path.query().unwrap_or_default();
        self.parameters.iter().all(|parameter| parameter.matches(query))
    }

    fn matches_tls(&self, connection: &Connection) -> bool {
        let peer = || connection.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        self.presented.is_none_or(|presented| presented == peer().is_some())
            && self.validated.is_none_or(|validated| validated == peer().is_some_and(|peer| peer.verified))
    }
}
