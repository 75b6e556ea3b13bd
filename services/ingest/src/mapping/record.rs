//! A record that was read: fields by index, whatever the format.

use std::borrow::Cow;

use serde_json::Value;
use types::Timestamp;

use super::{Schema, schema::Field};

/// A record.
#[derive(Debug)]
pub(crate) enum Parsed<'p> {
    Row(Vec<Cow<'p, str>>),
    Document(Value),
}

/// Where fields are looked up: a record, and the element of one of its arrays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'r> {
    record: &'r Parsed<'r>,
    element: Option<&'r Value>,
}

impl<'p> Parsed<'p> {
    pub(crate) fn document(payload: &str) -> Result<Self, String> {
        match serde_json::from_str(payload) {
            Ok(document @ Value::Object(_)) => Ok(Self::Document(document)),
            Ok(_) => Err("the line is no JSON object".to_owned()),
            Err(error) => Err(format!("the line is no JSON: {error}")),
        }
    }

    /// The text of a row's column.
    pub(crate) fn column(&self, index: usize) -> &str {
        match self {
            Self::Row(columns) => columns.get(index).map_or("", |column| column),
            Self::Document(_) => "",
        }
    }

    pub(crate) fn scope<'r>(&'r self) -> Scope<'r>
    where
        'p: 'r,
    {
        Scope { record: self, element: None }
    }

    /// A scope for each element of an array; a missing array has none.
    pub(crate) fn each<'r>(&'r self, schema: &Schema, array: usize) -> Result<Vec<Scope<'r>>, String>
    where
        'p: 'r,
    {
        let Self::Document(document) = self else { return Ok(Vec::new()) };
        let path = schema.array_path(array);
        match find(document, path) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(elements)) => {
                Ok(elements.iter().map(|element| Scope { record: self, element: Some(element) }).collect())
            }
            Some(_) => Err(format!("{}: is no array", path.join("."))),
        }
    }
}

impl<'r> Scope<'r> {
    /// A field's text; what is empty is missing.
    pub(crate) fn text(self, field: &Field, index: usize) -> Result<Option<Cow<'r, str>>, String> {
        let text = match (self.record, self.element) {
            (Parsed::Row(columns), _) => columns.get(index).map(|column| Cow::Borrowed(&**column)),
            (Parsed::Document(_), Some(element)) if field.each.is_some() => {
                scalar(find(element, &field.path))?
            }
            (Parsed::Document(document), _) => scalar(find(document, &field.path))?,
        };
        Ok(text.filter(|text| !text.is_empty()))
    }
}

fn find<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| value.get(step))
}

/// The text of a scalar. Extended JSON wraps what JSON has no type for: `{"$date": …}`.
fn scalar(value: Option<&Value>) -> Result<Option<Cow<'_, str>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(Value::Number(number)) => Ok(Some(Cow::Owned(number.to_string()))),
        Some(Value::Bool(truth)) => Ok(Some(Cow::Borrowed(if *truth { "true" } else { "false" }))),
        Some(Value::Object(wrapper)) => match wrapper.iter().next() {
            Some((name, inner)) if wrapper.len() == 1 && name == "$date" && inner.is_object() => {
                milliseconds(inner).map(|time| Some(Cow::Owned(time)))
            }
            Some((name, inner)) if wrapper.len() == 1 && name.starts_with('$') => scalar(Some(inner)),
            _ => Err("is an object where a value is due".to_owned()),
        },
        Some(Value::Array(_)) => Err("is an array where a value is due".to_owned()),
    }
}

/// The time that extended JSON's canonical form counts in milliseconds: `{"$numberLong": …}`.
fn milliseconds(count: &Value) -> Result<String, String> {
    let milliseconds = scalar(Some(count))?.and_then(|text| text.parse::<i64>().ok());
    let micros = milliseconds.and_then(|milliseconds| milliseconds.checked_mul(1000));
    micros
        .map(|micros| Timestamp::from_micros(micros).to_string())
        .ok_or_else(|| format!("`{count}` is no time"))
}
