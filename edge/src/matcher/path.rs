//! The path of a route: compared without its query.

use envoy_types::pb::envoy::config::route::v3::RouteMatch;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;

use super::Pattern;
use crate::problem::{Path, Problem};

/// What a path has to look like.
#[derive(Clone, Debug)]
pub(crate) struct PathMatch {
    kind: Kind,
    case_sensitive: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Prefix(String),
    Exact(String),
    /// Only before a slash or the end.
    Separated(String),
    Regex(Pattern),
}

impl PathMatch {
    pub(crate) fn compile(config: &RouteMatch, at: &Path<'_>) -> Result<Self, Problem> {
        let specifier = config
            .path_specifier
            .as_ref()
            .ok_or_else(|| at.problem("needs one of prefix, path, safe_regex, path_separated_prefix"))?;
        let kind = match specifier {
            PathSpecifier::Prefix(prefix) => Kind::Prefix(prefix.clone()),
            PathSpecifier::Path(path) => Kind::Exact(path.clone()),
            PathSpecifier::SafeRegex(regex) => Kind::Regex(Pattern::compile(regex, &at.field("safe_regex"))?),
            PathSpecifier::PathSeparatedPrefix(prefix) => {
                if prefix.len() < 2 || prefix.contains(['?', '#']) || prefix.ends_with('/') {
                    return Err(at.field("path_separated_prefix").problem(
                        "must be two or more characters without '?' and '#', the last of them not '/'",
                    ));
                }
                Kind::Separated(prefix.clone())
            }
            PathSpecifier::ConnectMatcher(_) => {
                return Err(at.field("connect_matcher").problem("is not supported: CONNECT is refused"));
            }
            PathSpecifier::PathMatchPolicy(_) => {
                return Err(at
                    .field("path_match_policy")
                    .problem("is not supported: use prefix, path or safe_regex"));
            }
        };
        let case_sensitive = config.case_sensitive.as_ref().is_none_or(|sensitive| sensitive.value);
        Ok(Self { kind, case_sensitive })
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Prefix(prefix) => self.begins(path, prefix),
            Kind::Exact(wanted) => path.len() == wanted.len() && self.begins(path, wanted),
            Kind::Separated(prefix) => {
                self.begins(path, prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            Kind::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }

    /// How much of a path that matches is what `prefix_rewrite` replaces.
    pub(crate) fn matched_len(&self, path: &str) -> usize {
        match &self.kind {
            Kind::Prefix(matched) | Kind::Exact(matched) | Kind::Separated(matched) => matched.len(),
            Kind::Regex(_) => path.len(),
        }
    }

    fn begins(&self, path: &str, prefix: &str) -> bool {
        path.as_bytes().get(..prefix.len()).is_some_and(|begin| {
            if self.case_sensitive {
                begin == prefix.as_bytes()
            } else {
                begin.eq_ignore_ascii_case(prefix.as_bytes())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
    use envoy_types::pb::google::protobuf::BoolValue;
    use proptest::prelude::*;

    use super::*;

    fn compile(specifier: PathSpecifier, case_sensitive: bool) -> Result<PathMatch, Problem> {
        let config = RouteMatch {
            path_specifier: Some(specifier),
            case_sensitive: Some(BoolValue { value: case_sensitive }),
            ..Default::default()
        };
        PathMatch::compile(&config, &Path::root())
    }

    fn regex(regex: &str) -> PathSpecifier {
        PathSpecifier::SafeRegex(RegexMatcher { regex: regex.to_owned(), ..Default::default() })
    }

    #[test]
    fn paths_match_as_envoy_matches_them() {
        use PathSpecifier::{Path, PathSeparatedPrefix, Prefix};
        for (specifier, case_sensitive, path, expected) in [
            (Prefix("/".into()), true, "/a.B/C", true),
            (Prefix("/admin.UsersService".into()), true, "/admin.UsersService/Get", true),
            (Prefix("/admin.UsersService".into()), true, "/admin.usersService/Get", false),
            (Prefix("/admin.UsersService".into()), false, "/admin.usersService/Get", true),
            (Prefix(String::new()), true, "*", true),
            (Path("/healthz".into()), true, "/healthz", true),
            (Path("/healthz".into()), true, "/healthz/", false),
            (Path("/healthz".into()), false, "/HEALTHZ", true),
            (PathSeparatedPrefix("/api/dev".into()), true, "/api/dev", true),
            (PathSeparatedPrefix("/api/dev".into()), true, "/api/dev/", true),
            (PathSeparatedPrefix("/api/dev".into()), true, "/api/dev/v1", true),
            (PathSeparatedPrefix("/api/dev".into()), true, "/api/developer", false),
            (PathSeparatedPrefix("/api/dev".into()), false, "/API/dev/v1", true),
            (regex("/b[io]t"), true, "/bit", true),
            (regex("/b[io]t"), true, "/bits", false),
            (regex("/b[io]t"), true, "/a/bit", false),
        ] {
            let matcher = compile(specifier.clone(), case_sensitive).unwrap();
            assert_eq!(matcher.matches(path), expected, "{specifier:?} on {path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        use PathSpecifier::{ConnectMatcher, PathSeparatedPrefix};
        for (specifier, path) in [
            (PathSeparatedPrefix("/a/".into()), "path_separated_prefix"),
            (PathSeparatedPrefix("/a?b".into()), "path_separated_prefix"),
            (PathSeparatedPrefix("/".into()), "path_separated_prefix"),
            (ConnectMatcher(Default::default()), "connect_matcher"),
            (regex("["), "safe_regex.regex"),
        ] {
            assert_eq!(compile(specifier.clone(), true).unwrap_err().path, path, "{specifier:?}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_panic(pattern in ".{0,40}", path in ".{0,80}", sensitive: bool) {
            for specifier in [
                PathSpecifier::Prefix(pattern.clone()),
                PathSpecifier::Path(pattern.clone()),
                PathSpecifier::PathSeparatedPrefix(pattern.clone()),
                regex(&pattern),
            ] {
                if let Ok(matcher) = compile(specifier, sensitive)
                    && matcher.matches(&path)
                {
                    prop_assert!(matcher.matched_len(&path) <= path.len());
                }
            }
        }
    }
}
