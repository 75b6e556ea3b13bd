//! Lets calls pass whose JSON web tokens are good.

mod keys;
mod places;
mod provider;
mod remote;
mod requirement;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use futures::future::join_all;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use pb::per_route_config::RequirementSpecifier;
use pb::requirement_rule::RequirementType;

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::route::Criteria;
use crate::stats::{Counter, Scope};
use provider::Provider;
use requirement::{Providers, Requirement};
use token::Failure;

const LONGEST_REALM: usize = 256;

/// The filter as one route has it.
#[derive(Debug)]
pub(crate) struct JwtAuthn {
    shared: Arc<Shared>,
    of_route: OfRoute,
}

/// Where the requirement of a request is said.
#[derive(Debug)]
enum OfRoute {
    Rules,
    Off,
    Named(Arc<Requirement>),
}

#[derive(Debug)]
struct Shared {
    rules: Vec<Rule>,
    named: BTreeMap<String, Arc<Requirement>>,
    bypass_preflight: bool,
    /// Whether clients are not told what is wrong.
    silent: bool,
    stats: Stats,
}

#[derive(Debug)]
struct Rule {
    criteria: Criteria,
    requires: Option<Arc<Requirement>>,
}

/// `http.<stat_prefix>.jwt_authn.…`
#[derive(Debug)]
struct Stats {
    allowed: Counter,
    denied: Counter,
    cors_preflight_bypassed: Counter,
    cache_hit: Counter,
    cache_miss: Counter,
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        Self {
            allowed: scope.counter("allowed"),
            denied: scope.counter("denied"),
            cors_preflight_bypassed: scope.counter("cors_preflight_bypassed"),
            cache_hit: scope.counter("jwt_cache_hit"),
            cache_miss: scope.counter("jwt_cache_miss"),
        }
    }
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: pb::JwtAuthentication = unpack(config, at)?;
    if config.filter_state_rules.is_some() {
        return Err(at.field("filter_state_rules").problem("is not supported: use rules"));
    }
    let stats = context.stats.scope(match config.stat_prefix.as_str() {
        "" => "jwt_authn",
        _ => return Err(at.field("stat_prefix").problem("is not supported: remove it")),
    });
    let at_providers = at.field("providers");
    let providers: Providers = config
        .providers
        .iter()
        .map(|(name, provider)| {
            let provider = Provider::compile(provider, &stats, &at_providers.key(name), context)?;
            Ok((name.clone(), Arc::new(provider)))
        })
        .collect::<Result<_, Problem>>()?;
    let at_named = at.field("requirement_map");
    let named: BTreeMap<_, _> = config
        .requirement_map
        .iter()
        .map(|(name, requirement)| {
            let requirement = Requirement::compile(requirement, &providers, &at_named.key(name))?;
            Ok((name.clone(), Arc::new(requirement)))
        })
        .collect::<Result<_, Problem>>()?;
    let rules = each(&config.rules, at, "rules", |rule, at| {
        let at_match = at.field("match");
        let criteria = rule.r#match.as_ref().ok_or_else(|| at_match.problem("is required"))?;
        Ok(Rule {
            criteria: Criteria::compile(criteria, &at_match)?,
            requires: match &rule.requirement_type {
                None => None,
                Some(RequirementType::Requires(requirement)) => {
                    Some(Arc::new(Requirement::compile(requirement, &providers, &at.field("requires"))?))
                }
                Some(RequirementType::RequirementName(name)) => {
                    Some(find(&named, name, &at.field("requirement_name"))?)
                }
            },
        })
    })?;
    let shared = Shared {
        rules,
        named,
        bypass_preflight: config.bypass_cors_preflight,
        silent: config.strip_failure_response,
        stats: Stats::new(&stats),
    };
    Ok(Arc::new(JwtAuthn { shared: Arc::new(shared), of_route: OfRoute::Rules }))
}

