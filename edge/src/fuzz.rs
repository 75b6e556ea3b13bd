//! What is fuzzed: each function takes any bytes and panics where a promise is broken. `edge/fuzz` feeds them with what
//! libFuzzer makes up; the test below, with what is kept of that in `edge/fuzz/seeds`.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::{Message as _, Name as _};

use crate::call::Call;
use crate::consumers::Rosters;
use crate::downstream::path::PathRules;
use crate::filter::{self, Context, Filter, Flow, grpc_web};
use crate::matcher::{HeaderMatcher, PathMatch};
use crate::problem::Path;
use crate::stats::Stats;
use crate::upstream::Clusters;

/// The gRPC-Web decoder. What was encoded is decoded, and chunks make no difference: the first byte says how long they
/// are.
pub fn grpc_web(input: &[u8]) {
    let Some((size, input)) = input.split_first() else { return };
    let size = usize::from(*size) + 1;
    let decoded = decode(input, input.len().max(1));
    assert_eq!(decode(input, size), decoded, "in chunks of {size}");
    // Each chunk of a reply is padded on its own.
    let text: Vec<u8> = input.chunks(size).flat_map(grpc_web::encode_text).collect();
    assert_eq!(decode(&text, size).as_deref(), Some(input));
    let mut trailers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            trailers.append("grpc-message", value);
        }
    }
    let frame = grpc_web::trailer_frame(&trailers);
    let lines: Vec<_> = frame[5..].split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), trailers.len() + 1, "a value begins no line");
}

fn decode(text: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut decoder = grpc_web::TextDecoder::default();
    let decoded = text.chunks(size).map(|chunk| decoder.decode(chunk)).collect::<Option<Vec<Bytes>>>()?;
    decoder.is_complete().then(|| decoded.concat())
}

/// The loader of bootstraps, and what is made of what it lets pass.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match crate::bootstrap::load(text) {
        Ok(loaded) => drop(crate::gateway::validate(&loaded)),
        Err(problems) => assert!(!problems.is_empty(), "a refusal says why"),
    }
    drop(crate::bootstrap::migrate(text));
}

/// Header and path matchers: a letter for the kind, and then lines, a pattern and what it is held against.
pub fn matchers(input: &[u8]) {
    let Some((kind, lines)) = std::str::from_utf8(input).ok().and_then(|text| text.split_at_checked(1))
    else {
        return;
    };
    let mut lines = lines.split('\n');
    let Some(pattern) = lines.next() else { return };
    for line in lines {
        match_header(kind, pattern, line);
        match_path(kind, pattern, line);
        normalize(line);
    }
}

fn match_header(kind: &str, pattern: &str, value: &str) {
    let (name, value) = ("x-fuzz", HeaderValue::from_str(value));
    let Ok(value) = value else { return };
    let (text, invert) = (pattern.to_owned(), kind.chars().all(char::is_uppercase));
    let (rule, expected) = match kind.to_ascii_lowercase().as_str() {
        "e" => (MatchPattern::Exact(text), Some(value.as_bytes() == pattern.as_bytes())),
        "p" => (MatchPattern::Prefix(text), Some(value.as_bytes().starts_with(pattern.as_bytes()))),
        "s" => (MatchPattern::Suffix(text), Some(value.as_bytes().ends_with(pattern.as_bytes()))),
        _ => (MatchPattern::SafeRegex(RegexMatcher { regex: text, ..Default::default() }), None),
    };
    let rule = StringMatcher { match_pattern: Some(rule), ignore_case: false };
    let config = envoy_types::pb::envoy::config::route::v3::HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        header_match_specifier: Some(
            envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier::StringMatch(
                rule,
            ),
        ),
        ..Default::default()
    };
    let Ok(matcher) = HeaderMatcher::compile(&config, &Path::root()) else { return };
    let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
    let matches = matcher.matches(&headers);
    assert!(expected.is_none_or(|expected| matches == (expected != invert)), "{config:?} on {headers:?}");
}

