//! Makes the table of a route configuration.

#![expect(deprecated, reason = "files that Envoy reads still have these fields")]

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::route::Action as ActionConfig;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
use envoy_types::pb::envoy::config::route::v3::{
    Route as RouteConfig, RouteAction, RouteConfiguration, VirtualHost as HostConfig, WeightedCluster,
};
use envoy_types::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use serde_json::Map;

use super::criteria::Criteria;
use super::direct::Direct;
use super::domain::Domains;
use super::forward::{Forward, HostPolicies, To, host_value};
use super::headers::HeaderRules;
use super::limit::RateLimitRule;
use super::overlay::{Link, Overrides, merged_cors, overlay, stacked};
use super::redirect::Redirect;
use super::retry::Retry;
use super::{Action, Choice, Host, Matched, RequireTls, Route, Table, VirtualHost};
use crate::filter::Context;
use crate::head::{Field, header_name};
use crate::matcher::{HeaderMatcher, each};
use crate::problem::{Path, Problem};
use crate::telemetry::trace::{Decorator, RouteTracing};
use crate::value;

const DEFAULT_MAX_DIRECT_BODY_LEN: u32 = 4096;

impl Table {
    pub(crate) fn compile(
        config: &RouteConfiguration,
        chain: &[Link],
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let compiler =
            Compiler { config, chain, context, level: Level::of_table(config, chain, at, context)? };
        let mut hosts = Domains::default();
        let at_hosts = at.field("virtual_hosts");
        for (index, host) in config.virtual_hosts.iter().enumerate() {
            let at = at_hosts.index(index);
            let compiled = Arc::new(compiler.host(index, host, &at)?);
            let at = at.field("domains");
            if host.domains.is_empty() {
                return Err(at.problem("needs one domain or more, such as \"*\""));
            }
            for (index, domain) in host.domains.iter().enumerate() {
                if !hosts.insert(domain, compiled.clone()) {
                    return Err(at.index(index).problem(duplicate(domain, &config.name)));
                }
            }
        }
        Ok(Self {
            hosts,
            ignore_port: config.ignore_port_in_host_matching,
            ignore_path_parameters: config.ignore_path_parameters_in_path_matching,
            internal_only_headers: each(
                &config.internal_only_headers,
                at,
                "internal_only_headers",
                |name, at| header_name(name, at),
            )?,
        })
    }
}

fn duplicate(domain: &str, table: &str) -> String {
    match domain {
        "*" => format!("Only a single wildcard domain is permitted in route {table}"),
        _ => format!(
            "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {table}"
        ),
    }
}

/// What each level of a configuration can say: about headers, and about filters.
#[derive(Debug, Default)]
struct Level {
    request: Arc<HeaderRules>,
    response: Arc<HeaderRules>,
    filters: Overrides,
    /// What the levels below override: the chain as this one has it.
    chain: Vec<Link>,
}

/// The fields that say so.
struct LevelFields<'c> {
    request_add: &'c [HeaderValueOption],
    request_remove: &'c [String],
    response_add: &'c [HeaderValueOption],
    response_remove: &'c [String],
    filters: &'c HashMap<String, Any>,
}

macro_rules! level_fields {
    ($config:expr) => {
        LevelFields {
            request_add: &$config.request_headers_to_add,
            request_remove: &$config.request_headers_to_remove,
            response_add: &$config.response_headers_to_add,
            response_remove: &$config.response_headers_to_remove,
            filters: &$config.typed_per_filter_config,
        }
    };
}

impl Level {
    fn compile(
        fields: &LevelFields<'_>,
        chain: &[Link],
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let filters = Overrides::compile(fields.filters, chain, at, context)?;
        Ok(Self {
            request: Arc::new(HeaderRules::compile(
                fields.request_add,
                fields.request_remove,
                at,
                ["request_headers_to_add", "request_headers_to_remove"],
            )?),
            response: Arc::new(HeaderRules::compile(
                fields.response_add,
                fields.response_remove,
                at,
                ["response_headers_to_add", "response_headers_to_remove"],
            )?),
            chain: stacked(chain, &filters),
            filters,
        })
    }

    fn of_table(
        config: &RouteConfiguration,
        chain: &[Link],
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        Self::compile(&level_fields!(config), chain, at, context)
    }
}

/// What is known while virtual hosts are compiled.
struct Compiler<'c> {
    config: &'c RouteConfiguration,
    chain: &'c [Link],
    context: &'c Context<'c>,
    level: Level,
}

/// What is known while the routes of a virtual host are.
struct HostCompiler<'c> {
    table: &'c Compiler<'c>,
    config: &'c HostConfig,
    shared: Arc<VirtualHost>,
    retry: Option<Arc<Retry>>,
    level: Level,
}