fn find(
    named: &BTreeMap<String, Arc<Requirement>>,
    name: &str,
    at: &Path<'_>,
) -> Result<Arc<Requirement>, Problem> {
    let names = || named.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = named.get(name).cloned();
    found.ok_or_else(|| at.problem(format!("there is no {name} in requirement_map, which has: {}", names())))
}

impl Filter for JwtAuthn {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let shared = &*self.shared;
        if shared.bypass_preflight && is_preflight(call) {
            shared.stats.cors_preflight_bypassed.inc();
            shared.stats.allowed.inc();
            return Flow::Continue;
        }
        let Some(requirement) = self.requirement(call) else {
            shared.stats.allowed.inc();
            return Flow::Continue;
        };
        let mut lacking = Vec::new();
        requirement.lacking(call, &mut lacking);
        if lacking.is_empty() {
            return match shared.judge(call, requirement) {
                Ok(()) => Flow::Continue,
                Err(refused) => Flow::Reply(refused),
            };
        }
        Flow::Wait(Box::pin(async move {
            join_all(lacking.iter().map(|remote| remote.fetch())).await;
            shared.judge(call, requirement)
        }))
    }

    fn on_route(
        &self,
        config: &Any,
        at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        let config: pb::PerRouteConfig = unpack(config, at)?;
        let of_route = match &config.requirement_specifier {
            Some(RequirementSpecifier::Disabled(true)) => OfRoute::Off,
            Some(RequirementSpecifier::RequirementName(name)) => {
                OfRoute::Named(find(&self.shared.named, name, &at.field("requirement_name"))?)
            }
            _ => return Err(at.problem("needs disabled: true or a requirement_name")),
        };
        Ok(Arc::new(Self { shared: Arc::clone(&self.shared), of_route }))
    }
}

impl JwtAuthn {
    fn requirement(&self, call: &Call) -> Option<&Requirement> {
        match &self.of_route {
            OfRoute::Off => None,
            OfRoute::Named(requirement) => Some(requirement),
            OfRoute::Rules => {
                let request = &call.request;
                let rule = self.shared.rules.iter().find(|rule| {
                    rule.criteria.matches(request.path_only(), request, &call.connection, call.random)
                });
                rule?.requires.as_deref()
            }
        }
    }
}

impl Shared {
    fn judge(&self, call: &mut Call, requirement: &Requirement) -> Result<(), LocalReply> {
        match requirement.verify(call, &self.stats) {
            Ok(()) => {
                self.stats.allowed.inc();
                Ok(())
            }
            Err(failure) => {
                self.stats.denied.inc();
                Err(self.refusal(failure, &realm(call)))
            }
        }
    }

    fn refusal(&self, failure: Failure, realm: &str) -> LocalReply {
        let status = match failure {
            Failure::AUDIENCE => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        };
        let Failure(text) = failure;
        let details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"));
        if self.silent {
            return LocalReply::new(status, "", details);
        }
        let refused = LocalReply::new(status, text, details);
        let error = if failure == Failure::MISSING { "" } else { ", error=\"invalid_token\"" };
        match HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}")) {
            Ok(challenge) => refused.with_header(WWW_AUTHENTICATE, challenge),
            Err(_) => refused,
        }
    }
}

/// What the client asked for, as a challenge names it.
fn realm(call: &Call) -> String {
    let text = |name: &str| call.request.text(name).unwrap_or_default();
    let original = call.request.text("x-envoy-original-path");
    let path = original.unwrap_or_else(|| text(":path"));
    let cut = path.floor_char_boundary(LONGEST_REALM);
    format!("{}://{}{}", text("x-forwarded-proto"), text(":authority"), &path[..cut])
}

fn is_preflight(call: &Call) -> bool {
    let says = |name| call.request.headers.get(name).is_some_and(|value| !value.is_empty());
    call.request.method == Method::OPTIONS && says(ORIGIN) && says(ACCESS_CONTROL_REQUEST_METHOD)
}
