//! What to tell the author of a file that Envoy's API does not allow.

use std::collections::HashSet;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::{names, yaml::Node};

const SIMILAR: f64 = 0.8;
const MIGRATE: &str = "`omnimesh edge migrate` rewrites the file";

pub(super) fn unknown_field(message: &MessageDescriptor, key: &str) -> String {
    let kind = message.full_name();
    if message.reserved_names().any(|name| name == key) {
        return format!("`{key}` is gone from {kind}: it is of Envoy's v2 API or older; {MIGRATE}");
    }
    let fields: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
    match nearest(key, fields.iter().map(String::as_str)) {
        Some(name) => format!("`{key}` is not a field of {kind}: did you mean `{name}`?"),
        None if fields.is_empty() => format!("`{key}` is not a field of {kind}, which has none"),
        None => format!("`{key}` is not a field of {kind}, which has {}", fields.join(", ")),
    }
}

pub(super) fn unknown_type(pool: &DescriptorPool, name: &str) -> String {
    if let Some(successor) = names::successor(pool, name) {
        return format!("{name} is of Envoy's v2 API; it is {} now: {MIGRATE}", successor.full_name());
    }
    let kinds: Vec<_> = pool.all_messages().map(|kind| kind.full_name().to_owned()).collect();
    match nearest(name, kinds.iter().map(String::as_str)) {
        Some(kind) => format!("no message of Envoy is called {name}: did you mean {kind}?"),
        None => format!("no message of Envoy is called {name}"),
    }
}

/// For a message that must name its type, and what is called so beside it.
pub(super) fn type_missing(node: &Node, name: Option<&str>) -> String {
    let written =
        node.entries().map_or_else(|| format!("{} is not a message", node.kind()), |_| "has no type".into());
    match name.and_then(names::kind) {
        Some(kind) => format!("{written}: write `\"@type\": type.googleapis.com/{kind}`"),
        None => format!("{written}: write `\"@type\": type.googleapis.com/…` with the name of its message"),
    }
}

/// Whether an extension is named without being configured, which older Envoys took for its defaults.
pub(super) fn untyped(
    kind: &MessageDescriptor,
    message: &DynamicMessage,
    broken: &HashSet<u32>,
    name: Option<&str>,
) -> Option<String> {
    let choice = kind.oneofs().find(|oneof| oneof.name() == "config_type")?;
    if choice.fields().any(|field| message.has_field(&field) || broken.contains(&field.number())) {
        return None;
    }
    let kind = name.and_then(names::kind).unwrap_or("…");
    Some(format!("needs a type: write `typed_config: {{ \"@type\": type.googleapis.com/{kind} }}`"))
}

fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}
