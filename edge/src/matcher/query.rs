//! Envoy's `QueryParameterMatcher`.

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3 as pb;
use pb::query_parameter_matcher::QueryParameterMatchSpecifier;

use super::StringMatcher;
use crate::problem::{Path, Problem};

/// What a query parameter has to look like.
#[derive(Clone, Debug)]
pub(crate) struct QueryParameterMatcher {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Text(StringMatcher),
    Present(bool),
}

impl QueryParameterMatcher {
    pub(crate) fn compile(config: &pb::QueryParameterMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        if config.name.is_empty() || config.name.len() > 1024 {
            return Err(at.field("name").problem("must be 1 to 1024 bytes"));
        }
        let kind = match &config.query_parameter_match_specifier {
            None => Kind::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => Kind::Present(*present),
            Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
                Kind::Text(StringMatcher::compile(text, &at.field("string_match"))?)
            }
        };
        Ok(Self { name: config.name.clone(), kind })
    }

    /// Of several parameters of the name, the first counts; it is compared as it is written.
    pub(crate) fn matches(&self, query: &str) -> bool {
        let value = parameter(query, &self.name);
        match &self.kind {
            Kind::Present(present) => *present == value.is_some(),
            Kind::Text(text) => value.is_some_and(|value| text.matches(value)),
        }
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// The first value of a query parameter, percent-decoded.
pub(crate) fn decoded_parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(digits) if first == b'%' => {
                decoded.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                rest = &after[2..];
            }
            _ => decoded.push(first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3 as text;
    use text::string_matcher::MatchPattern;

    use super::*;

    #[test]
    fn parameters_match_as_envoy_matches_them() {
        use QueryParameterMatchSpecifier::{PresentMatch, StringMatch};
        let exact = |text: &str| {
            StringMatch(text::StringMatcher {
                match_pattern: Some(MatchPattern::Exact(text.into())),
                ignore_case: false,
            })
        };
        for (name, rule, query, expected) in [
            ("a", None, "a", true),
            ("a", None, "a=", true),
            ("a", None, "b=a", false),
            ("a", Some(PresentMatch(true)), "b=1&a=2", true),
            ("a", Some(PresentMatch(false)), "b=1", true),
            ("a", Some(exact("1")), "a=1&a=2", true),
            ("a", Some(exact("2")), "a=1&a=2", false),
            ("a", Some(exact("")), "a", true),
            ("a", Some(exact("x y")), "a=x%20y", false),
        ] {
            let config = pb::QueryParameterMatcher {
                name: name.into(),
                query_parameter_match_specifier: rule.clone(),
            };
            let matcher = QueryParameterMatcher::compile(&config, &Path::root()).unwrap();
            assert_eq!(matcher.matches(query), expected, "{config:?} on {query}");
        }
    }

    #[test]
    fn parameters_are_decoded_where_their_value_is_wanted() {
        for (query, expected) in
            [("a=x%20y", Some("x y")), ("%61=1", Some("1")), ("a=%zz", Some("%zz")), ("b", None)]
        {
            assert_eq!(decoded_parameter(query, "a").as_deref(), expected, "{query}");
        }
    }
}
