//! The file's tree into a message, field by field, strictly: whatever is not understood is a problem with its place.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::{
    advice, rules, scalar,
    schema::{self, Deprecation, Schema},
    support::{Report, Support, Table},
    yaml::{Content, Entry, Node},
};
use crate::problem::{Path, Problem};

/// Enough to mend in one go; a file with more is hardly a configuration.
const MOST_PROBLEMS: usize = 100;

pub(super) struct Decoder {
    pub(super) schema: Schema,
    table: Table,
    /// Within a field that has no effect nothing needs to be supported.
    effective: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) unsupported: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) report: Report,
}

/// An entry of a mapping with the field it names.
struct Given<'a> {
    field: FieldDescriptor,
    entry: &'a Entry,
}

impl Decoder {
    pub(super) fn new() -> Result<Decoder, Problem> {
        Ok(Decoder {
            schema: Schema::read()?,
            table: Table::read(),
            effective: true,
            problems: Vec::new(),
            unsupported: Vec::new(),
            warnings: Vec::new(),
            report: Report::default(),
        })
    }

    pub(super) fn message(
        &mut self,
        kind: &MessageDescriptor,
        node: &Node,
        at: &Path<'_>,
    ) -> Option<DynamicMessage> {
        if self.problems.len() >= MOST_PROBLEMS {
            return None;
        }
        if kind.full_name() == "google.protobuf.Any" {
            return self.any(kind, node, at);
        }
        if let Some(value) = scalar::well_known(kind, node) {
            return value.map_err(|wrong| self.problem(at, node.line, wrong)).ok();
        }
        let entries: Vec<_> = match &node.content {
            Content::Mapping(entries) => entries.iter().collect(),
            _ if node.is_null() => Vec::new(),
            _ => {
                let due = format!("a mapping ({}) is due, not {}", kind.full_name(), node.kind());
                self.problem(at, node.line, due);
                return None;
            }
        };
        Some(self.fields(kind, &entries, node.line, at))
    }

    fn fields(
        &mut self,
        kind: &MessageDescriptor,
        entries: &[&Entry],
        line: usize,
        at: &Path<'_>,
    ) -> DynamicMessage {
        let known = self.schema.message(kind);
        let mut message = DynamicMessage::new(kind.clone());
        let mut broken = HashSet::new();
        let given = self.given(kind, entries, &mut broken, at);
        let name = given
            .iter()
            .find(|given| given.field.name() == "name")
            .and_then(|given| given.entry.value.text());
        for Given { field, entry } in &given {
            let here = at.field(field.name());
            if let Some(deprecation) = known.deprecated.get(&field.number()) {
                self.deprecated(*deprecation, field.full_name(), entry.line, &here);
            }
            let effective = self.effective;
            self.supported(field, entry.line, &here);
            match self.value(field, entry, name, &here) {
                Some(value) => message.set_field(field, value),
                None => {
                    broken.insert(field.number());
                }
            }
            self.effective = effective;
        }
        if let Some(missing) = advice::untyped(kind, &message, &broken, name) {
            self.problem(at, line, missing);
        }
        rules::check(&message, &known, &broken, at, &mut self.problems);
        message
    }

