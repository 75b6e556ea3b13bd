//! The chain of filters as a route overrides it.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{CorsPolicy as LegacyCors, FilterConfig, cors_policy};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use crate::bootstrap::type_name;
use crate::filter::{Context, Filter};
use crate::problem::{Path, Problem};

/// One filter of a listener's chain.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) type_url: String,
    pub(crate) filter: Arc<dyn Filter>,
    /// Off unless a route turns it on.
    pub(crate) disabled: bool,
}

/// What one level of a configuration says of some filters, by their names.
#[derive(Debug, Default)]
pub(super) struct Overrides(HashMap<String, Override>);

#[derive(Debug)]
struct Override {
    /// None: the filter as a less specific level has it.
    filter: Option<Arc<dyn Filter>>,
    disabled: bool,
}

impl Overrides {
    /// Names that are no filter of the chain are passed over, as Envoy does.
    pub(super) fn compile(
        config: &HashMap<String, Any>,
        chain: &[Link],
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let at = at.field("typed_per_filter_config");
        let mut overrides = HashMap::new();
        for link in chain {
            if let Some(config) = config.get(&link.name) {
                overrides.insert(
                    link.name.clone(),
                    Override::compile(config, link, &at.key(&link.name), context)?,
                );
            }
        }
        Ok(Self(overrides))
    }

    /// The deprecated `cors` of routes and virtual hosts, for the filter that reads the new form.
    pub(super) fn of_cors(
        config: Option<&LegacyCors>,
        chain: &[Link],
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let Some(config) = config else { return Ok(Self::default()) };
        let policy = cors_policy(config);
        let policy = Any { type_url: CorsPolicy::type_url(), value: policy.encode_to_vec() };
        let mut overrides = HashMap::new();
        for link in chain.iter().filter(|link| type_name(&link.type_url) == Cors::full_name()) {
            let filter = Some(link.filter.on_route(&policy, &at.field("cors"), context)?);
            overrides.insert(link.name.clone(), Override { filter, disabled: link.disabled });
        }
        Ok(Self(overrides))
    }
}

impl Override {
    fn compile(config: &Any, link: &Link, at: &Path<'_>, context: &Context<'_>) -> Result<Self, Problem> {
        if type_name(&config.type_url) != FilterConfig::full_name() {
            let filter = Some(link.filter.on_route(config, at, context)?);
            return Ok(Self { filter, disabled: false });
        }
        let config = FilterConfig::decode(config.value.as_slice())
            .map_err(|error| at.problem(format!("cannot be read: {error}")))?;
        match &config.config {
            _ if config.disabled => Ok(Self { filter: None, disabled: true }),
            None => Err(at.field("config").problem("is required unless disabled is true")),
            Some(config) if config.type_url.is_empty() => Ok(Self { filter: None, disabled: false }),
            Some(config) => {
                let filter = Some(link.filter.on_route(config, &at.field("config"), context)?);
                Ok(Self { filter, disabled: false })
            }
        }
    }
}

/// The chain under overrides, the most specific of them first.
pub(super) fn overlay(chain: &[Link], levels: &[&Overrides]) -> Arc<[Arc<dyn Filter>]> {
    let filters = chain.iter().filter_map(|link| {
        let said = || levels.iter().filter_map(|level| level.0.get(&link.name));
        let disabled = said().next().map_or(link.disabled, |most_specific| most_specific.disabled);
        let filter = said().find_map(|said| said.filter.as_ref()).unwrap_or(&link.filter);
        (!disabled).then(|| filter.clone())
    });
    filters.collect()
}

/// The chain in which every filter that a level overrides is the one that it brings.
pub(super) fn stacked(chain: &[Link], level: &Overrides) -> Vec<Link> {
    let mut chain = chain.to_vec();
    for link in &mut chain {
        if let Some(filter) = level.0.get(&link.name).and_then(|said| said.filter.as_ref()) {
            link.filter = Arc::clone(filter);
        }
    }
    chain
}

/// A route's policy, with a virtual host's where it says nothing.
pub(super) fn merged_cors(
    route: Option<&LegacyCors>,
    virtual_host: Option<&LegacyCors>,
) -> Option<LegacyCors> {
    let (Some(route), Some(host)) = (route, virtual_host) else { return route.or(virtual_host).cloned() };
    let or = |own: &String, other: &String| if own.is_empty() { other.clone() } else { own.clone() };
    let mut merged = route.clone();
    if merged.allow_origin_string_match.is_empty() {
        merged.allow_origin_string_match.clone_from(&host.allow_origin_string_match);
    }
    merged.allow_methods = or(&route.allow_methods, &host.allow_methods);
    merged.allow_headers = or(&route.allow_headers, &host.allow_headers);
    merged.expose_headers = or(&route.expose_headers, &host.expose_headers);
    merged.max_age = or(&route.max_age, &host.max_age);
    merged.allow_credentials = route.allow_credentials.or(host.allow_credentials);
    merged.allow_private_network_access =
        route.allow_private_network_access.or(host.allow_private_network_access);
    merged.forward_not_matching_preflights =
        route.forward_not_matching_preflights.or(host.forward_not_matching_preflights);
    Some(merged)
}

fn cors_policy(config: &LegacyCors) -> CorsPolicy {
    let enabled = config.enabled_specifier.as_ref().map(|enabled| match enabled {
        cors_policy::EnabledSpecifier::FilterEnabled(fraction) => fraction.clone(),
    });
    CorsPolicy {
        allow_origin_string_match: config.allow_origin_string_match.clone(),
        allow_methods: config.allow_methods.clone(),
        allow_headers: config.allow_headers.clone(),
        expose_headers: config.expose_headers.clone(),
        max_age: config.max_age.clone(),
        allow_credentials: config.allow_credentials,
        filter_enabled: enabled,
        shadow_enabled: config.shadow_enabled.clone(),
        allow_private_network_access: config.allow_private_network_access,
        forward_not_matching_preflights: config.forward_not_matching_preflights,
    }
}
