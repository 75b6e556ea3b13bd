//! What `omnimesh verify --json` reports, of one deployment and of two that should be alike.

use std::collections::BTreeSet;

use serde_json::Value;

/// Every line in which two reports differ: none if the same went in and the same came out.
pub(crate) fn differences(one: &Value, other: &Value) -> Vec<String> {
    let (one, other) = (lines(one), lines(other));
    one.symmetric_difference(&other).cloned().collect()
}

/// A report as lines: each invariant, and each table of the lake with its digest.
fn lines(report: &Value) -> BTreeSet<String> {
    let items = |key: &str| report[key].as_array().unwrap_or_else(|| panic!("no list of {key}")).iter();
    items("checks").chain(items("lake")).map(Value::to_string).collect()
}

/// A table of the lake, by its name.
pub(crate) fn table<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut tables = report["lake"].as_array().expect("a list of tables").iter();
    tables.find(|table| table["table"] == name).unwrap_or_else(|| panic!("no table {name} in the lake"))
}

/// The keys of a JSON document and, a level below, of its objects; a list stands for its first element.
pub(crate) fn keys(document: &Value) -> Vec<String> {
    let below = |(key, value): (&String, &Value)| match value.get(0).unwrap_or(value).as_object() {
        Some(inner) => inner.keys().map(|name| format!("{key}.{name}")).collect(),
        None => vec![key.clone()],
    };
    document.as_object().expect("a JSON object").iter().flat_map(below).collect()
}
