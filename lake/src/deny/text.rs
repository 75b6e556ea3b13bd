//! The parts of a text that may be somebody's key: what it says as a whole, the values of a JSON document, the fields of
//! a CSV row, single words.

use serde_json::Value;
use types::contact;

use super::{
    field::{About, Field},
    record::{Record, Shape},
};

/// Shorter texts stand for too much to be somebody's key.
pub(crate) const SHORTEST: usize = 6;
/// Longer texts are no e-mail address, phone number or card, however they are written.
const LONGEST_CONTACT: usize = 320;

/// The forms in which a key compares: as it is written, and as an e-mail address, a phone number or a card. An id with
/// its system has but one.
pub(crate) fn spellings(key: &str) -> impl Iterator<Item = String> {
    let key = key.trim();
    let mut spelled = vec![key.to_owned()];
    if !is_qualified(key) {
        spelled.push(key.to_lowercase());
        spelled.extend(contact::email(key));
        spelled.extend(phone(key));
        spelled.extend(contact::loyalty_card(key));
    }
    spelled.into_iter().filter(|spelled| spelled.len() >= SHORTEST || is_qualified(spelled))
}

/// Whether it is an id together with its system: `<system>/<id>`.
pub(crate) fn is_qualified(key: &str) -> bool {
    key.contains('/')
}

/// Whether a key says whose it is wherever it stands. A number or an id may stand for anything.
pub(crate) fn speaks_for_itself(key: &str) -> bool {
    !is_qualified(key) && !is_number(key)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() || first == '-') && text.parse::<f64>().is_ok()
}

/// Whether a part of a field may be compared with keys.
fn counts(part: &str, field: Field<'_>) -> bool {
    match field.about {
        About::Belonging => true,
        About::Person => !is_number(part),
        About::Other => speaks_for_itself(part),
    }
}

/// Whether `is_key` holds of any part of a record as its source wrote it.
pub(super) fn any_of_record(
    record: &Record<'_>,
    shape: &Shape<'_>,
    is_key: &mut dyn FnMut(&str) -> bool,
) -> bool {
    match record {
        Record::Row(row) => row
            .iter()
            .zip(&shape.columns)
            .any(|(text, (_, about))| any(text, Field { about: *about, ..shape.record }, is_key)),
        Record::Document(document) => any_value(document, shape.record, is_key),
        Record::Text(text) => any(text, shape.record, is_key),
    }
}

/// Whether `is_key` holds of any part of a field's text.
pub(super) fn any(text: &str, field: Field<'_>, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    let text = text.trim();
    if text.starts_with(['{', '['])
        && let Ok(document) = serde_json::from_str(text)
    {
        return any_value(&document, field, is_key);
    }
    if !field.system.is_empty()
        && field.about != About::Other
        && !text.is_empty()
        && is_key(&format!("{}/{text}", field.system))
    {
        return true;
    }
    if text.len() < SHORTEST && !is_qualified(text) {
        return false;
    }
    // What is between commas is of as many fields, whose names nobody tells.
    let has_fields = text.contains(',');
    let field = if has_fields { Field::default() } else { field };
    (has_fields && counts(text, field) && is_key(text))
        || text.split(',').any(|part| any_word(part, field, is_key))
}

fn any_value(value: &Value, field: Field<'_>, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => any(text, field, is_key),
        Value::Number(number) => any(&number.to_string(), field, is_key),
        Value::Array(items) => items.iter().any(|item| any_value(item, field, is_key)),
        Value::Object(members) => members.iter().any(|(name, value)| {
            any(name, Field::default(), is_key) || any_value(value, field.inside(name), is_key)
        }),
        Value::Null | Value::Bool(_) => false,
    }
}

/// Looks at a text as a whole, then at its words.
fn any_word(text: &str, field: Field<'_>, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '"');
    if text.len() < SHORTEST && !is_qualified(text) {
        return false;
    }
    if counts(text, field) && (is_key(text) || is_contact(text, is_key)) {
        return true;
    }
    let words = words(text).filter(|word| word.len() >= SHORTEST);
    let mut words = words.filter(|word| *word != text && counts(word, field));
    words.any(|word| is_key(word) || is_email(word, is_key))
}

pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !(letter.is_alphanumeric() || "._-+@%".contains(letter)));
    words.map(|word| word.trim_matches(['.', '-']))
}

fn is_contact(field: &str, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    if field.len() > LONGEST_CONTACT {
        return false;
    }
    if field.contains('@') {
        return is_email(field, is_key);
    }
    let digits = field.bytes().filter(u8::is_ascii_digit).count();
    let differs = |spelled: &String| spelled != field && spelled.len() >= SHORTEST;
    digits >= SHORTEST
        && [phone(field), contact::loyalty_card(field)]
            .into_iter()
            .flatten()
            .filter(differs)
            .any(|spelled| is_key(&spelled))
}

/// A phone number in E.164. What has letters before its end is an id with as many digits.
fn phone(text: &str) -> Option<String> {
    let number = text.split(['x', 'X']).next().unwrap_or_default().trim_end_matches(char::is_alphabetic);
    contact::phone(text).filter(|_| !number.contains(char::is_alphabetic))
}

fn is_email(word: &str, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    word.contains('@') && contact::email(word).is_some_and(|email| email != word && is_key(&email))
}
