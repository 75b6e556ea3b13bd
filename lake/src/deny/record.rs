//! Records as their sources wrote them, and the keys by which they name persons, as the sources' definitions say.

use std::{borrow::Cow, collections::BTreeSet};

use arrow::array::{Array, RecordBatch, StringArray};
use serde_json::Value;
use types::csv;

use super::{About, Denied, Field, rows::text, text::words};

/// The columns of bronze that tell of records.
pub(crate) const COLUMNS: [&str; 5] = ["_source", "_entity", "_columns", "_subject_keys", PAYLOAD];
/// The one that has them.
pub(super) const PAYLOAD: &str = "_payload";
/// What stands for the name of a field that cannot be told.
const UNKNOWN: &str = "?";
/// What stands for a part of a name that may be a value.
const ANY: &str = "*";

/// What is known of records that landed together.
pub(super) struct Shape<'s> {
    pub(super) record: Field<'s>,
    /// Of rows of CSV: names of the columns, and what they are about.
    pub(super) columns: Vec<(Cow<'s, str>, About)>,
    pub(super) keys: Vec<Template<'s>>,
}

impl<'s> Shape<'s> {
    fn new(denied: &'s Denied, [system, entity, header, keys]: [&'s str; 4]) -> Self {
        let record = Field { system, ..denied.field().inside(entity) };
        let names = if header.is_empty() { Vec::new() } else { csv::row(header).unwrap_or_default() };
        let columns = names.into_iter().map(|name| {
            let about = record.inside(&name).about;
            (name, about)
        });
        let known = denied.subject_keys.get(&format!("{system}/{entity}")).into_iter().flatten();
        let keys: BTreeSet<_> = keys.lines().chain(known.map(String::as_str)).collect();
        let keys = keys.into_iter().map(Template::new).collect();
        Self { record, columns: columns.collect(), keys }
    }

    /// Whether it is told whom a field names.
    fn tells_of(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.fields.iter().any(|(field, _)| *field == name))
    }
}

/// Reads the records of a batch, each with its row; false if it has none.
pub(super) fn each<'b>(
    denied: &'b Denied,
    batch: &'b RecordBatch,
    mut told: impl FnMut(usize, &Shape<'b>, &Record<'b>),
) -> bool {
    let column = |name| text(batch, name);
    let (Some(systems), Some(entities), Some(payloads)) =
        (column("_source"), column("_entity"), column(PAYLOAD))
    else {
        return false;
    };
    let (headers, keys) = (column("_columns"), column("_subject_keys"));
    let optional = |column: Option<&'b StringArray>, row| {
        column.filter(|column| column.is_valid(row)).map_or("", |column| column.value(row))
    };
    // What is told of a record comes many times in a row.
    let mut last: Option<([&str; 4], Shape<'b>)> = None;
    for row in 0..batch.num_rows() {
        let said = [systems.value(row), entities.value(row), optional(headers, row), optional(keys, row)];
        let shape = match last.take() {
            Some((known, shape)) if known == said => shape,
            _ => Shape::new(denied, said),
        };
        told(row, &shape, &Record::read(payloads.value(row), shape.columns.len()));
        last = Some((said, shape));
    }
    true
}

/// A record.
pub(super) enum Record<'r> {
    Row(Vec<Cow<'r, str>>),
    Document(Value),
    /// Neither: it is damaged, or its columns are not told.
    Text(&'r str),
}

impl<'r> Record<'r> {
    fn read(payload: &'r str, columns: usize) -> Self {
        if columns > 0
            && let Ok(row) = csv::row(payload)
            && row.len() == columns
        {
            return Self::Row(row);
        }
        match serde_json::from_str(payload) {
            Ok(document @ (Value::Object(_) | Value::Array(_))) => Self::Document(document),
            _ => Self::Text(payload),
        }
    }

    /// Names of the fields that hold one of `values`, and of which it is not told whom they name.
    pub(super) fn unclear(&self, shape: &Shape<'_>, values: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        match self {
            Self::Row(row) => {
                let fields = row.iter().zip(&shape.columns).filter(|(text, _)| values.contains(text.trim()));
                found.extend(fields.map(|(_, (name, _))| name.clone().into_owned()));
                found.retain(|name| !shape.tells_of(name));
            }
            Self::Document(document) => each_value(document, &mut Vec::new(), &mut |path, text| {
                if values.contains(text.trim()) && !shape.tells_of(&joined(path.iter().copied())) {
                    let is_value = |step: &str| {
                        values.contains(step)
                            || step.contains(|letter: char| letter == '@' || letter.is_numeric())
                    };
                    found.insert(joined(path.iter().map(|step| if is_value(step) { ANY } else { *step })));
                }
            }),
            Self::Text(text) => {
                if values.contains(text.trim()) || words(text).any(|word| values.contains(word)) {
                    found.insert(UNKNOWN.to_owned());
                }
            }
        }
        found
    }
}