fn match_path(kind: &str, pattern: &str, path: &str) {
    let text = pattern.to_owned();
    let specifier = match kind.to_ascii_lowercase().as_str() {
        "e" => PathSpecifier::Path(text),
        "p" => PathSpecifier::Prefix(text),
        "s" => PathSpecifier::PathSeparatedPrefix(text),
        _ => PathSpecifier::SafeRegex(RegexMatcher { regex: text, ..Default::default() }),
    };
    let insensitive = kind.chars().all(char::is_uppercase);
    let config = RouteMatch {
        path_specifier: Some(specifier),
        case_sensitive: Some(BoolValue { value: !insensitive }),
        ..Default::default()
    };
    let Ok(matcher) = PathMatch::compile(&config, &Path::root()) else { return };
    if matcher.matches(path) {
        let begin = path.get(..matcher.matched_len(path)).expect("a part of the path");
        let is_whole =
            config.path_specifier.as_ref().is_some_and(|it| matches!(it, PathSpecifier::SafeRegex(_)));
        assert!(is_whole || begin.eq_ignore_ascii_case(pattern), "{config:?} on {path}");
    }
}

/// A path in one form has nothing left that leads elsewhere.
fn normalize(path: &str) {
    let config = HttpConnectionManager {
        normalize_path: Some(BoolValue { value: true }),
        merge_slashes: true,
        path_with_escaped_slashes_action: 4,
        ..Default::default()
    };
    let Ok(path) = path.parse::<PathAndQuery>() else { return };
    let Ok(normal) = PathRules::compile(&config).path(&path, true) else { return };
    let normal = normal.as_ref().unwrap_or(&path);
    assert!(normal.path().starts_with('/') && !normal.path().contains("//"), "{path} became {normal}");
    assert!(normal.path().split('/').all(|part| part != "." && part != ".."), "{path} became {normal}");
    assert_eq!(normal.query(), path.query());
}

/// What the filter for JSON web tokens takes: one token, however it is written.
pub fn jwt(input: &[u8]) {
    thread_local!(static FILTER: OnceCell<Arc<dyn Filter>> = const { OnceCell::new() });
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let mut call = Call::sample("GET", "shop.example", "/", &[]);
    call.request.headers.insert(AUTHORIZATION, value);
    FILTER.with(|filter| {
        if let Flow::Continue = filter.get_or_init(jwt_filter).request(&mut call) {
            let (signed, _) = TOKEN.rsplit_once('.').expect("three parts");
            assert!(String::from_utf8_lossy(input).contains(signed), "a token that nobody signed");
        }
    });
}

const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"ec","alg":"ES256","use":"sig","x":"RS-yulHxagmFDOZW6Ovj439to64wp6xf0nXtdmdLD8k","y":"w8EPHhjolEupnfwU8ARQDNIyx7PcSwkI8nBs-AHiZkw"}]}"#;
/// The only token that its key has signed, valid until 2100.
const TOKEN: &str = include_str!("../fuzz/seeds/jwt/token");

fn jwt_filter() -> Arc<dyn Filter> {
    let keys = DataSource { specifier: Some(Specifier::InlineString(KEYS.to_owned())), ..Default::default() };
    let provider = jwt::JwtProvider {
        issuer: "https://login.shop.example".to_owned(),
        jwks_source_specifier: Some(jwt::jwt_provider::JwksSourceSpecifier::LocalJwks(keys)),
        ..Default::default()
    };
    let requires = jwt::JwtRequirement {
        requires_type: Some(jwt::jwt_requirement::RequiresType::ProviderName("shop".to_owned())),
    };
    let everything =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let rule = jwt::RequirementRule {
        r#match: Some(everything),
        requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(requires)),
    };
    let config = jwt::JwtAuthentication {
        providers: [("shop".to_owned(), provider)].into(),
        rules: vec![rule],
        ..Default::default()
    };
    let any = Any { type_url: jwt::JwtAuthentication::type_url(), value: config.encode_to_vec() };
    let (stats, clusters, rosters) = (Stats::default(), Arc::new(Clusters::default()), Rosters::default());
    let stats = stats.scope("http.fuzz");
    let context = Context { clusters: &clusters, stats: &stats, rosters: &rosters, node_cluster: "" };
    let made = filter::make(&any, &Path::root(), &context, false);
    made.expect("a configuration").expect("a filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_stays_mended() {
        let targets: [(&str, fn(&[u8])); 4] =
            [("grpc_web", grpc_web), ("config", config), ("matchers", matchers), ("jwt", jwt)];
        for (name, target) in targets {
            let seeds = format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut count = 0;
            for seed in std::fs::read_dir(seeds).unwrap() {
                let input = std::fs::read(seed.unwrap().path()).unwrap();
                target(&input);
                // And what is close to it.
                for at in (0..input.len()).step_by(input.len() / 16 + 1) {
                    target(&input[..at]);
                    let mut changed = input.clone();
                    changed[at] ^= 1;
                    target(&changed);
                }
                count += 1;
            }
            assert!(count > 0, "{name} has seeds");
        }
    }
}
