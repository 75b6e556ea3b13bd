//! One value of the file into one value of a message, with the freedoms that Envoy's JSON parser allows.

use base64::{Engine, alphabet, engine::GeneralPurposeConfig, engine::general_purpose::GeneralPurpose};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::yaml::{Content, Node, Scalar};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

const LONGEST_DURATION_S: i64 = 315_576_000_000;

/// A value of any kind but a message or an enum. What is wrong is said without the path.
pub(super) fn scalar(kind: &Kind, node: &Node) -> Result<Value, String> {
    let Content::Scalar(scalar) = &node.content else {
        return Err(format!("{} is due, not {}", named(kind), node.kind()));
    };
    read(kind, scalar).ok_or_else(|| match (kind, scalar) {
        (Kind::String, Scalar::Int(number)) => format!("text is due, not a number: write \"{number}\""),
        (Kind::String, Scalar::Bool(_)) => "text is due, not a boolean: write it in quotes".to_owned(),
        (_, Scalar::Text(text)) => format!("{} is due, not `{}`", named(kind), text.escape_debug()),
        (_, Scalar::Int(number)) => format!("{} is due, not {number}", named(kind)),
        _ => format!("{} is due, not {}", named(kind), node.kind()),
    })
}

fn read(kind: &Kind, scalar: &Scalar) -> Option<Value> {
    match kind {
        Kind::String => text(scalar).map(|text| Value::String(text.to_owned())),
        Kind::Bytes => bytes(text(scalar)?).map(|bytes| Value::Bytes(bytes.into())),
        Kind::Bool => boolean(scalar).map(Value::Bool),
        Kind::Double => float(scalar).map(Value::F64),
        // Narrowed as protobuf narrows it.
        Kind::Float => float(scalar).map(|value| Value::F32(value as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(scalar)?.try_into().ok().map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(scalar)?.try_into().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(scalar)?.try_into().ok().map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(scalar)?.try_into().ok().map(Value::U64),
        Kind::Message(_) | Kind::Enum(_) => None,
    }
}

fn named(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "text",
        Kind::Bytes => "base64",
        Kind::Bool => "true or false",
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "a whole number from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "a whole number from 0",
        Kind::Enum(_) => "a name",
        Kind::Message(_) => "a mapping",
    }
}

fn text(scalar: &Scalar) -> Option<&str> {
    match scalar {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).ok()
}

fn boolean(scalar: &Scalar) -> Option<bool> {
    match scalar {
        Scalar::Bool(value) => Some(*value),
        Scalar::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn float(scalar: &Scalar) -> Option<f64> {
    match scalar {
        Scalar::Int(value) => Some(f64::from(*value)),
        Scalar::Text(text)
            if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) =>
        {
            text.parse().ok().filter(|value: &f64| value.is_finite())
        }
        Scalar::Text(text) if text == "NaN" || text == "Infinity" => text.parse().ok(),
        _ => None,
    }
}

fn integer(scalar: &Scalar) -> Option<i128> {
    match scalar {
        Scalar::Int(value) => Some(i128::from(*value)),
        Scalar::Text(text) => text.parse().ok().or_else(|| {
            let value = float(scalar)?;
            // Exact: beyond 2^53 a number with a fraction or an exponent is refused.
            (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i128)
        }),
        _ => None,
    }
}

/// A name in any case, or a number: of a value that nobody named, too, which then is for the field's rule to refuse.
pub(super) fn enumeration(kind: &EnumDescriptor, node: &Node) -> Result<i32, String> {
    let named = match &node.content {
        Content::Scalar(Scalar::Int(number)) => Some(*number),
        Content::Scalar(Scalar::Text(text)) => kind
            .values()
            .find(|value| value.name().eq_ignore_ascii_case(text))
            .map(|value| value.number())
            .or_else(|| text.parse().ok()),
        _ => None,
    };
    named.ok_or_else(|| {
        let written =
            node.text().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", text.escape_debug()));
        format!("{written} is not one of {}", names(kind))
    })
}

pub(super) fn names(kind: &EnumDescriptor) -> String {
    let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
    names.join(", ")
}

pub(super) fn map_key(kind: &Kind, key: &str) -> Result<MapKey, String> {
    if *kind == Kind::String {
        return Ok(MapKey::String(key.to_owned()));
    }
    let value = scalar(kind, &Node::new(0, Content::Scalar(Scalar::Text(key.to_owned()))))?;
    value.into_map_key().ok_or_else(|| format!("`{key}` cannot be a key"))
}

/// The messages of `google.protobuf` that stand as a single value in JSON. None: an ordinary message.
pub(super) fn well_known(message: &MessageDescriptor, node: &Node) -> Option<Result<DynamicMessage, String>> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    match name {
        "Struct" if node.entries().is_none() => Some(Err(format!("a mapping is due, not {}", node.kind()))),
        "ListValue" if !matches!(node.content, Content::Sequence(_)) => {
            Some(Err(format!("a list is due, not {}", node.kind())))
        }
        "Struct" | "ListValue" | "Value" => Some(json(message, to_json(node), "a value")),
        // Written out field by field, they are messages like any other.
        _ if node.entries().is_some() => None,
        "Duration" => Some(duration(message, node)),
        "Timestamp" => Some(json(message, to_json(node), "a time as in \"2026-01-31T00:00:00Z\"")),
        "FieldMask" => Some(json(message, to_json(node), "names of fields with commas between")),
        _ if name.ends_with("Value") => Some(message.get_field_by_name("value").map_or_else(
            || Err("has no value".to_owned()),
            |field| {
                let mut wrapper = DynamicMessage::new(message.clone());
                wrapper.set_field(&field, scalar(&field.kind(), node)?);
                Ok(wrapper)
            },
        )),
        _ => None,
    }
}

fn json(message: &MessageDescriptor, value: serde_json::Value, due: &str) -> Result<DynamicMessage, String> {
    DynamicMessage::deserialize(message.clone(), value).map_err(|error| format!("{due} is due: {error}"))
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.content {
        Content::Scalar(Scalar::Null) => serde_json::Value::Null,
        Content::Scalar(Scalar::Bool(value)) => (*value).into(),
        Content::Scalar(Scalar::Int(value)) => (*value).into(),
        Content::Scalar(Scalar::Text(text)) => text.as_str().into(),
        Content::Sequence(items) => items.iter().map(|item| to_json(item)).collect(),
        Content::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect()
        }
    }
}

