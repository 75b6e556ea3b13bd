//! Envoy's `StringMatcher`.

use envoy_types::pb::envoy::r#type::matcher::v3 as pb;
use pb::string_matcher::MatchPattern;

use super::Pattern;
use crate::problem::{Path, Problem};

/// What a text has to look like.
#[derive(Clone, Debug)]
pub(crate) struct StringMatcher {
    kind: Kind,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    Regex(Pattern),
}

impl StringMatcher {
    pub(crate) fn compile(config: &pb::StringMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        let pattern = config
            .match_pattern
            .as_ref()
            .ok_or_else(|| at.problem("needs one of exact, prefix, suffix, safe_regex, contains"))?;
        let kind = match pattern {
            MatchPattern::Exact(text) => Kind::Exact(text.as_bytes().to_vec()),
            MatchPattern::Prefix(text) => Kind::Prefix(text.as_bytes().to_vec()),
            MatchPattern::Suffix(text) => Kind::Suffix(text.as_bytes().to_vec()),
            MatchPattern::Contains(text) => Kind::Contains(text.as_bytes().to_vec()),
            MatchPattern::SafeRegex(regex) if config.ignore_case => {
                return Err(at
                    .field("ignore_case")
                    .problem(format!("has no effect on safe_regex: write (?i){} instead", regex.regex)));
            }
            MatchPattern::SafeRegex(regex) => Kind::Regex(Pattern::compile(regex, &at.field("safe_regex"))?),
            MatchPattern::Custom(_) => return Err(at.field("custom").problem("is not supported")),
        };
        Ok(Self { kind, ignore_case: config.ignore_case })
    }

    pub(crate) fn exact(text: &str) -> Self {
        Self { kind: Kind::Exact(text.as_bytes().to_vec()), ignore_case: false }
    }

    pub(crate) fn prefix(text: &str) -> Self {
        Self { kind: Kind::Prefix(text.as_bytes().to_vec()), ignore_case: false }
    }

    pub(crate) fn suffix(text: &str) -> Self {
        Self { kind: Kind::Suffix(text.as_bytes().to_vec()), ignore_case: false }
    }

    pub(crate) fn contains(text: &str) -> Self {
        Self { kind: Kind::Contains(text.as_bytes().to_vec()), ignore_case: false }
    }

    pub(crate) fn regex(pattern: Pattern) -> Self {
        Self { kind: Kind::Regex(pattern), ignore_case: false }
    }

    pub(crate) fn matches(&self, text: impl AsRef<[u8]>) -> bool {
        let text = text.as_ref();
        let same = |found: &[u8], wanted: &[u8]| {
            if self.ignore_case { found.eq_ignore_ascii_case(wanted) } else { found == wanted }
        };
        match &self.kind {
            Kind::Exact(wanted) => same(text, wanted),
            Kind::Prefix(wanted) => text.get(..wanted.len()).is_some_and(|found| same(found, wanted)),
            Kind::Suffix(wanted) => {
                let start = text.len().checked_sub(wanted.len());
                start.is_some_and(|start| same(&text[start..], wanted))
            }
            Kind::Contains(wanted) if wanted.is_empty() => true,
            Kind::Contains(wanted) => text.windows(wanted.len()).any(|found| same(found, wanted)),
            Kind::Regex(pattern) => pattern.matches(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: MatchPattern, ignore_case: bool) -> Result<StringMatcher, Problem> {
        let config = pb::StringMatcher { match_pattern: Some(pattern), ignore_case };
        StringMatcher::compile(&config, &Path::root())
    }

    fn regex(regex: &str) -> MatchPattern {
        MatchPattern::SafeRegex(pb::RegexMatcher { regex: regex.to_owned(), ..Default::default() })
    }

    #[test]
    fn texts_match_as_envoy_matches_them() {
        use MatchPattern::{Contains, Exact, Prefix, Suffix};
        for (pattern, ignore_case, input, expected) in [
            (Exact("abc".into()), false, "abc", true),
            (Exact("abc".into()), false, "ABC", false),
            (Exact("abc".into()), true, "aBC", true),
            (Exact(String::new()), false, "", true),
            (Exact(String::new()), false, "a", false),
            (Prefix("ab".into()), false, "abc", true),
            (Prefix("ab".into()), true, "ABc", true),
            (Prefix("abc".into()), false, "ab", false),
            (Suffix("bc".into()), false, "abc", true),
            (Suffix("bc".into()), true, "aBC", true),
            (Suffix("abcd".into()), false, "bcd", false),
            (Contains("b".into()), false, "abc", true),
            (Contains("Bc".into()), true, "abC", true),
            (Contains("x".into()), false, "", false),
            (regex("a|bc"), false, "bc", true),
            (regex("a|bc"), false, "abc", false),
            (regex("https?://localhost(:[0-9]+)?"), false, "http://localhost:8080", true),
            (regex("https?://localhost(:[0-9]+)?"), false, "http://localhost:8080/", false),
            (regex("(?i)abc"), false, "ABC", true),
        ] {
            let matcher = text(pattern.clone(), ignore_case).unwrap();
            assert_eq!(matcher.matches(input), expected, "{pattern:?} on {input:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_path() {
        for (pattern, ignore_case, path) in [
            (regex("a)(b"), false, "safe_regex.regex"),
            (regex("(?=a)"), false, "safe_regex.regex"),
            (regex(""), false, "safe_regex.regex"),
            (regex("a{1000}{1000}{1000}"), false, "safe_regex.regex"),
            (regex("a"), true, "ignore_case"),
        ] {
            assert_eq!(text(pattern.clone(), ignore_case).unwrap_err().path, path, "{pattern:?}");
        }
    }
}
