//! The constraints that Envoy's messages carry (`validate.rules`), as protoc-gen-validate checks them.

use std::{collections::HashSet, fmt};

use envoy_types::pb::{
    google::protobuf::Duration,
    validate::{EnumRules, FieldRules, KnownRegex, StringRules, field_rules::Type, string_rules::WellKnown},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use regex::Regex;

use super::{scalar, schema::Message};
use crate::problem::{Path, Problem};

/// Checks a message's own fields; `broken` ones have been complained about and are passed over.
pub(super) fn check(
    message: &DynamicMessage,
    known: &Message,
    broken: &HashSet<u32>,
    at: &Path<'_>,
    problems: &mut Vec<Problem>,
) {
    for (field, rules) in known.rules.iter().filter(|(field, _)| !broken.contains(&field.number())) {
        let here = at.field(field.name());
        if field.supports_presence() && !message.has_field(field) {
            // A member of a choice is required of those only who chose it.
            let alone = field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic());
            if alone && is_required(rules) {
                problems.push(here.problem("is required"));
            }
            continue;
        }
        match &*message.get_field(field) {
            Value::List(items) => check_list(field, rules, items, &here, problems),
            Value::Map(entries) => {
                let Some(Type::Map(map)) = &rules.r#type else { continue };
                if (entries.len() as u64) < map.min_pairs() {
                    problems.push(here.problem(format!("needs at least {} entries", map.min_pairs())));
                }
                for (key, value) in entries {
                    let text = key_text(key);
                    let at = here.key(&text);
                    let key = Value::String(text.clone());
                    check_value(field, map.keys.as_deref(), &key, &at, problems);
                    check_value(field, map.values.as_deref(), value, &at, problems);
                }
            }
            value => check_value(field, Some(rules), value, &here, problems),
        }
    }
    for oneof in &known.required {
        let set = oneof.fields().any(|field| message.has_field(&field) || broken.contains(&field.number()));
        if !set {
            let names: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.name())).collect();
            problems.push(at.problem(format!("one of {} is required", names.join(", "))));
        }
    }
}

fn is_required(rules: &FieldRules) -> bool {
    rules.message.as_ref().is_some_and(|message| message.required())
        || match &rules.r#type {
            Some(Type::Any(any)) => any.required(),
            Some(Type::Duration(duration)) => duration.required(),
            Some(Type::Timestamp(timestamp)) => timestamp.required(),
            _ => false,
        }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
    }
}

fn check_list(
    field: &FieldDescriptor,
    rules: &FieldRules,
    items: &[Value],
    at: &Path<'_>,
    problems: &mut Vec<Problem>,
) {
    let Some(Type::Repeated(list)) = &rules.r#type else { return };
    if items.is_empty() && list.ignore_empty() {
        return;
    }
    let length = items.len() as u64;
    if length < list.min_items() {
        problems.push(at.problem(format!("needs at least {} items", list.min_items())));
    }
    if list.max_items.is_some_and(|most| length > most) {
        problems.push(at.problem(format!("takes at most {} items", list.max_items())));
    }
    for (index, item) in items.iter().enumerate() {
        let here = at.index(index);
        if list.unique() && items[..index].contains(item) {
            problems.push(here.problem("stands here twice"));
        }
        check_value(field, list.items.as_deref(), item, &here, problems);
    }
}

