//! Headers that are set, added and removed, whatever the route.

use std::sync::Arc;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::HeaderMutation as MutationConfig;
use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as Config, HeaderMutationPerRoute, Mutations as MutationsConfig,
};
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderMap, HeaderName};

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::matcher::{StringMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::Reply;
use crate::route::HeaderRules;

/// The filter's own changes come first, then those of each level of the route.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMutation {
    own: Arc<Mutations>,
    /// The most general one first.
    levels: Vec<Arc<Mutations>>,
    most_specific_last: bool,
}

#[derive(Debug, Default)]
struct Mutations {
    request: Vec<Mutation>,
    response: Vec<Mutation>,
}

/// One change; the next one sees what it did.
#[derive(Debug)]
enum Mutation {
    Rule(HeaderRules),
    RemoveMatching(StringMatcher),
}

pub(crate) fn make(config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: Config = unpack(config, at)?;
    Ok(Arc::new(HeaderMutation {
        own: Mutations::compile(config.mutations.as_ref(), &at.field("mutations"))?,
        levels: Vec::new(),
        most_specific_last: config.most_specific_header_mutations_wins,
    }))
}

impl Filter for HeaderMutation {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        for mutation in self.in_order().flat_map(|mutations| &mutations.request) {
            match mutation {
                Mutation::Rule(rules) => rules.apply_request(call),
                Mutation::RemoveMatching(names) => remove_matching(names, &mut call.request.headers),
            }
        }
        Flow::Continue
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        for mutation in self.in_order().flat_map(|mutations| &mutations.response) {
            match mutation {
                Mutation::Rule(rules) => rules.apply_response(call, reply.status, &mut reply.headers),
                Mutation::RemoveMatching(names) => remove_matching(names, &mut reply.headers),
            }
        }
    }

    fn on_route(&self, config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
        let config: HeaderMutationPerRoute = unpack(config, at)?;
        let mut filter = self.clone();
        filter.levels.push(Mutations::compile(config.mutations.as_ref(), &at.field("mutations"))?);
        Ok(Arc::new(filter))
    }
}

impl HeaderMutation {
    fn in_order(&self) -> impl Iterator<Item = &Mutations> {
        let last = self.levels.len();
        let levels = (0..last).map(move |at| if self.most_specific_last { at } else { last - 1 - at });
        std::iter::once(&self.own).chain(levels.map(|at| &self.levels[at])).map(Arc::as_ref)
    }
}

impl Mutations {
    fn compile(config: Option<&MutationsConfig>, at: &Path<'_>) -> Result<Arc<Self>, Problem> {
        let Some(config) = config else { return Ok(Arc::default()) };
        for (field, set) in [
            ("query_parameter_mutations", !config.query_parameter_mutations.is_empty()),
            ("request_trailers_mutations", !config.request_trailers_mutations.is_empty()),
            ("response_trailers_mutations", !config.response_trailers_mutations.is_empty()),
        ] {
            if set {
                return Err(at.field(field).problem("is not supported: remove it"));
            }
        }
        Ok(Arc::new(Self {
            request: each(&config.request_mutations, at, "request_mutations", Mutation::compile)?,
            response: each(&config.response_mutations, at, "response_mutations", Mutation::compile)?,
        }))
    }
}

impl Mutation {
    fn compile(config: &MutationConfig, at: &Path<'_>) -> Result<Self, Problem> {
        let fields = ["append", "remove"];
        Ok(match &config.action {
            Some(Action::Append(option)) => {
                Self::Rule(HeaderRules::compile(std::slice::from_ref(option), &[], at, fields)?)
            }
            Some(Action::Remove(name)) => {
                Self::Rule(HeaderRules::compile(&[], std::slice::from_ref(name), at, fields)?)
            }
            Some(Action::RemoveOnMatch(on)) => {
                let at = at.field("remove_on_match");
                let at = at.field("key_matcher");
                let names = on.key_matcher.as_ref().ok_or_else(|| at.problem("is required"))?;
                Self::RemoveMatching(StringMatcher::compile(names, &at)?)
            }
            None => return Err(at.problem("needs one of append, remove, remove_on_match")),
        })
    }
}

fn remove_matching(names: &StringMatcher, headers: &mut HeaderMap) {
    let matching: Vec<HeaderName> =
        headers.keys().filter(|name| names.matches(name.as_str())).cloned().collect();
    for name in matching {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::RemoveOnMatch;
    use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher as StringConfig;
    use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    use http::HeaderValue;

    use super::*;

    fn level(name: &str) -> Arc<Mutations> {
        let removal = MutationConfig { action: Some(Action::Remove(name.into())) };
        let config = MutationsConfig { request_mutations: vec![removal], ..Default::default() };
        Mutations::compile(Some(&config), &Path::root()).unwrap()
    }

    #[test]
    fn levels_are_applied_in_the_order_that_the_filter_says() {
        let (own, host, route) = (level("x-own"), level("x-host"), level("x-route"));
        for (most_specific_last, expected) in [(false, [&own, &route, &host]), (true, [&own, &host, &route])]
        {
            let levels = vec![Arc::clone(&host), Arc::clone(&route)];
            let filter = HeaderMutation { own: Arc::clone(&own), levels, most_specific_last };
            let order: Vec<_> = filter.in_order().map(std::ptr::from_ref).collect();
            assert_eq!(order, expected.map(Arc::as_ptr));
        }
    }

    #[test]
    fn headers_are_removed_by_their_names() {
        let prefix =
            StringConfig { match_pattern: Some(MatchPattern::Prefix("x-in".into())), ignore_case: false };
        let action = Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(prefix) });
        let mutation = Mutation::compile(&MutationConfig { action: Some(action) }, &Path::root()).unwrap();
        let Mutation::RemoveMatching(names) = mutation else { panic!("another mutation") };
        let mut headers = HeaderMap::new();
        for name in ["x-internal", "x-inner", "x-outer"] {
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
        }
        remove_matching(&names, &mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-outer"]);
    }
}
