//! What is said about a table: in its metadata for whoever opens it, in the docs for whoever looks for it.
//!
//! A card is written beside the table that it describes, as lines of `name: value` after a sentence about the table:
//!
//! ```text
//! Every line of every order.
//! grain: one row per line of an order
//! key: order_uid, line_no
//! owner: sales
//! freshness: seconds behind the events
//! proto: omnimesh.order.v1.Order
//! column amount_minor: What was paid for the line, in the currency's minor unit.
//! column note: What the customer wrote. [pii=direct]
//! column seen_at: When we heard of it. [volatile] [from=event.event_time]
//! ```
//!
//! `from` names the fields of an event's payload, or of the `event` itself, that a column is made of; `a/b.c` is short
//! for `a.c, b.c`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use prost_reflect::{DescriptorPool, MessageDescriptor, Value};
use serde::Serialize;

use crate::columns;

/// What a line of a card begins with; of a table that is a query also what it can lack, and by what it has parts.
const NAMES: [&str; 8] = ["grain", "key", "owner", "schedule", "freshness", "proto", "optional", "parts"];
/// What the line of a column begins with.
const COLUMN: &str = "column ";
/// The class of a column, in its metadata.
const PII: &str = "omnimesh.pii";

/// What a column says about a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pii {
    /// Nothing.
    #[default]
    None,
    /// Something that stands for a person, or tells one together with other columns.
    Quasi,
    /// Something that tells a person by itself.
    Direct,
}

impl Pii {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quasi => "quasi",
            Self::Direct => "direct",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Quasi, Self::Direct].into_iter().find(|pii| pii.as_str() == text)
    }
}

/// What is said about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) description: String,
    pub(crate) grain: String,
    pub(crate) key: Vec<String>,
    pub(crate) owner: String,
    /// When it is computed, as a cron expression; empty: whenever its inputs have changed.
    pub(crate) schedule: String,
    /// How far it may be behind what it is made of; empty: as far as its schedule says.
    pub(crate) freshness: String,
    pub(crate) columns: BTreeMap<String, Column>,
    /// Whatever else is known of it, by name.
    pub(crate) more: BTreeMap<String, String>,
}

/// What is said about a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) doc: String,
    pub(crate) pii: Pii,
    /// Two runs over the same sources may fill it differently.
    pub(crate) is_volatile: bool,
    /// The fields of an event that it is made of, if it is made of events.
    pub(crate) from: Vec<String>,
}

impl Card {
    /// Reads a card's lines.
    pub(crate) fn parse(text: &str) -> Self {
        let mut card = Self::default();
        let mut proto = String::new();
        for (name, value) in entries(text) {
            match name {
                "" => card.description = value,
                "grain" => card.grain = value,
                "owner" => card.owner = value,
                "schedule" => card.schedule = value,
                "freshness" => card.freshness = value,
                "proto" => proto = value,
                "key" => card.key = value.split(',').map(|column| column.trim().to_owned()).collect(),
                _ => {
                    if let Some(column) = name.strip_prefix(COLUMN) {
                        card.columns.insert(column.trim().to_owned(), Column::parse(&value));
                    }
                }
            }
        }
        if let Some(message) = DESCRIPTORS.get_message_by_name(&proto) {
            card.classify(&message, 0);
        }
        card
    }

    /// Columns that are named like a field of the message that they come from say of a person what the field says.
    fn classify(&mut self, message: &MessageDescriptor, depth: usize) {
        for field in message.fields() {
            let pii = pii_of(&field);
            if pii > Pii::None {
                let column = self.columns.entry(field.name().to_owned()).or_default();
                column.pii = column.pii.max(pii);
            }
            // Messages that contain themselves have no column below the second level.
            if let Some(inner) = field.kind().as_message().filter(|_| depth < 2) {
                self.classify(inner, depth + 1);
            }
        }
    }

    /// The table's metadata.
    pub(crate) fn metadata(&self, layer: &str) -> BTreeMap<String, String> {
        let said = [
            ("description", self.description.clone()),
            ("grain", self.grain.clone()),
            ("key", self.key.join(",")),
            ("owner", self.owner.clone()),
            ("schedule", self.schedule.clone()),
            ("freshness", self.freshness()),
        ];
        let said = said.into_iter().map(|(name, value)| (name.to_owned(), value));
        let more = self.more.iter().map(|(name, value)| (name.clone(), value.clone()));
        let mut metadata: BTreeMap<_, _> = said
            .chain(more)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (format!("omnimesh.card.{name}"), value))
            .collect();
        metadata.insert("omnimesh.layer".to_owned(), layer.to_owned());
        metadata
    }

    /// How far the table may be behind what it is made of.
    fn freshness(&self) -> String {
        match (self.freshness.as_str(), self.schedule.as_str()) {
            ("", "") => {
                "computed once its inputs have changed, at most `lake.refresh_seconds` later".to_owned()
            }
            ("", schedule) => format!("computed at {schedule} (UTC) once its inputs have changed"),
            (said, _) => said.to_owned(),
        }
    }

    /// The table's columns as they are kept: with their docs, the key marked, types that every reader knows.
    pub(crate) fn dress(&self, schema: &Schema) -> Schema {
        Schema::new(schema.fields().iter().map(|field| self.dress_field(field)).collect::<Vec<_>>())
    }

    fn dress_field(&self, field: &Field) -> Field {
        // What a column was made of says what it tells of a person, but nothing of the key that it is in here.
        let mut metadata: HashMap<_, _> = field.metadata().clone();
        metadata.retain(|name, _| !columns::marks_key(name));
        let column = self.columns.get(field.name()).cloned().unwrap_or_default();
        if !column.doc.is_empty() {
            metadata.insert("description".to_owned(), column.doc);
        }
        let inherited = metadata.get(PII).and_then(|class| Pii::parse(class)).unwrap_or_default();
        metadata.insert(PII.to_owned(), column.pii.max(inherited).as_str().to_owned());
        if column.is_volatile {
            metadata.extend([columns::volatile_metadata()]);
        }
        let position = self.key.iter().position(|key| key == field.name());
        if let Some(position) = position {
            metadata.extend(columns::key_metadata(position + 1));
        }
        let nullable = field.is_nullable() && position.is_none();
        Field::new(field.name(), plain(field.data_type()), nullable).with_metadata(metadata)
    }
}