impl Compiler<'_> {
    fn host(&self, index: usize, config: &HostConfig, at: &Path<'_>) -> Result<Host, Problem> {
        let retry = match &config.retry_policy {
            Some(policy) => Some(Arc::new(Retry::compile(policy, &at.field("retry_policy"))?)),
            None => None,
        };
        let shared = Arc::new(VirtualHost {
            rate_limits: each(&config.rate_limits, at, "rate_limits", RateLimitRule::compile)?,
            virtual_clusters: each(&config.virtual_clusters, at, "virtual_clusters", |cluster, at| {
                if cluster.headers.is_empty() {
                    return Err(at.field("headers").problem("virtual clusters must define 'headers'"));
                }
                Ok((cluster.name.clone(), each(&cluster.headers, at, "headers", HeaderMatcher::compile)?))
            })?,
        });
        let level = Level::compile(&level_fields!(config), &self.level.chain, at, self.context)?;
        let routes = HostCompiler { table: self, config, shared, retry, level };
        Ok(Host {
            index,
            require_tls: match config.require_tls() {
                TlsRequirementType::None => RequireTls::No,
                TlsRequirementType::ExternalOnly => RequireTls::OfExternal,
                TlsRequirementType::All => RequireTls::Yes,
            },
            to_https: Arc::new(routes.to_https()),
            routes: each(&config.routes, at, "routes", |route, at| routes.route(route, at))?,
        })
    }

    fn cluster(&self, name: &str, message: &str, at: &Path<'_>) -> Result<To, Problem> {
        let validate = self.config.validate_clusters.as_ref().is_none_or(|validate| validate.value);
        if validate && self.context.clusters.get(name).is_none() {
            return Err(at.problem(format!("route: {message} '{name}'")));
        }
        Ok(To::Cluster(name.into()))
    }
}

impl HostCompiler<'_> {
    fn policies(&self) -> HostPolicies<'_> {
        HostPolicies { retry: self.retry.as_ref(), hedge: self.config.hedge_policy.as_ref() }
    }

    fn to_https(&self) -> Matched {
        let chain = self.table.chain;
        let levels = [&self.level.filters, &self.table.level.filters];
        Matched {
            name: String::new(),
            virtual_host: self.shared.clone(),
            action: Action::Redirect(Box::new(Redirect::to_https())),
            filters: overlay(chain, &levels),
            metadata: Map::new(),
            tracing: None,
            decorator: None,
            attempts_in_request: false,
            attempts_in_response: false,
            timeout_retry_header: false,
            request_kept: None,
            request_rules: Vec::new(),
            response_rules: Vec::new(),
        }
    }

    fn route(&self, config: &RouteConfig, at: &Path<'_>) -> Result<Route, Problem> {
        let at_match = at.field("match");
        let matching = config.r#match.as_ref().ok_or_else(|| at_match.problem("is required"))?;
        let criteria = Criteria::compile(matching, &at_match)?;
        let level = Level::compile(&level_fields!(config), &self.level.chain, at, self.table.context)?;
        let route = RouteCompiler { host: self, config, criteria: &criteria, level };
        let choice = route.choice(at)?;
        Ok(Route { criteria, choice })
    }
}

/// What is known while one route is compiled.
struct RouteCompiler<'c> {
    host: &'c HostCompiler<'c>,
    config: &'c RouteConfig,
    criteria: &'c Criteria,
    level: Level,
}