fn check_value(
    field: &FieldDescriptor,
    rules: Option<&FieldRules>,
    value: &Value,
    at: &Path<'_>,
    problems: &mut Vec<Problem>,
) {
    let Some(rules) = rules.and_then(|rules| rules.r#type.as_ref()) else { return };
    let violated = match (rules, &*unwrapped(value)) {
        (Type::String(rules), Value::String(text)) => string(rules, text),
        (Type::Enum(rules), Value::EnumNumber(number)) => enumeration(field, rules, *number),
        (Type::Bool(rules), Value::Bool(value)) => {
            rules.r#const.filter(|due| due != value).map(|due| format!("must be {due}"))
        }
        (Type::Bytes(rules), Value::Bytes(bytes)) => {
            length("bytes", bytes.len(), rules.min_len, rules.max_len)
        }
        (rules, Value::Message(message))
            if message.descriptor().full_name() == "google.protobuf.Duration" =>
        {
            duration(rules, message)
        }
        (rules, value) => number(rules, value),
    };
    problems.extend(violated.map(|violated| at.problem(violated)));
}

/// A rule on a wrapper such as UInt32Value is meant for what is inside.
fn unwrapped(value: &Value) -> std::borrow::Cow<'_, Value> {
    if let Value::Message(message) = value {
        let descriptor = message.descriptor();
        let wrapper = descriptor.package_name() == "google.protobuf" && descriptor.name().ends_with("Value");
        if wrapper && let Some(field) = descriptor.get_field_by_name("value") {
            return message.get_field(&field);
        }
    }
    std::borrow::Cow::Borrowed(value)
}

/// Limits of anything that has an order.
struct Bounds<'a, T> {
    lt: Option<T>,
    lte: Option<T>,
    gt: Option<T>,
    gte: Option<T>,
    within: &'a [T],
    without: &'a [T],
}

impl<T: PartialOrd + fmt::Display> Bounds<'_, T> {
    fn violated_by(&self, value: &T) -> Option<String> {
        if let Some(bound) = self.lt.as_ref().filter(|bound| value >= bound) {
            return Some(format!("must be less than {bound}, is {value}"));
        }
        if let Some(bound) = self.lte.as_ref().filter(|bound| value > bound) {
            return Some(format!("must be at most {bound}, is {value}"));
        }
        if let Some(bound) = self.gt.as_ref().filter(|bound| value <= bound) {
            return Some(format!("must be greater than {bound}, is {value}"));
        }
        if let Some(bound) = self.gte.as_ref().filter(|bound| value < bound) {
            return Some(format!("must be at least {bound}, is {value}"));
        }
        if !self.within.is_empty() && !self.within.contains(value) || self.without.contains(value) {
            return Some(format!("must not be {value}"));
        }
        None
    }
}

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn number(rules: &Type, value: &Value) -> Option<String> {
    macro_rules! bounds {
        ($rules:expr, $value:expr) => {{
            let (rules, value) = ($rules, $value);
            if rules.ignore_empty() && is_empty(value) {
                return None;
            }
            let Some(due) = rules.r#const.filter(|due| due != value) else {
                let (within, without) = (&rules.r#in, &rules.not_in);
                let bounds =
                    Bounds { lt: rules.lt, lte: rules.lte, gt: rules.gt, gte: rules.gte, within, without };
                return bounds.violated_by(value);
            };
            Some(format!("must be {due}"))
        }};
    }
    match (rules, value) {
        (Type::Float(rules), Value::F32(value)) => bounds!(rules, value),
        (Type::Double(rules), Value::F64(value)) => bounds!(rules, value),
        (Type::Int32(rules), Value::I32(value)) => bounds!(rules, value),
        (Type::Int64(rules), Value::I64(value)) => bounds!(rules, value),
        (Type::Uint32(rules), Value::U32(value)) => bounds!(rules, value),
        (Type::Uint64(rules), Value::U64(value)) => bounds!(rules, value),
        _ => None,
    }
}

/// Nanoseconds that print as the file has them.
#[derive(PartialEq, PartialOrd)]
struct Span(i128);

impl From<&Duration> for Span {
    fn from(duration: &Duration) -> Span {
        Span(i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0 as f64 / 1e9)
    }
}

