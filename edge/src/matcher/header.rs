//! Envoy's `HeaderMatcher` and `CookieMatcher`.

#![expect(deprecated, reason = "files that Envoy reads still have these fields")]

use envoy_types::pb::envoy::config::route::v3 as pb;
use pb::header_matcher::HeaderMatchSpecifier;

use super::{Pattern, StringMatcher};
use crate::head::{Field, Fields};
use crate::problem::{Path, Problem};

/// What a header has to look like; pseudo-headers are headers too.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMatcher {
    field: Field,
    kind: Kind,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Text(StringMatcher),
    Range(std::ops::Range<i64>),
    Present(bool),
}

impl HeaderMatcher {
    pub(crate) fn compile(config: &pb::HeaderMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        let field = Field::parse(&config.name, &at.field("name"))?;
        let kind = match &config.header_match_specifier {
            None => Kind::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Kind::Present(*present),
            Some(HeaderMatchSpecifier::StringMatch(text)) => {
                Kind::Text(StringMatcher::compile(text, &at.field("string_match"))?)
            }
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Kind::Range(range.start..range.end),
            // Of old, an empty text asks for the header's presence only.
            Some(HeaderMatchSpecifier::ExactMatch(text)) if text.is_empty() => {
                Kind::Text(StringMatcher::contains(""))
            }
            Some(HeaderMatchSpecifier::ExactMatch(text)) => Kind::Text(StringMatcher::exact(text)),
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                Kind::Text(StringMatcher::regex(Pattern::compile(regex, &at.field("safe_regex_match"))?))
            }
            Some(HeaderMatchSpecifier::PrefixMatch(text)) => Kind::Text(StringMatcher::prefix(text)),
            Some(HeaderMatchSpecifier::SuffixMatch(text)) => Kind::Text(StringMatcher::suffix(text)),
            Some(HeaderMatchSpecifier::ContainsMatch(text)) => Kind::Text(StringMatcher::contains(text)),
        };
        Ok(Self {
            field,
            kind,
            invert: config.invert_match,
            missing_is_empty: config.treat_missing_header_as_empty,
        })
    }

    pub(crate) fn matches(&self, headers: &impl Fields) -> bool {
        let missing = headers.first(&self.field).is_none();
        if let Kind::Present(present) = self.kind {
            return (present == (!missing || self.missing_is_empty)) != self.invert;
        }
        if missing {
            // A missing header matches neither a text nor its opposite.
            return self.missing_is_empty && self.takes(b"") != self.invert;
        }
        // A server may act on one value of several: a rule that saw only all of them joined could be passed by.
        headers.any(&self.field, |value| self.takes(value)) != self.invert
    }

    fn takes(&self, value: &[u8]) -> bool {
        match &self.kind {
            Kind::Text(text) => text.matches(value),
            Kind::Range(range) => std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.trim().parse().ok())
                .is_some_and(|number: i64| range.contains(&number)),
            Kind::Present(_) => true,
        }
    }
}

/// What a cookie has to look like.
#[derive(Clone, Debug)]
pub(crate) struct CookieMatcher {
    name: String,
    text: StringMatcher,
    invert: bool,
}

impl CookieMatcher {
    pub(crate) fn compile(config: &pb::CookieMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        if config.name.is_empty() {
            return Err(at.field("name").problem("must not be empty"));
        }
        let at = at.field("string_match");
        let text = config.string_match.as_ref().ok_or_else(|| at.problem("is required"))?;
        Ok(Self {
            name: config.name.clone(),
            text: StringMatcher::compile(text, &at)?,
            invert: config.invert_match,
        })
    }

    pub(crate) fn matches(&self, headers: &impl Fields) -> bool {
        let found = headers.cookie(&self.name).is_some_and(|value| self.text.matches(value));
        found != self.invert
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3 as text;
    use envoy_types::pb::envoy::r#type::v3::Int64Range;
    use http::HeaderMap;
    use text::string_matcher::MatchPattern;

    use super::*;

    fn exact(text: &str) -> text::StringMatcher {
        text::StringMatcher { match_pattern: Some(MatchPattern::Exact(text.into())), ignore_case: false }
    }

    #[test]
    fn headers_match_as_envoy_matches_them() {
        use HeaderMatchSpecifier::{ExactMatch, PresentMatch, RangeMatch, StringMatch};
        let mut headers = HeaderMap::new();
        for (name, value) in [("one", "1"), ("two", "a"), ("two", "b"), ("empty", ""), ("number", "-5")] {
            headers.append(name, value.parse().unwrap());
        }
        let range = |start, end| RangeMatch(Int64Range { start, end });
        // name, rule, invert, missing is empty, expected
        for (name, rule, invert, missing_is_empty, expected) in [
            ("ONE", None, false, false, true),
            ("none", None, false, false, false),
            ("none", Some(PresentMatch(false)), false, false, true),
            ("one", Some(PresentMatch(false)), false, false, false),
            ("one", Some(PresentMatch(true)), true, false, false),
            ("none", Some(PresentMatch(true)), true, false, true),
            ("one", Some(StringMatch(exact("1"))), false, false, true),
            ("one", Some(StringMatch(exact("1"))), true, false, false),
            ("two", Some(StringMatch(exact("a,b"))), false, false, false),
            ("two", Some(StringMatch(exact("b"))), false, false, true),
            ("two", Some(StringMatch(exact("b"))), true, false, false),
            ("none", Some(StringMatch(exact("1"))), true, false, false),
            ("none", Some(StringMatch(exact("1"))), true, true, true),
            ("none", Some(StringMatch(exact(""))), false, true, true),
            ("one", Some(ExactMatch(String::new())), false, false, true),
            ("none", Some(ExactMatch(String::new())), false, false, false),
            ("number", Some(range(-5, 0)), false, false, true),
            ("number", Some(range(-10, -5)), false, false, false),
            ("one", Some(range(2, 9)), true, false, true),
            ("two", Some(range(0, 9)), false, false, false),
            (":path", Some(PresentMatch(true)), false, false, false),
        ] {
            let config = pb::HeaderMatcher {
                name: name.to_owned(),
                header_match_specifier: rule.clone(),
                invert_match: invert,
                treat_missing_header_as_empty: missing_is_empty,
            };
            let matcher = HeaderMatcher::compile(&config, &Path::root()).unwrap();
            assert_eq!(matcher.matches(&headers), expected, "{config:?}");
        }
    }

    #[test]
    fn cookies_match_by_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; b=\"2\"".parse().unwrap());
        for (name, text, invert, expected) in [
            ("a", "1", false, true),
            ("b", "2", false, true),
            ("a", "2", false, false),
            ("a", "2", true, true),
            ("c", "", false, false),
            ("c", "", true, true),
        ] {
            let config = pb::CookieMatcher {
                name: name.into(),
                string_match: Some(exact(text)),
                invert_match: invert,
            };
            let matcher = CookieMatcher::compile(&config, &Path::root()).unwrap();
            assert_eq!(matcher.matches(&headers), expected, "{config:?}");
        }
    }
}