impl RouteCompiler<'_> {
    fn choice(&self, at: &Path<'_>) -> Result<Choice, Problem> {
        let matched = &self.criteria.path;
        let action = match &self.config.action {
            Some(ActionConfig::Route(forward)) => return self.forward(forward, at),
            Some(ActionConfig::Redirect(redirect)) => {
                Action::Redirect(Box::new(Redirect::compile(redirect, matched, &at.field("redirect"))?))
            }
            Some(ActionConfig::DirectResponse(direct)) => {
                let max = &self.host.table.config.max_direct_response_body_size_bytes;
                let max = max.as_ref().map_or(DEFAULT_MAX_DIRECT_BODY_LEN, |max| max.value);
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                Action::Direct(Direct::compile(direct, max, &at.field("direct_response"))?)
            }
            _ => return Err(at.problem("needs one of route, redirect, direct_response")),
        };
        Ok(Choice::One(self.matched(action, None, at)?))
    }

    fn forward(&self, config: &RouteAction, at: &Path<'_>) -> Result<Choice, Problem> {
        let table = self.host.table;
        let at_action = at.field("route");
        let to = match &config.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => {
                table.cluster(name, "unknown cluster", &at_action.field("cluster"))?
            }
            Some(ClusterSpecifier::ClusterHeader(name)) => {
                To::Header(Field::parse(name, &at_action.field("cluster_header"))?)
            }
            Some(ClusterSpecifier::WeightedClusters(weighted)) => return self.weighted(config, weighted, at),
            Some(
                ClusterSpecifier::ClusterSpecifierPlugin(_)
                | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
            ) => return Err(at_action.problem("cluster specifier plugins are not supported")),
            None => return Err(at_action.problem("needs one of cluster, cluster_header, weighted_clusters")),
        };
        let forward = Forward::compile(config, to, &self.criteria.path, &self.host.policies(), &at_action)?;
        Ok(Choice::One(self.matched(Action::Forward(Box::new(forward)), None, at)?))
    }

    fn weighted(
        &self,
        action: &RouteAction,
        config: &WeightedCluster,
        at: &Path<'_>,
    ) -> Result<Choice, Problem> {
        let at_action = at.field("route");
        let at_weighted = at_action.field("weighted_clusters");
        let parts = each(&config.clusters, &at_weighted, "clusters", |part, at_part| {
            let weight =
                part.weight.as_ref().ok_or_else(|| at_part.field("weight").problem("is required"))?;
            let to = self.weighted_to(part, at_part)?;
            let mut forward =
                Forward::compile(action, to, &self.criteria.path, &self.host.policies(), &at_action)?;
            if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &part.host_rewrite_specifier {
                let host = host_value(host, &at_part.field("host_rewrite_literal"))?;
                forward.weighted_host = Some(host);
            }
            let level =
                Level::compile(&level_fields!(part), &self.level.chain, at_part, self.host.table.context)?;
            let matched = self.matched(Action::Forward(Box::new(forward)), Some(&level), at)?;
            Ok((u64::from(weight.value), matched))
        })?;
        let total = parts.iter().map(|(weight, _)| weight).sum();
        if total == 0 || total > u64::from(u32::MAX) {
            let at = at_weighted.field("clusters");
            return Err(
                at.problem("Sum of weights in the weighted_cluster must be greater than 0 and fit 32 bits")
            );
        }
        let random = match &config.random_value_specifier {
            None => None,
            Some(RandomValueSpecifier::HeaderName(name)) if name.is_empty() => None,
            Some(RandomValueSpecifier::HeaderName(name)) => {
                Some(Field::parse(name, &at_weighted.field("header_name"))?)
            }
            Some(RandomValueSpecifier::UseHashPolicy(of)) if !of.value => None,
            Some(RandomValueSpecifier::UseHashPolicy(_)) => {
                return Err(at_weighted.field("use_hash_policy").problem("is not supported"));
            }
        };
        Ok(Choice::Weighted { random, total, parts })
    }

    fn weighted_to(&self, config: &ClusterWeight, at: &Path<'_>) -> Result<To, Problem> {
        let table = self.host.table;
        match (config.name.as_str(), config.cluster_header.as_str()) {
            ("", "") => Err(at.problem("At least one of name or cluster_header need to be specified")),
            ("", header) => Ok(To::Header(Field::parse(header, &at.field("cluster_header"))?)),
            (name, "") => table.cluster(name, "unknown weighted cluster", &at.field("name")),
            _ => Err(at.problem("Only one of name or cluster_header can be specified")),
        }
    }

    /// `weighted` is what a part of a weighted cluster says, which comes first.
    fn matched(
        &self,
        action: Action,
        weighted: Option<&Level>,
        at: &Path<'_>,
    ) -> Result<Arc<Matched>, Problem> {
        let (config, host, table) = (self.config, self.host, self.host.table);
        let of_route = match &config.action {
            Some(ActionConfig::Route(forward)) => forward.cors.as_ref(),
            _ => None,
        };
        let cors = merged_cors(of_route, host.config.cors.as_ref());
        let cors = Overrides::of_cors(cors.as_ref(), table.chain, at, table.context)?;
        let mut levels = vec![&self.level, &host.level, &table.level];
        let filters: Vec<_> = weighted
            .into_iter()
            .chain(levels.iter().copied())
            .map(|level| &level.filters)
            .chain([&cors])
            .collect();
        let filters = overlay(table.chain, &filters);
        if table.config.most_specific_header_mutations_wins {
            levels.reverse();
        }
        let rules = |of: fn(&Level) -> &Arc<HeaderRules>| {
            let rules = weighted.into_iter().chain(levels.iter().copied()).map(of);
            rules.filter(|rules| !rules.is_empty()).cloned().collect()
        };
        Ok(Arc::new(Matched {
            name: config.name.clone(),
            virtual_host: host.shared.clone(),
            action,
            filters,
            metadata: value::metadata(config.metadata.as_ref()),
            tracing: RouteTracing::compile(config.tracing.as_ref(), &at.field("tracing"))?,
            decorator: config.decorator.as_ref().map(Decorator::compile),
            attempts_in_request: host.config.include_request_attempt_count,
            attempts_in_response: host.config.include_attempt_count_in_response,
            timeout_retry_header: host.config.include_is_timeout_retry_header,
            request_kept: kept(config.per_request_buffer_limit_bytes, config.request_body_buffer_limit)
                .or_else(|| {
                    kept(host.config.per_request_buffer_limit_bytes, host.config.request_body_buffer_limit)
                }),
            request_rules: rules(|level| &level.request),
            response_rules: rules(|level| &level.response),
        }))
    }
}

/// How much is kept of a request; the newer field goes before the older one.
fn kept(older: Option<UInt32Value>, newer: Option<UInt64Value>) -> Option<usize> {
    let older = older.map(|most| u64::from(most.value));
    newer.map(|most| most.value).or(older).map(|most| usize::try_from(most).unwrap_or(usize::MAX))
}