/// The name of a field in a document, as definitions write it: `a.b`, `a[].b`.
fn joined<'p>(path: impl Iterator<Item = &'p str>) -> String {
    path.collect::<Vec<_>>().join(".").replace(".[]", "[]")
}

/// Hands on every value of a document with its path, and the names of fields as well: those may be ids.
fn each_value<'v>(value: &'v Value, path: &mut Vec<&'v str>, told: &mut dyn FnMut(&[&str], &str)) {
    match value {
        Value::String(text) => told(path, text),
        Value::Number(number) => told(path, &number.to_string()),
        Value::Array(items) => {
            path.push("[]");
            items.iter().for_each(|item| each_value(item, path, told));
            path.pop();
        }
        Value::Object(members) => {
            for (name, value) in members {
                path.push(name);
                told(path, name);
                each_value(value, path, told);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// A key by which a record names somebody, as its source's definition writes it: `shop/{customer_id}`.
pub(super) struct Template<'t> {
    /// What is before the first field.
    head: &'t str,
    /// Names of fields, each with what is between it and the next one.
    fields: Vec<(&'t str, &'t str)>,
}

impl<'t> Template<'t> {
    fn new(text: &'t str) -> Self {
        let mut parts = text.split('{');
        let head = parts.next().unwrap_or_default();
        Self { head, fields: parts.filter_map(|part| part.split_once('}')).collect() }
    }

    /// The keys that it comes to in a record: one for each element if a field is of an array's.
    pub(super) fn keys(&self, record: &Record<'_>, shape: &Shape<'_>) -> Vec<String> {
        match record {
            Record::Row(row) => {
                let value = |name: &str| {
                    let at = shape.columns.iter().position(|(known, _)| known == name)?;
                    row.get(at).map(|text| Cow::Borrowed(&**text))
                };
                self.key(value).into_iter().collect()
            }
            Record::Document(document) => {
                let key = |element: &Value| {
                    self.key(|name| match name.split_once("[].") {
                        Some((_, name)) => scalar(find(element, name)?),
                        None => scalar(find(document, name)?),
                    })
                };
                self.elements(document).iter().filter_map(key).collect()
            }
            Record::Text(_) => Vec::new(),
        }
    }

    /// The elements of the array that its fields are of; the document where they are of none.
    fn elements<'v>(&self, document: &'v Value) -> &'v [Value] {
        let array = self.fields.iter().find_map(|(name, _)| name.split_once("[]."));
        match array.map(|(array, _)| find(document, array)) {
            None => std::slice::from_ref(document),
            Some(Some(Value::Array(elements))) => elements,
            Some(_) => &[],
        }
    }

    /// The key, unless one of its fields is missing.
    fn key<'v>(&self, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> Option<String> {
        let mut key = self.head.to_owned();
        for (name, after) in &self.fields {
            key.push_str(&value(name).filter(|value| !value.is_empty())?);
            key.push_str(after);
        }
        Some(key)
    }
}

fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, step| value.get(step))
}

/// The text of a scalar. Extended JSON wraps what JSON has no type for: `{"$oid": …}`.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Object(wrapper) => match wrapper.iter().next() {
            Some((name, inner)) if wrapper.len() == 1 && name.starts_with('$') => scalar(inner),
            _ => None,
        },
        Value::Null | Value::Array(_) => None,
    }
}
