//! The part of AIP-160 filters that lists offer: comparisons of declared fields, joined by `AND`.

use crate::{InvalidRequest, Timestamp};

/// What a field holds, and so how it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text: `=` and `!=`.
    Text,
    /// An RFC 3339 time: every comparison.
    Time,
    /// `true` or `false`: `=` and `!=`.
    Boolean,
}

/// A field that a list can be filtered by.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in filters.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// How a field compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    // Longest first, so that `<=` is not read as `<`.
    const ALL: [(&'static str, Self); 6] = [
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    /// The operator in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A time.
    Time(Timestamp),
    /// A boolean.
    Boolean(bool),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field's declared name, never the caller's text.
    pub field: &'static str,
    /// How it compares.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

impl Condition {
    /// True if it holds for a text, which a boolean is as `true` or `false`. A time never holds for one.
    pub fn holds(&self, text: &str) -> bool {
        let is_equal = match &self.value {
            Value::Text(value) => value == text,
            Value::Boolean(value) => text.parse::<bool>().is_ok_and(|text| text == *value),
            Value::Time(_) => return false,
        };
        is_equal == (self.operator == Operator::Equal)
    }
}

/// Reads a filter; every condition must hold.
pub fn parse(text: &str, fields: &[Field]) -> Result<Vec<Condition>, InvalidRequest> {
    let mut rest = text.trim();
    let mut conditions = Vec::new();
    while !rest.is_empty() {
        let (condition, tail) =
            condition(rest, fields).map_err(|reason| InvalidRequest::new("filter", reason))?;
        conditions.push(condition);
        let tail = tail.trim_start();
        rest = match tail.strip_prefix("AND ") {
            Some(next) if !next.trim().is_empty() => next.trim_start(),
            _ if tail.is_empty() => tail,
            _ => {
                return Err(InvalidRequest::new(
                    "filter",
                    format!("`AND` and a comparison are due at `{tail}`"),
                ));
            }
        };
    }
    Ok(conditions)
}

fn condition<'t>(text: &'t str, fields: &[Field]) -> Result<(Condition, &'t str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let field = fields.iter().find(|field| field.name == name).ok_or_else(|| unknown(name, fields))?;
    let rest = rest.trim_start();
    let (sign, operator) = Operator::ALL
        .into_iter()
        .find(|(sign, _)| rest.starts_with(sign))
        .ok_or_else(|| format!("a comparison (=, !=, <, <=, >, >=) is due after `{name}`"))?;
    if field.kind != Kind::Time && !matches!(operator, Operator::Equal | Operator::NotEqual) {
        return Err(format!("`{name}` compares by = and != only"));
    }
    let (literal, rest) = literal(rest[sign.len()..].trim_start())?;
    let value = match field.kind {
        Kind::Text => Value::Text(literal),
        Kind::Time => Timestamp::parse(&literal)
            .map(Value::Time)
            .map_err(|_| format!("`{literal}` is not an RFC 3339 time, such as 2017-01-31T00:00:00Z"))?,
        Kind::Boolean => literal
            .parse()
            .map(Value::Boolean)
            .map_err(|_| format!("`{literal}` is neither true nor false"))?,
    };
    Ok((Condition { field: field.name, operator, value }, rest))
}

fn unknown(name: &str, fields: &[Field]) -> String {
    let known: Vec<_> = fields.iter().map(|field| field.name).collect();
    match known.as_slice() {
        [] => "this list cannot be filtered".to_owned(),
        _ => format!("`{name}` cannot be filtered by; these can: {}", known.join(", ")),
    }
}

/// A quoted text, in which a backslash takes the next character as it is, or a bare word.
fn literal(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return if end == 0 {
            Err("a value is due".to_owned())
        } else {
            Ok((text[..end].to_owned(), &text[end..]))
        };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    Err("a closing quote is missing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 3] = [
        Field { name: "brand", kind: Kind::Text },
        Field { name: "order_time", kind: Kind::Time },
        Field { name: "in_stock", kind: Kind::Boolean },
    ];

    #[test]
    fn comparisons_joined_by_and() {
        let conditions =
            parse(r#"brand="A \"B\"" AND order_time >= 2017-01-01T00:00:00Z"#, &FIELDS).expect("valid");
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[0].value, Value::Text(r#"A "B""#.to_owned()));
        assert_eq!(conditions[1].operator, Operator::GreaterOrEqual);
        assert_eq!(parse("  ", &FIELDS), Ok(vec![]));
    }

    #[test]
    fn texts_are_equal_or_not() {
        for (filter, expect) in
            [("brand = A", true), ("brand != A", false), ("brand = B", false), ("brand != B", true)]
        {
            let conditions = parse(filter, &FIELDS).expect("valid");
            assert_eq!(conditions[0].holds("A"), expect, "{filter}");
        }
        let time = parse("order_time != 2017-01-01T00:00:00Z", &FIELDS).expect("valid");
        assert!(!time[0].holds("A"));
    }

    #[test]
    fn booleans_are_true_or_false_or_missing() {
        for (filter, expect) in [
            ("in_stock = true", [true, false, false]),
            ("in_stock != true", [false, true, true]),
            ("in_stock = false", [false, true, false]),
            ("in_stock != false", [true, false, true]),
        ] {
            let conditions = parse(filter, &FIELDS).expect("valid");
            assert_eq!(["true", "false", ""].map(|text| conditions[0].holds(text)), expect, "{filter}");
        }
    }

    #[test]
    fn anything_else_is_named() {
        for (text, expect) in [
            ("color = red", "`color` cannot be filtered by; these can: brand, order_time, in_stock"),
            ("brand < x", "`brand` compares by = and != only"),
            ("in_stock > false", "`in_stock` compares by = and != only"),
            ("in_stock = yes", "`yes` is neither true nor false"),
            ("brand", "a comparison (=, !=, <, <=, >, >=) is due after `brand`"),
            ("brand = ", "a value is due"),
            ("brand = \"x", "a closing quote is missing"),
            ("brand = x OR brand = y", "`AND` and a comparison are due at `OR brand = y`"),
            ("brand = x AND ", "`AND` and a comparison are due at `AND`"),
            ("order_time > noon", "`noon` is not an RFC 3339 time, such as 2017-01-31T00:00:00Z"),
        ] {
            let error = parse(text, &FIELDS).expect_err(text);
            assert_eq!(error.violations[0].description, expect, "{text}");
        }
    }
}
