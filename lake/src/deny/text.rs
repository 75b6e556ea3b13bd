//! The parts of a text that may be somebody's key: what it says as a whole, the values of a JSON document, the fields of a
//! CSV row, single words.

use serde_json::Value;
use types::contact;

/// Shorter texts stand for too much to be somebody's key.
pub(crate) const SHORTEST: usize = 6;
/// Longer texts are no e-mail address, phone number or card, however they are written.
const LONGEST_CONTACT: usize = 320;

/// The forms in which a key compares: as it is written, and as an e-mail address, a phone number or a card.
pub(crate) fn spellings(key: &str) -> impl Iterator<Item = String> {
    let key = key.trim();
    let mut spelled = vec![key.to_owned(), key.to_lowercase()];
    spelled.extend(contact::email(key));
    spelled.extend(contact::phone(key));
    spelled.extend(contact::loyalty_card(key));
    spelled.into_iter().filter(|spelled| spelled.len() >= SHORTEST)
}

/// Whether `is_key` holds of any part of a text.
pub(super) fn any(text: &str, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    let text = text.trim();
    if text.len() < SHORTEST {
        return false;
    }
    if text.starts_with(['{', '['])
        && let Ok(document) = serde_json::from_str(text)
    {
        return any_value(&document, is_key);
    }
    let has_fields = text.contains(',');
    (has_fields && is_key(text)) || text.split(',').any(|field| any_word(field, is_key))
}

fn any_value(value: &Value, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => any(text, is_key),
        Value::Number(number) => any(&number.to_string(), is_key),
        Value::Array(items) => items.iter().any(|item| any_value(item, is_key)),
        Value::Object(members) => {
            members.iter().any(|(name, value)| any(name, is_key) || any_value(value, is_key))
        }
        Value::Null | Value::Bool(_) => false,
    }
}

/// Looks at a field as a whole, then at its words.
fn any_word(field: &str, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    let field = field.trim_matches(|letter: char| letter.is_whitespace() || letter == '"');
    if field.len() < SHORTEST {
        return false;
    }
    if is_key(field) || is_contact(field, is_key) {
        return true;
    }
    let words = field.split(|letter: char| !(letter.is_alphanumeric() || "._-+@%".contains(letter)));
    let words = words.map(|word| word.trim_matches(['.', '-'])).filter(|word| word.len() >= SHORTEST);
    words.filter(|word| *word != field).any(|word| is_key(word) || is_email(word, is_key))
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
        && [contact::phone(field), contact::loyalty_card(field)]
            .into_iter()
            .flatten()
            .filter(differs)
            .any(|spelled| is_key(&spelled))
}

fn is_email(word: &str, is_key: &mut dyn FnMut(&str) -> bool) -> bool {
    word.contains('@') && contact::email(word).is_some_and(|email| email != word && is_key(&email))
}