fn duration(rules: &Type, message: &DynamicMessage) -> Option<String> {
    let Type::Duration(rules) = rules else { return None };
    let duration: Duration = message.transcode_to().ok()?;
    let span = |duration: &Option<Duration>| duration.as_ref().map(Span::from);
    let bounds = Bounds {
        lt: span(&rules.lt),
        lte: span(&rules.lte),
        gt: span(&rules.gt),
        gte: span(&rules.gte),
        within: &[],
        without: &[],
    };
    bounds.violated_by(&Span::from(&duration))
}

fn enumeration(field: &FieldDescriptor, rules: &EnumRules, number: i32) -> Option<String> {
    let Kind::Enum(kind) = field.kind() else { return None };
    let named = kind.get_value(number);
    let refused = rules.not_in.contains(&number) || !rules.r#in.is_empty() && !rules.r#in.contains(&number);
    match named {
        None if rules.defined_only() => Some(format!("{number} is not one of {}", scalar::names(&kind))),
        Some(value) if refused => Some(format!("must not be {}", value.name())),
        _ => None,
    }
}

fn length(unit: &str, length: usize, least: Option<u64>, most: Option<u64>) -> Option<String> {
    let length = length as u64;
    match (least, most) {
        (Some(1), _) if length == 0 => Some("must not be empty".to_owned()),
        (Some(least), _) if length < least => Some(format!("needs at least {least} {unit}, has {length}")),
        (_, Some(most)) if length > most => Some(format!("takes at most {most} {unit}, has {length}")),
        _ => None,
    }
}

fn string(rules: &StringRules, text: &str) -> Option<String> {
    if rules.ignore_empty() && text.is_empty() {
        return None;
    }
    let (within, without) = (&rules.r#in, &rules.not_in);
    length("characters", text.chars().count(), rules.min_len, rules.max_len)
        .or_else(|| length("bytes", text.len(), rules.min_bytes, rules.max_bytes))
        .or_else(|| rules.r#const.as_ref().filter(|due| *due != text).map(|due| format!("must be {due:?}")))
        .or_else(|| lacks(rules.prefix(), text.starts_with(rules.prefix()), "start with"))
        .or_else(|| lacks(rules.suffix(), text.ends_with(rules.suffix()), "end with"))
        .or_else(|| lacks(rules.contains(), text.contains(rules.contains()), "contain"))
        .or_else(|| {
            let refused = !within.is_empty() && !within.iter().any(|one| one == text);
            (refused || without.iter().any(|one| one == text)).then(|| format!("must not be {text:?}"))
        })
        .or_else(|| pattern(rules.pattern(), text))
        .or_else(|| well_known(rules, text))
}

fn lacks(part: &str, there: bool, how: &str) -> Option<String> {
    (!there).then(|| format!("must {how} {part:?}"))
}

fn pattern(pattern: &str, text: &str) -> Option<String> {
    let matches = pattern.is_empty() || Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
    (!matches).then(|| format!("{text:?} does not match {pattern}"))
}

/// Envoy's messages name no other well-known form.
fn well_known(rules: &StringRules, text: &str) -> Option<String> {
    let Some(WellKnown::WellKnownRegex(regex)) = rules.well_known else { return None };
    let (due, fits) = match KnownRegex::try_from(regex) {
        Ok(KnownRegex::HttpHeaderName) => ("the name of a header", is_header_name(text, rules.strict())),
        Ok(KnownRegex::HttpHeaderValue) => ("the value of a header", is_header_value(text, rules.strict())),
        _ => return None,
    };
    (!fits).then(|| format!("`{}` is not {due}", text.escape_debug()))
}

fn is_header_name(name: &str, strict: bool) -> bool {
    if !strict {
        return !name.contains(['\0', '\n', '\r']);
    }
    let name = name.strip_prefix(':').unwrap_or(name);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

fn is_header_value(value: &str, strict: bool) -> bool {
    let control = |letter: char| letter.is_ascii_control() && letter != '\t';
    if strict { !value.contains(control) } else { !value.contains(['\0', '\n', '\r']) }
}
