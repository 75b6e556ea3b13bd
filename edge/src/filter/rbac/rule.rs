//! What a call, and who makes it, has to look like for a policy.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::rbac::v3::permission::Rule as PermissionRule;
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::{MetadataSource, Permission, Principal, SourcedMetadata};
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use envoy_types::pb::envoy::r#type::matcher::v3::path_matcher::Rule as PathRule;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    DoubleMatcher, MetadataMatcher, PathMatcher, ValueMatcher, double_matcher, list_matcher,
};
use serde_json::Value;

use crate::call::{Call, PeerCertificate};
use crate::format::lookup;
use crate::matcher::{Cidr, HeaderMatcher, StringMatcher, each};
use crate::problem::{Path, Problem};

/// A permission or a principal: they ask the same call.
#[derive(Debug)]
pub(super) enum Rule {
    Any,
    All(Vec<Rule>),
    Some(Vec<Rule>),
    Not(Box<Rule>),
    Header(HeaderMatcher),
    Path(StringMatcher),
    ServerName(StringMatcher),
    Destination(Cidr),
    Port(std::ops::Range<i64>),
    /// The client, wherever `x-forwarded-for` says it is.
    Remote(Cidr),
    /// The other end of the connection.
    DirectRemote(Cidr),
    /// Whoever has shown a certificate, or one of this name.
    Authenticated(Option<StringMatcher>),
    Metadata {
        of_route: bool,
        path: Vec<String>,
        value: Wanted,
        invert: bool,
    },
}

/// What a value of the metadata has to look like.
#[derive(Debug)]
pub(super) enum Wanted {
    Null,
    Number(std::ops::Range<f64>),
    ExactNumber(f64),
    Text(StringMatcher),
    Bool(bool),
    Present(bool),
    OneOf(Box<Wanted>),
    Or(Vec<Wanted>),
}

impl Rule {
    pub(super) fn of_permission(config: &Permission, at: &Path<'_>) -> Result<Self, Problem> {
        let rule = config.rule.as_ref().ok_or_else(|| at.problem("needs one rule"))?;
        Ok(match rule {
            PermissionRule::Any(true) => Self::Any,
            PermissionRule::Any(false) => return Err(at.field("any").problem("must be true")),
            PermissionRule::AndRules(set) => {
                Self::All(each(&set.rules, &at.field("and_rules"), "rules", Self::of_permission)?)
            }
            PermissionRule::OrRules(set) => {
                Self::Some(each(&set.rules, &at.field("or_rules"), "rules", Self::of_permission)?)
            }
            PermissionRule::NotRule(rule) => {
                Self::Not(Box::new(Self::of_permission(rule, &at.field("not_rule"))?))
            }
            PermissionRule::Header(header) => {
                Self::Header(HeaderMatcher::compile(header, &at.field("header"))?)
            }
            PermissionRule::UrlPath(path) => Self::Path(path_matcher(path, &at.field("url_path"))?),
            PermissionRule::DestinationIp(range) => {
                Self::Destination(Cidr::compile(range, &at.field("destination_ip"))?)
            }
            PermissionRule::DestinationPort(port) => Self::Port(i64::from(*port)..i64::from(*port) + 1),
            PermissionRule::DestinationPortRange(range) => Self::Port(range.start.into()..range.end.into()),
            PermissionRule::RequestedServerName(name) => {
                Self::ServerName(StringMatcher::compile(name, &at.field("requested_server_name"))?)
            }
            #[expect(deprecated, reason = "most files have the old form")]
            PermissionRule::Metadata(of) => Self::metadata(of, false, &at.field("metadata"))?,
            PermissionRule::SourcedMetadata(of) => Self::sourced(of, &at.field("sourced_metadata"))?,
            PermissionRule::Matcher(_) => return Err(at.field("matcher").problem("is not supported")),
            PermissionRule::UriTemplate(_) => {
                return Err(at
                    .field("uri_template")
                    .problem("is not supported: use url_path with safe_regex"));
            }
        })
    }

