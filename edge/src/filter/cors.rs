//! Cross-origin requests: browsers are told which pages of other origins may call.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::google::protobuf::Any;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::matcher::{Fraction, StringMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::{Counter, Scope};

const DETAILS: &str = "cors_response";
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Without a policy the filter does nothing; a route or what is above it brings one.
#[derive(Clone, Debug)]
pub(crate) struct Cors {
    policy: Option<Policy>,
    valid: Counter,
    invalid: Counter,
}

#[derive(Clone, Debug, Default)]
struct Policy {
    origins: Vec<StringMatcher>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: Option<bool>,
    private_network: Option<bool>,
    /// What becomes of preflights of other origins where the policy says it.
    forward: Option<bool>,
    enabled: Option<Fraction>,
    shadow: Option<Fraction>,
}

/// The origin of a call that may read the reply.
#[derive(Clone)]
struct Allowed(HeaderValue);

pub(crate) fn make(_: &Any, _: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(Cors::new(context.stats)))
}

impl Cors {
    fn new(stats: &Scope) -> Self {
        let stats = stats.scope("cors");
        Self { policy: None, valid: stats.counter("origin_valid"), invalid: stats.counter("origin_invalid") }
    }
}

impl Filter for Cors {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let Some(policy) = &self.policy else { return Flow::Continue };
        let Some(origin) = origin_of(&call.request.headers) else { return Flow::Continue };
        let enabled = policy.enabled.is_none_or(|share| share.takes(call.random));
        if !enabled && !policy.shadow.is_some_and(|share| share.takes(call.random)) {
            return Flow::Continue;
        }
        let allowed = policy.allows(origin);
        if allowed {
            self.valid.inc()
        } else {
            self.invalid.inc()
        }
        if !enabled {
            return Flow::Continue;
        }
        let allowed = allowed.then(|| origin.clone());
        if let Some(origin) = &allowed {
            call.kept.insert(Allowed(origin.clone()));
        }
        match is_preflight(call) {
            true => policy.preflight(&call.request.headers, allowed),
            false => Flow::Continue,
        }
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        let Some(policy) = &self.policy else { return };
        let origin = match call.kept.get::<Allowed>() {
            Some(Allowed(origin)) => origin,
            // A filter before this one has answered itself; the page has to be able to read that too.
            None if reply.local && policy.enabled.is_none() => {
                match origin_of(&call.request.headers).filter(|origin| policy.allows(origin)) {
                    Some(origin) => origin,
                    None => return,
                }
            }
            None => return,
        };
        reply.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials == Some(true) {
            reply.headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = &policy.expose {
            reply.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn on_route(&self, config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
        let policy = Policy::compile(&unpack(config, at)?, at)?;
        let policy = match &self.policy {
            Some(general) => policy.over(general),
            None => policy,
        };
        Ok(Arc::new(Self { policy: Some(policy), ..self.clone() }))
    }
}

impl Policy {
    fn compile(config: &CorsPolicy, at: &Path<'_>) -> Result<Self, Problem> {
        let value = |text: &str, field: &str| match text {
            "" => Ok(None),
            text => HeaderValue::from_str(text)
                .map(Some)
                .map_err(|_| at.field(field).problem("cannot stand in a header")),
        };
        Ok(Self {
            origins: each(
                &config.allow_origin_string_match,
                at,
                "allow_origin_string_match",
                StringMatcher::compile,
            )?,
            methods: value(&config.allow_methods, "allow_methods")?,
            headers: value(&config.allow_headers, "allow_headers")?,
            expose: value(&config.expose_headers, "expose_headers")?,
            max_age: value(&config.max_age, "max_age")?,
            credentials: config.allow_credentials.map(|allow| allow.value),
            private_network: config.allow_private_network_access.map(|allow| allow.value),
            forward: config.forward_not_matching_preflights.map(|forward| forward.value),
            enabled: config.filter_enabled.as_ref().map(Fraction::of_runtime),
            shadow: config.shadow_enabled.as_ref().map(Fraction::of_runtime),
        })
    }

    /// With what a less specific policy says where this one is silent.
    fn over(self, general: &Self) -> Self {
        Self {
            origins: if self.origins.is_empty() { general.origins.clone() } else { self.origins },
            methods: self.methods.or_else(|| general.methods.clone()),
            headers: self.headers.or_else(|| general.headers.clone()),
            expose: self.expose.or_else(|| general.expose.clone()),
            max_age: self.max_age.or_else(|| general.max_age.clone()),
            credentials: self.credentials.or(general.credentials),
            private_network: self.private_network.or(general.private_network),
            forward: self.forward.or(general.forward),
            ..self
        }
    }

    /// A matcher that takes a literal `*`, such as the prefix `*`, means any origin.
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|matcher| matcher.matches("*") || matcher.matches(origin.as_bytes()))
    }