/// The lines of a card as names and values, the description under the empty name; a line without a name goes on with the
/// one before it.
pub(crate) fn entries(text: &str) -> Vec<(&str, String)> {
    let mut entries = vec![("", String::new())];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let named =
            line.split_once(": ").filter(|(name, _)| NAMES.contains(name) || name.starts_with(COLUMN));
        if let Some((name, value)) = named {
            entries.push((name, value.to_owned()));
        } else if let Some((_, value)) = entries.last_mut() {
            value.push_str(if value.is_empty() { "" } else { " " });
            value.push_str(line);
        }
    }
    entries
}

impl Column {
    /// Reads a sentence and the marks in brackets after it.
    fn parse(value: &str) -> Self {
        let mut column = Self { doc: value.to_owned(), ..Self::default() };
        while let Some((doc, mark)) = column.doc.strip_suffix(']').and_then(|text| text.rsplit_once(" [")) {
            let (name, value) = mark.split_once('=').unwrap_or((mark, ""));
            match (name, Pii::parse(value)) {
                ("volatile", _) => column.is_volatile = true,
                ("from", _) => column.from = fields(value),
                ("pii", Some(pii)) => column.pii = pii,
                _ => break,
            }
            column.doc = doc.to_owned();
        }
        column
    }
}

/// The fields that are named between commas: `a/b.c` stands for `a.c` and `b.c`.
fn fields(named: &str) -> Vec<String> {
    let paths = named.split(", ").flat_map(|path| {
        let (heads, rest) = path.split_at(path.find('.').unwrap_or(path.len()));
        heads.split('/').map(move |head| format!("{head}{rest}"))
    });
    paths.collect()
}

/// A type as tables have it: views and wide offsets are a matter of memory.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            DataType::List(Arc::new(plain_field(item)))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| plain_field(field)).collect()),
        other => other.clone(),
    }
}

fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain(field.data_type()), field.is_nullable())
        .with_metadata(field.metadata().clone())
}

static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(omnimesh_proto::FILE_DESCRIPTOR_SET).unwrap_or_default());

fn pii_of(field: &prost_reflect::FieldDescriptor) -> Pii {
    let options = field.options();
    let says = |name: &str| {
        DESCRIPTORS
            .get_extension_by_name(name)
            .filter(|extension| options.has_extension(extension))
            .map(|extension| options.get_extension(&extension).into_owned())
    };
    match (says("omnimesh.options.v1.pii"), says("omnimesh.options.v1.subject")) {
        (Some(Value::EnumNumber(class)), _) if class > 0 => Pii::Direct,
        (_, Some(Value::Bool(true))) => Pii::Quasi,
        _ => Pii::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_what_is_written_and_what_the_contract_says() {
        let card = Card::parse(
            "People as we know them.\ngrain: one row per person\nkey: golden_id, version\nowner: crm\n\
             proto: omnimesh.customer.v1.Customer\ncolumn email: Where to write to.\n\
             column note: Anything,\nat: all [really]. [pii=direct] [volatile] [from=text,\nold/new.note]\n\
             column version: Which one.",
        );
        assert_eq!(card.description, "People as we know them.");
        assert_eq!(card.key, ["golden_id", "version"]);
        let classes = [
            ("email", Pii::Direct),
            ("golden_id", Pii::Quasi),
            ("note", Pii::Direct),
            ("version", Pii::None),
        ];
        for (column, pii) in classes {
            assert_eq!(card.columns[column].pii, pii, "{column}");
        }
        assert_eq!(
            (&*card.columns["note"].doc, card.columns["note"].is_volatile),
            ("Anything, at: all [really].", true)
        );
        assert_eq!(card.columns["note"].from, ["text", "old.note", "new.note"]);
        let key_elsewhere = columns::key_metadata(1).into_iter().collect();
        let schema = Schema::new(vec![
            Field::new("golden_id", DataType::Utf8View, true),
            Field::new("email", DataType::LargeUtf8, true).with_metadata(key_elsewhere),
            Field::new("note", DataType::Utf8, true),
        ]);
        let dressed = card.dress(&schema);
        let field = dressed.field(0);
        assert_eq!((field.data_type(), field.is_nullable()), (&DataType::Utf8, false));
        assert_eq!(field.metadata()["omnimesh.pii"], "quasi");
        assert_eq!(dressed.field(1).metadata()["description"], "Where to write to.");
        assert!(!columns::is_key(dressed.field(1)) && columns::is_volatile(dressed.field(2)));
        assert_eq!(Card::default().dress(&dressed).field(1).metadata()["omnimesh.pii"], "direct");
        assert_eq!(card.metadata("gold")["omnimesh.card.key"], "golden_id,version");
        for (line, freshness) in [
            ("freshness: seconds", "seconds"),
            ("schedule: 0 * * * *", "computed at 0 * * * * (UTC) once its inputs have changed"),
            ("", "computed once its inputs have changed, at most `lake.refresh_seconds` later"),
        ] {
            assert_eq!(Card::parse(line).metadata("gold")["omnimesh.card.freshness"], freshness);
        }
    }
}