    pub(super) fn of_principal(config: &Principal, at: &Path<'_>) -> Result<Self, Problem> {
        let identifier = config.identifier.as_ref().ok_or_else(|| at.problem("needs one identifier"))?;
        Ok(match identifier {
            Identifier::Any(true) => Self::Any,
            Identifier::Any(false) => return Err(at.field("any").problem("must be true")),
            Identifier::AndIds(set) => {
                Self::All(each(&set.ids, &at.field("and_ids"), "ids", Self::of_principal)?)
            }
            Identifier::OrIds(set) => {
                Self::Some(each(&set.ids, &at.field("or_ids"), "ids", Self::of_principal)?)
            }
            Identifier::NotId(id) => Self::Not(Box::new(Self::of_principal(id, &at.field("not_id"))?)),
            Identifier::Authenticated(who) => {
                let at = at.field("authenticated");
                let at = at.field("principal_name");
                let name = who.principal_name.as_ref().map(|name| StringMatcher::compile(name, &at));
                Self::Authenticated(name.transpose()?)
            }
            #[expect(deprecated, reason = "most files have the old form")]
            Identifier::SourceIp(range) => Self::DirectRemote(Cidr::compile(range, &at.field("source_ip"))?),
            Identifier::DirectRemoteIp(range) => {
                Self::DirectRemote(Cidr::compile(range, &at.field("direct_remote_ip"))?)
            }
            Identifier::RemoteIp(range) => Self::Remote(Cidr::compile(range, &at.field("remote_ip"))?),
            Identifier::Header(header) => Self::Header(HeaderMatcher::compile(header, &at.field("header"))?),
            Identifier::UrlPath(path) => Self::Path(path_matcher(path, &at.field("url_path"))?),
            #[expect(deprecated, reason = "most files have the old form")]
            Identifier::Metadata(of) => Self::metadata(of, false, &at.field("metadata"))?,
            Identifier::SourcedMetadata(of) => Self::sourced(of, &at.field("sourced_metadata"))?,
            Identifier::FilterState(_) => return Err(at.field("filter_state").problem("is not supported")),
            Identifier::Custom(_) => return Err(at.field("custom").problem("is not supported")),
        })
    }

    fn sourced(config: &SourcedMetadata, at: &Path<'_>) -> Result<Self, Problem> {
        let at_matcher = at.field("metadata_matcher");
        let matcher = config.metadata_matcher.as_ref().ok_or_else(|| at_matcher.problem("is required"))?;
        Self::metadata(matcher, config.metadata_source() == MetadataSource::Route, &at_matcher)
    }

    fn metadata(config: &MetadataMatcher, of_route: bool, at: &Path<'_>) -> Result<Self, Problem> {
        let keys = each(&config.path, at, "path", |segment, at| match &segment.segment {
            Some(Segment::Key(key)) => Ok(key.clone()),
            None => Err(at.problem("needs a key")),
        })?;
        let at = at.field("value");
        let value = config.value.as_ref().ok_or_else(|| at.problem("is required"))?;
        Ok(Self::Metadata {
            of_route,
            path: std::iter::once(config.filter.clone()).chain(keys).collect(),
            value: Wanted::compile(value, &at)?,
            invert: config.invert,
        })
    }

    pub(super) fn matches(&self, call: &Call) -> bool {
        let (connection, contains) =
            (&call.connection, |range: &Cidr, ip: IpAddr| range.contains(ip.to_canonical()));
        match self {
            Self::Any => true,
            Self::All(rules) => rules.iter().all(|rule| rule.matches(call)),
            Self::Some(rules) => rules.iter().any(|rule| rule.matches(call)),
            Self::Not(rule) => !rule.matches(call),
            Self::Header(header) => header.matches(&call.request),
            Self::Path(path) => path.matches(call.request.path_only()),
            Self::ServerName(name) => {
                let sni = connection.tls.as_ref().and_then(|tls| tls.sni.as_deref());
                name.matches(sni.unwrap_or_default())
            }
            Self::Destination(range) => contains(range, connection.local.ip()),
            Self::Port(ports) => ports.contains(&i64::from(connection.local.port())),
            Self::Remote(range) => contains(range, call.remote.ip()),
            Self::DirectRemote(range) => contains(range, connection.remote.ip()),
            Self::Authenticated(name) => {
                let peer = connection.tls.as_ref().and_then(|tls| tls.peer.as_ref());
                peer.is_some_and(|peer| {
                    name.as_ref().is_none_or(|name| names(peer).any(|own| name.matches(own)))
                })
            }
            Self::Metadata { of_route, path, value, invert } => {
                let route = || call.route.as_ref().map(|route| &route.metadata);
                let metadata = if *of_route { route() } else { Some(&call.metadata) };
                value.matches(metadata.and_then(|metadata| lookup(metadata, path))) != *invert
            }
        }
    }
}