    /// The fields that the entries name. What stands there as nothing counts as left out.
    fn given<'a>(
        &mut self,
        kind: &MessageDescriptor,
        entries: &[&'a Entry],
        broken: &mut HashSet<u32>,
        at: &Path<'_>,
    ) -> Vec<Given<'a>> {
        let mut given: Vec<Given<'a>> = Vec::new();
        let mut chosen: HashMap<String, String> = HashMap::new();
        for entry in entries.iter().copied() {
            let named =
                kind.get_field_by_name(&entry.key).or_else(|| kind.get_field_by_json_name(&entry.key));
            let Some(field) = named else {
                if self.problems.len() >= MOST_PROBLEMS {
                    break;
                }
                self.problem(at, entry.line, advice::unknown_field(kind, &entry.key));
                // It may have been meant for any of them.
                broken.extend(kind.fields().map(|field| field.number()));
                continue;
            };
            if entry.value.is_null() && !holds_null(&field) {
                continue;
            }
            if given.iter().any(|earlier| earlier.field.number() == field.number()) {
                self.problem(
                    at,
                    entry.line,
                    format!("`{}` stands here twice, in two spellings", field.name()),
                );
                continue;
            }
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
                && let Some(first) = chosen.insert(oneof.name().to_owned(), field.name().to_owned())
            {
                let wrong =
                    format!("`{}` excludes `{first}`: keep one of them ({})", field.name(), oneof.name());
                self.problem(at, entry.line, wrong);
                continue;
            }
            given.push(Given { field, entry });
        }
        given
    }

    fn value(
        &mut self,
        field: &FieldDescriptor,
        entry: &Entry,
        name: Option<&str>,
        at: &Path<'_>,
    ) -> Option<Value> {
        let (kind, node) = (field.kind(), &entry.value);
        if field.is_map() {
            return self.map(&kind, node, at);
        }
        if field.is_list() {
            let (mut items, mut broken) = (Vec::new(), false);
            self.list(&kind, node, at, &mut items, &mut broken);
            return (!broken).then_some(Value::List(items));
        }
        if is_any(&kind) && node.get("@type").is_none() {
            self.problem(at, entry.line, advice::type_missing(node, name));
            return None;
        }
        self.single(&kind, node, at)
    }

    /// One value may stand where a list is due.
    fn list(&mut self, kind: &Kind, node: &Node, at: &Path<'_>, items: &mut Vec<Value>, broken: &mut bool) {
        let nodes: Vec<&Node> = match &node.content {
            Content::Sequence(nodes) => nodes.iter().map(|node| &**node).collect(),
            _ => vec![node],
        };
        for node in nodes {
            let index = items.len();
            let here = at.index(index);
            if matches!(node.content, Content::Sequence(_)) && !is_list_value(kind) {
                self.list(kind, node, at, items, broken);
                continue;
            }
            match self.single(kind, node, &here) {
                Some(value) => items.push(value),
                None => {
                    *broken = true;
                    items.push(Value::default_value(kind));
                }
            }
        }
    }

    fn map(&mut self, kind: &Kind, node: &Node, at: &Path<'_>) -> Option<Value> {
        let entry_kind = kind.as_message()?;
        let Some(entries) = node.entries() else {
            self.problem(at, node.line, format!("a mapping is due, not {}", node.kind()));
            return None;
        };
        let (key_kind, value_kind) =
            (entry_kind.map_entry_key_field().kind(), entry_kind.map_entry_value_field().kind());
        let (mut map, mut broken) = (HashMap::new(), false);
        for entry in entries {
            let here = at.key(&entry.key);
            let key = scalar::map_key(&key_kind, &entry.key)
                .map_err(|wrong| self.problem(&here, entry.line, wrong));
            match (key, self.single(&value_kind, &entry.value, &here)) {
                (Ok(key), Some(value)) => {
                    map.insert(key, value);
                }
                _ => broken = true,
            }
        }
        (!broken).then_some(Value::Map(map))
    }

    fn single(&mut self, kind: &Kind, node: &Node, at: &Path<'_>) -> Option<Value> {
        let value = match kind {
            Kind::Message(message) => return self.message(message, node, at).map(Value::Message),
            _ if node.is_null() => Ok(Value::default_value(kind)),
            Kind::Enum(kind) => scalar::enumeration(kind, node).map(|number| {
                self.enumeration(kind, number, node.line, at);
                Value::EnumNumber(number)
            }),
            kind => scalar::scalar(kind, node),
        };
        value.map_err(|wrong| self.problem(at, node.line, wrong)).ok()
    }

    fn enumeration(&mut self, kind: &EnumDescriptor, number: i32, line: usize, at: &Path<'_>) {
        let Some(value) = kind.get_value(number) else { return };
        if schema::is_deprecated(&value) {
            self.deprecated(Deprecation::Warned, value.full_name(), line, at);
        }
        let support = self.table.value(kind.full_name(), value.name());
        if support != Support::Supported {
            self.uses(support, value.full_name(), line, at);
        }
    }

    /// A message of the type that it names itself.
    fn any(&mut self, kind: &MessageDescriptor, node: &Node, at: &Path<'_>) -> Option<DynamicMessage> {
        let Some(entries) = node.entries() else {
            self.problem(at, node.line, advice::type_missing(node, None));
            return None;
        };
        let Some(url) = node.get("@type").and_then(|url| url.text()) else {
            self.problem(at, node.line, advice::type_missing(node, None));
            return None;
        };
        let rest: Vec<_> = entries.iter().filter(|entry| entry.key != "@type").collect();
        if ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"].iter().any(|name| url.ends_with(name)) {
            return self.typed_struct(kind, node, at);
        }
        self.packed(
            kind,
            url,
            node,
            |decoder, inner| match node.get("value") {
                // Messages that JSON writes as one value.
                Some(value) if inner.full_name().starts_with("google.protobuf.") => {
                    decoder.message(inner, value, &at.field("value"))
                }
                _ => Some(decoder.fields(inner, &rest, node.line, at)),
            },
            at,
        )
    }

    /// A message written as a Struct, as control planes do that do not know its type.
    fn typed_struct(
        &mut self,
        kind: &MessageDescriptor,
        node: &Node,
        at: &Path<'_>,
    ) -> Option<DynamicMessage> {
        let Some(url) = node.get("type_url").or_else(|| node.get("typeUrl")).and_then(|url| url.text())
        else {
            self.problem(at, node.line, "a TypedStruct needs its `type_url`");
            return None;
        };
        let nothing = Node::new(node.line, Content::Mapping(Vec::new()));
        let value = node.get("value").map_or(&nothing, |value| &**value);
        self.packed(kind, url, node, |decoder, inner| decoder.message(inner, value, &at.field("value")), at)
    }

    fn packed(
        &mut self,
        kind: &MessageDescriptor,
        url: &str,
        node: &Node,
        decode: impl FnOnce(&mut Decoder, &MessageDescriptor) -> Option<DynamicMessage>,
        at: &Path<'_>,
    ) -> Option<DynamicMessage> {
        let at_type = at.field("@type");
        let line = node.get("@type").map_or(node.line, |url| url.line);
        let Some((_, name)) = url.rsplit_once('/').filter(|(host, _)| !host.is_empty()) else {
            let due = format!("`{url}` is not a type URL: write type.googleapis.com/{url}");
            self.problem(&at_type, line, due);
            return None;
        };
        let Some(inner) = self.schema.pool.get_message_by_name(name) else {
            self.problem(&at_type, line, advice::unknown_type(&self.schema.pool, name));
            return None;
        };
        let effective = self.effective;
        if effective {
            let known = self.table.knows(name) || name.starts_with("google.protobuf.");
            self.uses(if known { Support::Supported } else { Support::Unsupported }, name, line, &at_type);
            self.effective = known;
        }
        let message = decode(self, &inner);
        self.effective = effective;
        let message = message?;
        let mut any = DynamicMessage::new(kind.clone());
        any.set_field_by_name("type_url", Value::String(format!("type.googleapis.com/{name}")));
        any.set_field_by_name("value", Value::Bytes(message.encode_to_vec().into()));
        Some(any)
    }

    fn supported(&mut self, field: &FieldDescriptor, line: usize, at: &Path<'_>) {
        let message = field.parent_message();
        if self.effective && message.package_name() != "google.protobuf" {
            let support = self.table.field(message.full_name(), field.name());
            self.uses(support, field.full_name(), line, at);
            self.effective = support == Support::Supported;
        }
    }

    fn uses(&mut self, support: Support, name: &str, line: usize, at: &Path<'_>) {
        if !self.effective {
            return;
        }
        self.report.add(support, name.to_owned(), line);
        match support {
            Support::Supported => {}
            Support::Ignored(reason) => {
                self.warnings.push(located(at, line, format!("has no effect: {reason}")))
            }
            Support::Unsupported if self.unsupported.len() < MOST_PROBLEMS => {
                let message = format!("known to Envoy, not supported by Omnimesh: {name}");
                self.unsupported.push(located(at, line, message));
            }
            Support::Unsupported => {}
        }
    }

    fn deprecated(&mut self, deprecation: Deprecation, name: &str, line: usize, at: &Path<'_>) {
        match deprecation {
            Deprecation::Warned => self.warnings.push(located(at, line, format!("Deprecated field: {name}"))),
            Deprecation::Refused => {
                self.problem(at, line, format!("`{name}` is deprecated, and Envoy refuses it by default"));
            }
        }
    }

    fn problem(&mut self, at: &Path<'_>, line: usize, message: impl Into<String>) {
        self.problems.push(located(at, line, message));
    }
}

fn located(at: &Path<'_>, line: usize, message: impl Into<String>) -> Problem {
    Problem { line: Some(line), ..at.problem(message) }
}

fn is_any(kind: &Kind) -> bool {
    kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Any")
}

/// A list in a list is a value of its own there only.
fn is_list_value(kind: &Kind) -> bool {
    let holds = |message: &MessageDescriptor| {
        matches!(message.full_name(), "google.protobuf.Value" | "google.protobuf.ListValue")
    };
    kind.as_message().is_some_and(holds)
}

fn holds_null(field: &FieldDescriptor) -> bool {
    field.kind().as_message().is_some_and(|message| message.full_name() == "google.protobuf.Value")
}