    /// What a browser is told that asks before it calls.
    fn preflight(&self, request: &HeaderMap, allowed: Option<HeaderValue>) -> Flow<'static> {
        match (&allowed, self.forward) {
            (None, Some(true)) => return Flow::Continue,
            (None, None) => return Flow::Reply(LocalReply::new(StatusCode::FORBIDDEN, "", DETAILS)),
            _ => {}
        }
        let private =
            self.private_network == Some(true) && request.get(REQUEST_PRIVATE_NETWORK) == Some(&TRUE);
        let credentials = self.credentials == Some(true);
        let mut reply = LocalReply::new(StatusCode::OK, "", DETAILS);
        reply.headers = [
            (ACCESS_CONTROL_ALLOW_ORIGIN, allowed),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials.then_some(TRUE)),
            (ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone()),
            (ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone()),
            (ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
            (ALLOW_PRIVATE_NETWORK, private.then_some(TRUE)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        Flow::Reply(reply)
    }
}

fn origin_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ORIGIN).filter(|origin| !origin.is_empty())
}

fn is_preflight(call: &Call) -> bool {
    let method = call.request.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    call.request.method == Method::OPTIONS && method.is_some_and(|method| !method.is_empty())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3 as text;
    use envoy_types::pb::google::protobuf::BoolValue;
    use text::string_matcher::MatchPattern;

    use super::*;

    fn policy(pattern: MatchPattern, forward: Option<bool>) -> Policy {
        let origin = text::StringMatcher { match_pattern: Some(pattern), ignore_case: false };
        let config = CorsPolicy {
            allow_origin_string_match: vec![origin],
            allow_methods: "GET, POST".into(),
            allow_private_network_access: Some(BoolValue { value: true }),
            forward_not_matching_preflights: forward.map(|value| BoolValue { value }),
            ..Default::default()
        };
        Policy::compile(&config, &Path::root()).unwrap()
    }

    #[test]
    fn a_matcher_of_the_star_means_any_origin() {
        for (pattern, origin, expected) in [
            (MatchPattern::Prefix("*".into()), "https://any.example", true),
            (MatchPattern::Exact("*".into()), "https://any.example", true),
            (MatchPattern::Exact("https://shop.example".into()), "https://shop.example", true),
            (MatchPattern::Exact("https://shop.example".into()), "https://shop.example.evil", false),
        ] {
            let allows = policy(pattern.clone(), None).allows(&HeaderValue::from_static(origin));
            assert_eq!(allows, expected, "{pattern:?} {origin}");
        }
    }

    #[test]
    fn a_preflight_of_another_origin_goes_upstream_only_if_the_policy_says_so() {
        let exact = || MatchPattern::Exact("https://shop.example".into());
        let asked = HeaderMap::new();
        assert!(matches!(policy(exact(), Some(true)).preflight(&asked, None), Flow::Continue));
        let answer = |forward| match policy(exact(), forward).preflight(&asked, None) {
            Flow::Reply(reply) => (reply.status.as_u16(), reply.headers.len()),
            _ => (0, 0),
        };
        assert_eq!(answer(None), (403, 0));
        assert_eq!(answer(Some(false)), (200, 1));
    }

    #[test]
    fn a_route_is_silent_where_its_host_speaks() {
        let host = policy(MatchPattern::Prefix("https://".into()), Some(false));
        let route = Policy { max_age: Some(HeaderValue::from_static("5")), ..Policy::default() }.over(&host);
        assert_eq!(route.methods, host.methods);
        assert_eq!((route.origins.len(), route.forward), (1, Some(false)));
        assert_eq!(route.max_age, Some(HeaderValue::from_static("5")));
    }

    #[test]
    fn a_private_network_is_granted_when_it_is_asked_for() {
        let mut asked = HeaderMap::new();
        asked.insert(REQUEST_PRIVATE_NETWORK, TRUE);
        let origin = HeaderValue::from_static("https://a.example");
        let policy = policy(MatchPattern::Prefix("*".into()), None);
        let granted = |asked: &HeaderMap| match policy.preflight(asked, Some(origin.clone())) {
            Flow::Reply(reply) => reply.headers.iter().any(|(name, _)| *name == ALLOW_PRIVATE_NETWORK),
            _ => false,
        };
        assert!(granted(&asked) && !granted(&HeaderMap::new()));
    }
}