/// The names of a certificate, the most telling first.
fn names(peer: &PeerCertificate) -> impl Iterator<Item = &str> {
    peer.uris.iter().chain(&peer.dns).chain([&peer.subject]).map(String::as_str)
}

fn path_matcher(config: &PathMatcher, at: &Path<'_>) -> Result<StringMatcher, Problem> {
    let at = at.field("path");
    match &config.rule {
        Some(PathRule::Path(path)) => StringMatcher::compile(path, &at),
        None => Err(at.problem("is required")),
    }
}

impl Wanted {
    fn compile(config: &ValueMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(match config.match_pattern.as_ref().ok_or_else(|| at.problem("needs one pattern"))? {
            MatchPattern::NullMatch(_) => Self::Null,
            MatchPattern::DoubleMatch(number) => Self::number(number, &at.field("double_match"))?,
            MatchPattern::StringMatch(text) => {
                Self::Text(StringMatcher::compile(text, &at.field("string_match"))?)
            }
            MatchPattern::BoolMatch(wanted) => Self::Bool(*wanted),
            MatchPattern::PresentMatch(wanted) => Self::Present(*wanted),
            MatchPattern::ListMatch(list) => {
                let at = at.field("list_match");
                match &list.match_pattern {
                    Some(list_matcher::MatchPattern::OneOf(wanted)) => {
                        Self::OneOf(Box::new(Self::compile(wanted, &at.field("one_of"))?))
                    }
                    None => return Err(at.problem("needs one_of")),
                }
            }
            MatchPattern::OrMatch(or) => {
                Self::Or(each(&or.value_matchers, &at.field("or_match"), "value_matchers", Self::compile)?)
            }
        })
    }

