//! What a call counts towards: the descriptors of rate limits.

use envoy_types::pb::envoy::config::route::v3::RateLimit;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::{
    ActionSpecifier, MaskedRemoteAddress, MetaData, RemoteAddressMatch, meta_data,
};
use envoy_types::pb::envoy::config::route::v3::rate_limit::{self, r#override};
use envoy_types::pb::envoy::r#type::metadata::v3::MetadataKey;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use ipnet::IpNet;
use serde_json::Value;

use crate::call::Call;
use crate::format::{Facts, Format, lookup};
use crate::head::{Field, Fields};
use crate::matcher::{Cidr, HeaderMatcher, QueryParameterMatcher, decoded_parameter, each};
use crate::problem::{Path, Problem};

/// Something that is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Descriptor {
    pub(crate) entries: Vec<(String, String)>,
    /// In place of the limit that the service knows.
    pub(crate) limit: Option<Limit>,
    pub(crate) hits_addend: Option<i64>,
}

/// So many requests in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) requests_per_unit: u32,
    pub(crate) unit: RateLimitUnit,
}

/// What one `rate_limits` entry makes of a call.
#[derive(Debug)]
pub(crate) struct RateLimitRule {
    pub(crate) stage: u32,
    /// Counted when the call has ended, rather than asked before it goes up.
    pub(crate) on_stream_done: bool,
    actions: Vec<Action>,
    limit: Option<Override>,
    hits: Option<Hits>,
}

#[derive(Debug)]
enum Action {
    SourceCluster,
    DestinationCluster,
    Header { name: Field, key: String, skip_if_absent: bool },
    Parameter { name: String, key: String, skip_if_absent: bool },
    RemoteAddress,
    MaskedRemoteAddress { v4: u8, v6: u8 },
    Fixed { key: String, value: String },
    HeaderMatch { entry: (String, String), expect: bool, headers: Vec<HeaderMatcher> },
    ParameterMatch { entry: (String, String), expect: bool, parameters: Vec<QueryParameterMatcher> },
    RemoteAddressMatch { key: String, value: Format, default: String, networks: Vec<Cidr>, invert: bool },
    Metadata { key: String, of_route: bool, path: Vec<String>, default: String, skip_if_absent: bool },
}

#[derive(Debug)]
enum Override {
    Fixed(Limit),
    Metadata(Vec<String>),
}

#[derive(Debug)]
enum Hits {
    Fixed(i64),
    Format { format: Format, negative: bool },
}

/// What an action adds to a descriptor.
enum Entry {
    Add(String, String),
    Nothing,
    /// There is no descriptor without it.
    Missing,
}

impl RateLimitRule {
    pub(crate) fn compile(config: &RateLimit, at: &Path<'_>) -> Result<Self, Problem> {
        let stage = config.stage.as_ref().map_or(0, |stage| stage.value);
        Ok(Self {
            stage,
            on_stream_done: config.apply_on_stream_done,
            actions: each(&config.actions, at, "actions", Action::compile)?,
            limit: match &config.limit {
                Some(limit) => Some(Override::compile(limit, &at.field("limit"))?),
                None => None,
            },
            hits: match &config.hits_addend {
                Some(hits) => Hits::compile(hits, &at.field("hits_addend"))?,
                None => None,
            },
        })
    }

    /// What the call counts towards; `source_cluster` is the node's own cluster.
    pub(crate) fn descriptor(&self, call: &Call, source_cluster: &str) -> Option<Descriptor> {
        let mut descriptor = Descriptor::default();
        for action in &self.actions {
            match action.entry(call, source_cluster) {
                Entry::Add(key, value) => descriptor.entries.push((key, value)),
                Entry::Nothing => {}
                Entry::Missing => return None,
            }
        }
        descriptor.limit = self.limit.as_ref().and_then(|limit| limit.of(call));
        descriptor.hits_addend = match &self.hits {
            None => None,
            Some(hits) => Some(hits.of(call)?),
        };
        Some(descriptor)
    }
}

