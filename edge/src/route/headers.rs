//! Headers that a route adds and removes.

#![expect(deprecated, reason = "files that Envoy reads still have these fields")]

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::call::Call;
use crate::format::{Facts, Format};
use crate::head::header_name;
use crate::matcher::each;
use crate::problem::{Path, Problem};

/// What one level of a configuration does to headers: removes some, then sets and adds others.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderRules {
    remove: Vec<HeaderName>,
    add: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: HeaderName,
    value: Format,
    action: HeaderAppendAction,
    keep_empty: bool,
}

/// What the rules say of one message.
#[derive(Debug, Default)]
struct Changes<'r> {
    replace: Vec<(&'r HeaderName, HeaderValue)>,
    append: Vec<(&'r HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// `fields` name the fields that headers to add and to remove stand in.
    pub(crate) fn compile(
        add: &[HeaderValueOption],
        remove: &[String],
        at: &Path<'_>,
        fields: [&str; 2],
    ) -> Result<Self, Problem> {
        let changeable = |name: &str, at: &Path<'_>| {
            let name = match name.starts_with(':') {
                true => None,
                false => Some(header_name(name, at)?).filter(|name| *name != HOST),
            };
            name.ok_or_else(|| {
                at.problem(
                    "host and headers that begin with ':' cannot be changed here: rewrite them in the route",
                )
            })
        };
        Ok(Self {
            add: each(add, at, fields[0], |option, at| {
                let at_header = at.field("header");
                let header = option.header.as_ref().ok_or_else(|| at_header.problem("is required"))?;
                if !header.raw_value.is_empty() {
                    return Err(at_header.field("raw_value").problem("is not supported: use value"));
                }
                Ok(Rule {
                    name: changeable(&header.key, &at_header.field("key"))?,
                    value: Format::parse(&header.value, &at_header.field("value"))?,
                    action: action(option, at)?,
                    keep_empty: option.keep_empty_value,
                })
            })?,
            remove: each(remove, at, fields[1], |name, at| changeable(name, at))?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Changes the headers of a request.
    pub(crate) fn apply_request(&self, call: &mut Call) {
        self.strip(&mut call.request.headers);
        let changes = self.changes(Facts::of_request(call), &call.request.headers);
        changes.apply(&mut call.request.headers);
    }

    /// Changes the headers of a response.
    pub(crate) fn apply_response(&self, call: &Call, status: StatusCode, headers: &mut HeaderMap) {
        self.strip(headers);
        let changes = self.changes(Facts::of_response(call, status, headers), headers);
        changes.apply(headers);
    }

    fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// Every value is taken from the headers as they came, whatever the rules before it say.
    fn changes(&self, facts: Facts<'_>, headers: &HeaderMap) -> Changes<'_> {
        let mut changes = Changes::default();
        for rule in &self.add {
            let present = headers.contains_key(&rule.name);
            let to = match rule.action {
                HeaderAppendAction::AppendIfExistsOrAdd => &mut changes.append,
                HeaderAppendAction::AddIfAbsent if !present => &mut changes.append,
                HeaderAppendAction::OverwriteIfExists if present => &mut changes.replace,
                HeaderAppendAction::OverwriteIfExistsOrAdd => &mut changes.replace,
                HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists => continue,
            };
            let value = rule.value.text(facts);
            if (!value.is_empty() || rule.keep_empty)
                && let Ok(value) = HeaderValue::from_str(&value)
            {
                to.push((&rule.name, value));
            }
        }
        changes
    }
}

impl Changes<'_> {
    fn apply(self, headers: &mut HeaderMap) {
        for (name, value) in self.replace {
            headers.insert(name, value);
        }
        for (name, value) in self.append {
            headers.append(name, value);
        }
    }
}

fn action(option: &HeaderValueOption, at: &Path<'_>) -> Result<HeaderAppendAction, Problem> {
    let action = option.append_action();
    match &option.append {
        None => Ok(action),
        Some(_) if action != HeaderAppendAction::AppendIfExistsOrAdd => {
            Err(at.field("append").problem("append and append_action exclude each other"))
        }
        Some(append) if append.value => Ok(HeaderAppendAction::AppendIfExistsOrAdd),
        Some(_) => Ok(HeaderAppendAction::OverwriteIfExistsOrAdd),
    }
}