    fn number(config: &DoubleMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        match &config.match_pattern {
            Some(double_matcher::MatchPattern::Range(range)) => Ok(Self::Number(range.start..range.end)),
            Some(double_matcher::MatchPattern::Exact(number)) => Ok(Self::ExactNumber(*number)),
            None => Err(at.problem("needs one of range, exact")),
        }
    }

    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::Or(wanted), value) => wanted.iter().any(|wanted| wanted.matches(value)),
            (Self::Null, Some(Value::Null)) => true,
            (Self::Number(range), Some(Value::Number(number))) => {
                number.as_f64().is_some_and(|number| range.contains(&number))
            }
            (Self::ExactNumber(wanted), Some(Value::Number(number))) => {
                number.as_f64().is_some_and(|number| number.total_cmp(wanted).is_eq())
            }
            (Self::Text(wanted), Some(Value::String(text))) => wanted.matches(text),
            (Self::Bool(wanted), Some(Value::Bool(found))) => wanted == found,
            (Self::OneOf(wanted), Some(Value::Array(values))) => {
                values.iter().any(|value| wanted.matches(Some(value)))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envoy_types::pb::envoy::config::core::v3::CidrRange;
    use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Set};
    use envoy_types::pb::envoy::r#type::matcher::v3 as text;
    use envoy_types::pb::google::protobuf::UInt32Value;
    use http::uri::{PathAndQuery, Scheme};
    use http::{HeaderMap, HeaderValue, Method, Version};
    use serde_json::json;

    use super::*;
    use crate::body::Source;
    use crate::call::{Connection, TlsFacts};
    use crate::clock::Meter;
    use crate::head::Head;

    fn call() -> Call {
        let peer = PeerCertificate {
            uris: vec!["spiffe://omnimesh.test/pos".into()],
            dns: vec!["pos.test".into()],
            subject: "CN=pos".into(),
            ..PeerCertificate::default()
        };
        let tls = TlsFacts { sni: Some("edge.test".into()), peer: Some(peer), ..TlsFacts::default() };
        let connection = Connection {
            id: 1,
            chain: "".into(),
            remote: "127.0.0.1:1000".parse().unwrap(),
            local: "127.0.0.2:443".parse().unwrap(),
            tls: Some(tls),
        };
        let head = Head {
            method: Method::GET,
            scheme: Scheme::HTTPS,
            authority: HeaderValue::from_static("edge.test"),
            path: PathAndQuery::from_static("/orders/1?all=true"),
            headers: HeaderMap::new(),
        };
        let meter = Arc::new(Meter::new(true));
        let mut call = Call::new(head, Source::Empty, meter, Version::HTTP_2, Arc::new(connection));
        call.remote = "8.8.8.8:1".parse().unwrap();
        call.note("claims", "token", json!({"sub": "clerk-7", "age": 7, "roles": ["clerk", "buyer"]}));
        call
    }

    fn exact(text: &str) -> text::StringMatcher {
        let match_pattern = Some(text::string_matcher::MatchPattern::Exact(text.into()));
        text::StringMatcher { match_pattern, ignore_case: false }
    }

    fn network(prefix: &str, len: u32) -> CidrRange {
        CidrRange { address_prefix: prefix.into(), prefix_len: Some(UInt32Value { value: len }) }
    }

    fn principal(identifier: Identifier) -> Principal {
        Principal { identifier: Some(identifier) }
    }

    fn named(name: &str) -> Identifier {
        Identifier::Authenticated(Authenticated { principal_name: Some(exact(name)) })
    }

    #[test]
    fn principals_are_known_by_certificate_and_address() {
        let call = call();
        let both = vec![principal(Identifier::Any(true)), principal(named("another"))];
        for (identifier, expected) in [
            (Identifier::Any(true), true),
            (named("spiffe://omnimesh.test/pos"), true),
            (named("pos.test"), true),
            (named("CN=pos"), true),
            (named("spiffe://omnimesh.test/shop"), false),
            (Identifier::Authenticated(Authenticated { principal_name: None }), true),
            (Identifier::RemoteIp(network("8.8.0.0", 16)), true),
            (Identifier::DirectRemoteIp(network("8.8.0.0", 16)), false),
            (Identifier::DirectRemoteIp(network("127.0.0.0", 8)), true),
            (Identifier::AndIds(Set { ids: both.clone() }), false),
            (Identifier::OrIds(Set { ids: both }), true),
            (Identifier::NotId(Box::new(principal(Identifier::Any(true)))), false),
        ] {
            let rule = Rule::of_principal(&principal(identifier.clone()), &Path::root()).unwrap();
            assert_eq!(rule.matches(&call), expected, "{identifier:?}");
        }
    }

    #[test]
    fn permissions_are_of_paths_ports_and_names() {
        use envoy_types::pb::envoy::r#type::v3::Int32Range;
        let call = call();
        let path =
            |path: &str| PermissionRule::UrlPath(PathMatcher { rule: Some(PathRule::Path(exact(path))) });
        for (rule, expected) in [
            (path("/orders/1"), true),
            (path("/orders/1?all=true"), false),
            (PermissionRule::DestinationPort(443), true),
            (PermissionRule::DestinationPortRange(Int32Range { start: 1, end: 443 }), false),
            (PermissionRule::DestinationIp(network("127.0.0.2", 32)), true),
            (PermissionRule::RequestedServerName(exact("edge.test")), true),
        ] {
            let compiled =
                Rule::of_permission(&Permission { rule: Some(rule.clone()) }, &Path::root()).unwrap();
            assert_eq!(compiled.matches(&call), expected, "{rule:?}");
        }
    }

    #[test]
    fn metadata_is_what_other_filters_noted() {
        let call = call();
        let text = |value: &str| MatchPattern::StringMatch(exact(value));
        let one_of = |pattern| {
            let wanted = Box::new(ValueMatcher { match_pattern: Some(pattern) });
            let match_pattern = Some(list_matcher::MatchPattern::OneOf(wanted));
            MatchPattern::ListMatch(Box::new(text::ListMatcher { match_pattern }))
        };
        let older = MatchPattern::DoubleMatch(DoubleMatcher {
            match_pattern: Some(double_matcher::MatchPattern::Exact(7.0)),
        });
        for (key, pattern, invert, expected) in [
            ("sub", text("clerk-7"), false, true),
            ("sub", text("chief"), false, false),
            ("sub", text("chief"), true, true),
            ("none", text("chief"), false, false),
            ("none", MatchPattern::PresentMatch(false), false, true),
            ("roles", one_of(text("buyer")), false, true),
            ("roles", one_of(text("chief")), false, false),
            ("age", older, false, true),
        ] {
            let segment =
                |key: &str| text::metadata_matcher::PathSegment { segment: Some(Segment::Key(key.into())) };
            let config = MetadataMatcher {
                filter: "claims".into(),
                path: vec![segment("token"), segment(key)],
                value: Some(ValueMatcher { match_pattern: Some(pattern.clone()) }),
                invert,
            };
            let rule = Rule::metadata(&config, false, &Path::root()).unwrap();
            assert_eq!(rule.matches(&call), expected, "{key} {pattern:?}");
        }
    }
}
