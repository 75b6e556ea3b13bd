//! Role-based access: policies say who may do what.

mod rule;

use std::sync::Arc;

use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::rbac::v3::{Policy as PolicyConfig, Rbac as RulesConfig};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as Config, RbacPerRoute};
use envoy_types::pb::google::protobuf::Any;
use http::StatusCode;
use serde_json::Value;

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::stats::{Counter, Scope};
use rule::Rule;

const NAMESPACE: &str = "envoy.filters.http.rbac";
const DENIED: &str = "RBAC: access denied";

/// Refuses what the rules deny, and counts what the shadow rules would deny.
#[derive(Debug)]
pub(crate) struct Rbac {
    enforced: Option<Engine>,
    shadow: Option<Engine>,
    stats: Stats,
}

#[derive(Clone, Debug)]
struct Stats {
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

/// Rules, and the names under which the metadata tells what they said.
#[derive(Debug)]
struct Engine {
    action: Action,
    /// In order of their names; the first that matches decides.
    policies: Vec<Policy>,
    policy_key: String,
    result_key: String,
}

#[derive(Debug)]
struct Policy {
    name: String,
    permissions: Vec<Rule>,
    principals: Vec<Rule>,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: Config = unpack(config, at)?;
    let stats = Stats::new(&context.stats.scope("rbac"), &config);
    Ok(Arc::new(Rbac::compile(&config, at, stats)?))
}

impl Filter for Rbac {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if let Some(shadow) = &self.shadow {
            match shadow.allows(call).0 {
                true => self.stats.shadow_allowed.inc(),
                false => self.stats.shadow_denied.inc(),
            }
        }
        let Some(enforced) = &self.enforced else { return Flow::Continue };
        let (allowed, policy) = enforced.allows(call);
        if allowed {
            self.stats.allowed.inc();
            return Flow::Continue;
        }
        self.stats.denied.inc();
        let policy = policy.unwrap_or("none").replace(char::is_whitespace, "_");
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        Flow::Reply(LocalReply::new(StatusCode::FORBIDDEN, DENIED, details))
    }

    /// A route without rules lets everything through. The figures stay those of the filter.
    fn on_route(&self, config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
        let config: RbacPerRoute = unpack(config, at)?;
        let rules = config.rbac.unwrap_or_default();
        Ok(Arc::new(Self::compile(&rules, &at.field("rbac"), self.stats.clone())?))
    }
}

impl Rbac {
    fn compile(config: &Config, at: &Path<'_>, stats: Stats) -> Result<Self, Problem> {
        for (field, set) in
            [("matcher", config.matcher.is_some()), ("shadow_matcher", config.shadow_matcher.is_some())]
        {
            if set {
                return Err(at.field(field).problem("is not supported: write policies under rules"));
            }
        }
        if config.track_per_rule_stats {
            return Err(at.field("track_per_rule_stats").problem("is not supported: remove it"));
        }
        let engine = |config: Option<&RulesConfig>, field, prefix: &str, kind| {
            let rules = config.map(|rules| Engine::compile(rules, prefix, kind, &at.field(field)));
            rules.transpose()
        };
        let (prefix, shadow_prefix) = (&config.rules_stat_prefix, &config.shadow_rules_stat_prefix);
        Ok(Self {
            enforced: engine(config.rules.as_ref(), "rules", prefix, "enforced")?,
            shadow: engine(config.shadow_rules.as_ref(), "shadow_rules", shadow_prefix, "shadow")?,
            stats,
        })
    }
}

impl Engine {
    fn compile(config: &RulesConfig, prefix: &str, kind: &str, at: &Path<'_>) -> Result<Self, Problem> {
        if config.audit_logging_options.is_some() {
            return Err(at.field("audit_logging_options").problem("is not supported: write an access log"));
        }
        let at_policies = at.field("policies");
        let mut policies = config
            .policies
            .iter()
            .map(|(name, policy)| Policy::compile(name, policy, &at_policies.key(name)))
            .collect::<Result<Vec<_>, _>>()?;
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            action: config.action(),
            policies,
            policy_key: format!("{prefix}{kind}_effective_policy_id"),
            result_key: format!("{prefix}{kind}_engine_result"),
        })
    }

    /// Whether the call is allowed, and the policy that it matches.
    fn allows(&self, call: &mut Call) -> (bool, Option<&str>) {
        let matched =
            self.policies.iter().find(|policy| policy.matches(call)).map(|policy| policy.name.as_str());
        let allowed = match self.action {
            Action::Allow => matched.is_some(),
            Action::Deny => matched.is_none(),
            Action::Log => {
                call.note("envoy.common", "access_log_hint", Value::Bool(matched.is_some()));
                true
            }
        };
        if let Some(policy) = matched {
            call.note(NAMESPACE, &self.policy_key, policy.into());
        }
        call.note(NAMESPACE, &self.result_key, if allowed { "allowed" } else { "denied" }.into());
        (allowed, matched)
    }
}

impl Policy {
    fn compile(name: &str, config: &PolicyConfig, at: &Path<'_>) -> Result<Self, Problem> {
        for (field, set) in [
            ("condition", config.condition.is_some()),
            ("checked_condition", config.checked_condition.is_some()),
            ("cel_config", config.cel_config.is_some()),
        ] {
            if set {
                return Err(at.field(field).problem("is not supported: use permissions and principals"));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            permissions: each(&config.permissions, at, "permissions", Rule::of_permission)?,
            principals: each(&config.principals, at, "principals", Rule::of_principal)?,
        })
    }

    fn matches(&self, call: &Call) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(call));
        any(&self.permissions) && any(&self.principals)
    }
}

impl Stats {
    fn new(scope: &Scope, config: &Config) -> Self {
        let counter = |prefix: &str, name| match prefix.trim_end_matches('.') {
            "" => scope.counter(name),
            prefix => scope.scope(prefix).counter(name),
        };
        let (prefix, shadow_prefix) = (&config.rules_stat_prefix, &config.shadow_rules_stat_prefix);
        Self {
            allowed: counter(prefix, "allowed"),
            denied: counter(prefix, "denied"),
            shadow_allowed: counter(shadow_prefix, "shadow_allowed"),
            shadow_denied: counter(shadow_prefix, "shadow_denied"),
        }
    }
}
