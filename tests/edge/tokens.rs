//! The tokens of `jwt.yaml` in place of `<jwt:name>`.

use std::sync::OnceLock;

use serde_json::Value;

use crate::yaml;

pub(crate) fn fill(value: &mut Value) {
    match value {
        Value::String(text) => {
            while let Some((before, rest)) = text.split_once("<jwt:") {
                let (name, after) = rest.split_once('>').expect("the name of a token ends");
                *text = format!("{before}{}{after}", token(name));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Object(fields) => fields.values_mut().for_each(fill),
        _ => {}
    }
}

fn token(name: &str) -> &'static str {
    static TOKENS: OnceLock<Value> = OnceLock::new();
    let tokens = TOKENS.get_or_init(|| yaml::read(include_str!("jwt.yaml")).expect("tokens"));
    tokens[name].as_str().expect("a token of this name")
}
