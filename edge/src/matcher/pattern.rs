//! Regular expressions as RE2 reads them: matches of the whole text, and substitution with numbered groups.

use std::borrow::Cow;

use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use regex::{Captures, Regex, bytes};

use crate::problem::{Path, Problem};

/// Matches a text from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(bytes::Regex);

impl Pattern {
    pub(crate) fn compile(config: &RegexMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        // Alone first: `a)(b` is no pattern although it is one in parentheses.
        parse(&config.regex, at)?;
        bytes::Regex::new(&format!(r"\A(?:{})\z", config.regex))
            .map(Self)
            .map_err(|error| invalid(&error, at))
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

/// Replaces every match in a text.
#[derive(Clone, Debug)]
pub(crate) struct Substitution {
    pattern: Regex,
    replacement: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Substitution {
    pub(crate) fn compile(config: &RegexMatchAndSubstitute, at: &Path<'_>) -> Result<Self, Problem> {
        let pattern = config.pattern.as_ref().ok_or_else(|| at.problem("needs a pattern"))?;
        let pattern = parse(&pattern.regex, &at.field("pattern"))?;
        let at = at.field("substitution");
        let mut replacement = Vec::new();
        let mut text = String::new();
        let mut rest = config.substitution.chars();
        while let Some(next) = rest.next() {
            if next != '\\' {
                text.push(next);
                continue;
            }
            match rest.next() {
                Some('\\') => text.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    if group >= pattern.captures_len() {
                        return Err(at.problem(format!("\\{group} names a group that the pattern has not")));
                    }
                    replacement.push(Piece::Text(std::mem::take(&mut text)));
                    replacement.push(Piece::Group(group));
                }
                _ => return Err(at.problem("\\ stands before a digit or another \\ only")),
            }
        }
        replacement.push(Piece::Text(text));
        Ok(Self { pattern, replacement })
    }

    pub(crate) fn replace<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.pattern.replace_all(text, |found: &Captures<'_>| {
            let mut replaced = String::new();
            for piece in &self.replacement {
                match piece {
                    Piece::Text(text) => replaced.push_str(text),
                    Piece::Group(group) => {
                        replaced.push_str(found.get(*group).map_or("", |group| group.as_str()));
                    }
                }
            }
            replaced
        })
    }
}

fn parse(regex: &str, at: &Path<'_>) -> Result<Regex, Problem> {
    if regex.is_empty() {
        return Err(at.field("regex").problem("must not be empty"));
    }
    Regex::new(regex).map_err(|error| invalid(&error, at))
}

fn invalid(error: &regex::Error, at: &Path<'_>) -> Problem {
    let reason = match error {
        regex::Error::CompiledTooBig(limit) => format!("the pattern compiles to more than {limit} bytes"),
        other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    };
    at.field("regex").problem(format!("no valid regular expression: {reason}"))
}