impl Action {
    fn compile(config: &rate_limit::Action, at: &Path<'_>) -> Result<Self, Problem> {
        let specifier = config.action_specifier.as_ref();
        Ok(match specifier.ok_or_else(|| at.problem("needs one action"))? {
            ActionSpecifier::SourceCluster(_) => Self::SourceCluster,
            ActionSpecifier::DestinationCluster(_) => Self::DestinationCluster,
            ActionSpecifier::RequestHeaders(header) => {
                let at = at.field("request_headers");
                Self::Header {
                    name: Field::parse(&header.header_name, &at.field("header_name"))?,
                    key: header.descriptor_key.clone(),
                    skip_if_absent: header.skip_if_absent,
                }
            }
            ActionSpecifier::QueryParameters(parameter) => Self::Parameter {
                name: parameter.query_parameter_name.clone(),
                key: parameter.descriptor_key.clone(),
                skip_if_absent: parameter.skip_if_absent,
            },
            ActionSpecifier::RemoteAddress(_) => Self::RemoteAddress,
            ActionSpecifier::MaskedRemoteAddress(masked) => {
                Self::masked(masked, &at.field("masked_remote_address"))?
            }
            ActionSpecifier::GenericKey(generic) => Self::Fixed {
                key: or(&generic.descriptor_key, "generic_key"),
                value: generic.descriptor_value.clone(),
            },
            ActionSpecifier::HeaderValueMatch(matched) => Self::HeaderMatch {
                entry: (or(&matched.descriptor_key, "header_match"), matched.descriptor_value.clone()),
                expect: matched.expect_match.as_ref().is_none_or(|expect| expect.value),
                headers: each(
                    &matched.headers,
                    &at.field("header_value_match"),
                    "headers",
                    HeaderMatcher::compile,
                )?,
            },
            ActionSpecifier::QueryParameterValueMatch(matched) => Self::ParameterMatch {
                entry: (or(&matched.descriptor_key, "query_match"), matched.descriptor_value.clone()),
                expect: matched.expect_match.as_ref().is_none_or(|expect| expect.value),
                parameters: each(
                    &matched.query_parameters,
                    &at.field("query_parameter_value_match"),
                    "query_parameters",
                    QueryParameterMatcher::compile,
                )?,
            },
            ActionSpecifier::RemoteAddressMatch(matched) => {
                Self::address_match(matched, &at.field("remote_address_match"))?
            }
            ActionSpecifier::Metadata(metadata) => Self::metadata(metadata, &at.field("metadata"))?,
            _ => return Err(at.problem("this action is not supported")),
        })
    }

    fn masked(config: &MaskedRemoteAddress, at: &Path<'_>) -> Result<Self, Problem> {
        let len = |len: Option<u32>, max: u8, field: &str| {
            let len = u8::try_from(len.unwrap_or(max.into())).ok().filter(|len| *len <= max);
            len.ok_or_else(|| at.field(field).problem(format!("must be 0 to {max}")))
        };
        let v4 = config.v4_prefix_mask_len.as_ref().map(|len| len.value);
        let v6 = config.v6_prefix_mask_len.as_ref().map(|len| len.value);
        Ok(Self::MaskedRemoteAddress {
            v4: len(v4, 32, "v4_prefix_mask_len")?,
            v6: len(v6, 128, "v6_prefix_mask_len")?,
        })
    }

    fn address_match(config: &RemoteAddressMatch, at: &Path<'_>) -> Result<Self, Problem> {
        let at_matcher = at.field("address_matcher");
        let networks = config.address_matcher.as_ref().ok_or_else(|| at_matcher.problem("is required"))?;
        Ok(Self::RemoteAddressMatch {
            key: or(&config.descriptor_key, "remote_address_match"),
            value: Format::parse(&config.descriptor_value, &at.field("descriptor_value"))?,
            default: config.default_value.clone(),
            networks: each(&networks.ranges, &at_matcher, "ranges", Cidr::compile_xds)?,
            invert: networks.invert_match,
        })
    }

    fn metadata(config: &MetaData, at: &Path<'_>) -> Result<Self, Problem> {
        let of_route = match config.source() {
            meta_data::Source::Dynamic => false,
            meta_data::Source::RouteEntry => true,
            _ => return Err(at.field("source").problem("supported are DYNAMIC and ROUTE_ENTRY")),
        };
        Ok(Self::Metadata {
            key: config.descriptor_key.clone(),
            of_route,
            path: metadata_path(config.metadata_key.as_ref(), &at.field("metadata_key"))?,
            default: config.default_value.clone(),
            skip_if_absent: config.skip_if_absent,
        })
    }