fn duration(message: &MessageDescriptor, node: &Node) -> Result<DynamicMessage, String> {
    let Some((seconds, nanos)) = node.text().and_then(seconds) else {
        let written = match &node.content {
            Content::Scalar(Scalar::Int(number)) => format!("{number}: write {number}s"),
            _ => node
                .text()
                .map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", text.escape_debug())),
        };
        return Err(format!("a duration in seconds is due, such as 0.25s, not {written}"));
    };
    let mut duration = DynamicMessage::new(message.clone());
    duration.set_field_by_name("seconds", Value::I64(seconds));
    duration.set_field_by_name("nanos", Value::I32(nanos));
    Ok(duration)
}

/// Seconds and nanoseconds. No field of Envoy's takes a negative duration.
fn seconds(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || fraction.is_some_and(|fraction| !digits(fraction) || fraction.len() > 9) {
        return None;
    }
    let seconds = whole.parse::<i64>().ok().filter(|seconds| *seconds <= LONGEST_DURATION_S)?;
    let nanos: i32 = fraction.map_or(Some(0), |fraction| format!("{fraction:0<9}").parse().ok())?;
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds() {
        assert_eq!(seconds("1.5s"), Some((1, 500_000_000)));
        assert_eq!(seconds("0.25s"), Some((0, 250_000_000)));
        for wrong in
            ["-1s", "1", "1ms", ".5s", "1.s", "+1s", "1 s", "1e3s", "1.0000000001s", "315576000001s", "s"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_may_be_text() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        assert_eq!(integer(&text("5.0")), Some(5));
        assert_eq!(integer(&text("1e3")), Some(1000));
        assert_eq!(integer(&text(".5")), None);
        assert_eq!(integer(&text("inf")), None);
        assert_eq!(integer(&text(" 5")), None);
        assert_eq!(boolean(&text("True")), Some(true));
        assert_eq!(boolean(&text("on")), None);
        assert_eq!(boolean(&Scalar::Int(1)), None);
        assert_eq!(bytes("-_-_"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(bytes("!!"), None);
    }
}