    fn entry(&self, call: &Call, source_cluster: &str) -> Entry {
        let add = |key: &str, value: String| Entry::Add(key.to_owned(), value);
        let when = |holds: bool, (key, value): &(String, String)| match holds {
            true => Entry::Add(key.clone(), value.clone()),
            false => Entry::Missing,
        };
        let absent = |skip: bool| if skip { Entry::Nothing } else { Entry::Missing };
        let query = || call.request.path.query().unwrap_or_default();
        match self {
            Self::SourceCluster => add("source_cluster", source_cluster.to_owned()),
            Self::DestinationCluster => {
                match call.route.as_ref().and_then(|route| route.forward()?.cluster(call)) {
                    Some(name) => add("destination_cluster", name.into_owned()),
                    None => Entry::Missing,
                }
            }
            Self::Header { name, key, skip_if_absent } => match call.request.first(name) {
                Some(value) => add(key, String::from_utf8_lossy(value).into_owned()),
                None => absent(*skip_if_absent),
            },
            Self::Parameter { name, key, skip_if_absent } => match decoded_parameter(query(), name) {
                Some(value) => add(key, value.into_owned()),
                None => absent(*skip_if_absent),
            },
            Self::RemoteAddress => add("remote_address", call.remote.ip().to_string()),
            Self::MaskedRemoteAddress { v4, v6 } => {
                let ip = call.remote.ip();
                match IpNet::new(ip, if ip.is_ipv4() { *v4 } else { *v6 }) {
                    Ok(network) => add("masked_remote_address", network.trunc().to_string()),
                    Err(_) => Entry::Missing,
                }
            }
            Self::Fixed { key, value } => add(key, value.clone()),
            Self::HeaderMatch { entry, expect, headers } => {
                when(headers.iter().all(|header| header.matches(&call.request)) == *expect, entry)
            }
            Self::ParameterMatch { entry, expect, parameters } => {
                when(parameters.iter().all(|parameter| parameter.matches(query())) == *expect, entry)
            }
            Self::RemoteAddressMatch { key, value, default, networks, invert } => {
                if networks.iter().any(|network| network.contains(call.remote.ip())) == *invert {
                    return Entry::Missing;
                }
                match value.text(Facts::of_request(call)).into_owned() {
                    value if !value.is_empty() => add(key, value),
                    _ if !default.is_empty() => add(key, default.clone()),
                    _ => Entry::Missing,
                }
            }
            Self::Metadata { key, of_route, path, default, skip_if_absent } => {
                let route = || call.route.as_ref().map(|route| &route.metadata);
                let metadata = if *of_route { route() } else { Some(&call.metadata) };
                let found = metadata.and_then(|metadata| lookup(metadata, path)).and_then(Value::as_str);
                match found.filter(|found| !found.is_empty()).unwrap_or(default) {
                    "" => absent(*skip_if_absent),
                    value => add(key, value.to_owned()),
                }
            }
        }
    }
}

impl Override {
    fn compile(config: &rate_limit::Override, at: &Path<'_>) -> Result<Self, Problem> {
        match &config.override_specifier {
            Some(r#override::OverrideSpecifier::DynamicMetadata(of)) => {
                let at = at.field("dynamic_metadata");
                let at = at.field("metadata_key");
                metadata_path(of.metadata_key.as_ref(), &at).map(Self::Metadata)
            }
            Some(r#override::OverrideSpecifier::RateLimit(limit)) => {
                Ok(Self::Fixed(Limit { requests_per_unit: limit.requests_per_unit, unit: limit.unit() }))
            }
            None => Err(at.problem("needs one of dynamic_metadata, rate_limit")),
        }
    }

    fn of(&self, call: &Call) -> Option<Limit> {
        match self {
            Self::Fixed(limit) => Some(*limit),
            Self::Metadata(path) => {
                let limit = lookup(&call.metadata, path)?;
                let requests = limit.get("requests_per_unit")?.as_u64()?;
                Some(Limit {
                    requests_per_unit: u32::try_from(requests).ok()?,
                    unit: RateLimitUnit::from_str_name(limit.get("unit")?.as_str()?)?,
                })
            }
        }
    }
}

impl Hits {
    const MAX: i64 = 1_000_000_000;

    fn compile(config: &rate_limit::HitsAddend, at: &Path<'_>) -> Result<Option<Self>, Problem> {
        let negative = config.is_negative_hits;
        match (&config.number, config.format.as_str()) {
            (None, "") => Ok(None),
            (Some(number), "") => {
                let hits = i64::try_from(number.value).unwrap_or(Self::MAX);
                Ok(Some(Self::Fixed(if negative { -hits } else { hits })))
            }
            (None, format) => {
                let format = Format::parse(format, &at.field("format"))?;
                Ok(Some(Self::Format { format, negative }))
            }
            (Some(_), _) => Err(at.problem("number and format exclude each other")),
        }
    }

    fn of(&self, call: &Call) -> Option<i64> {
        match self {
            Self::Fixed(hits) => Some(*hits),
            Self::Format { format, negative } => {
                let hits = format.text(Facts::of_ended(call)).parse().ok()?;
                let hits = Some(hits).filter(|hits| (0..=Self::MAX).contains(hits))?;
                Some(if *negative { -hits } else { hits })
            }
        }
    }
}

fn or(key: &str, default: &str) -> String {
    if key.is_empty() { default.to_owned() } else { key.to_owned() }
}

fn metadata_path(key: Option<&MetadataKey>, at: &Path<'_>) -> Result<Vec<String>, Problem> {
    let key = key.filter(|key| !key.key.is_empty()).ok_or_else(|| at.problem("needs a key"))?;
    let mut path = vec![key.key.clone()];
    path.extend(each(&key.path, at, "path", |segment, at| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.clone()),
        _ => Err(at.problem("needs a key")),
    })?);
    Ok(path)
}
