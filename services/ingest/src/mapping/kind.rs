//! Kinds of fields, and how their text is read.

use jiff::{civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Kind {
    pub(crate) r#type: Type,
    /// It may be missing.
    pub(crate) optional: bool,
}

/// What a field's text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Integer,
    Decimal,
    Time,
    Datetime,
    Date,
}

impl Type {
    const NAMES: [(&str, Self); 6] = [
        ("text", Self::Text),
        ("integer", Self::Integer),
        ("decimal", Self::Decimal),
        ("time", Self::Time),
        ("datetime", Self::Datetime),
        ("date", Self::Date),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn is_time(self) -> bool {
        matches!(self, Self::Time | Self::Datetime | Self::Date)
    }

    /// Fails with what is wrong if `text` is not of this type.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text => Ok(()),
            Self::Integer => integer(text).map(drop),
            Self::Decimal => decimal(text).map(drop),
            Self::Time | Self::Datetime | Self::Date => self.time(text).map(drop),
        }
    }

    /// The instant that `text` names.
    pub(crate) fn time(self, text: &str) -> Result<Timestamp, String> {
        let instant = |moment: civil::DateTime| {
            TimeZone::UTC.to_timestamp(moment).map(|instant| Timestamp::from_micros(instant.as_microsecond()))
        };
        let (read, example) = match self {
            Self::Date => {
                (text.parse::<civil::Date>().and_then(|date| instant(date.at(0, 0, 0, 0))), "2017-01-31")
            }
            Self::Datetime => (text.parse::<civil::DateTime>().and_then(instant), "2017-01-31 09:30:00"),
            _ => (Timestamp::parse(text), "2017-01-31T09:30:00Z"),
        };
        read.map_err(|_| format!("`{text}` is no {} such as {example}", self.name()))
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, optional) = text.strip_suffix('?').map_or((text.as_str(), false), |name| (name, true));
        let found = Type::NAMES.iter().find(|(known, _)| *known == name);
        let known = || Type::NAMES.map(|(name, _)| name).join(", ");
        let (_, r#type) =
            found.ok_or_else(|| format!("`{name}` is no kind of field; these are: {}", known()))?;
        Ok(Self { r#type: *r#type, optional })
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        format!("{}{}", kind.r#type.name(), if kind.optional { "?" } else { "" })
    }
}

pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("`{text}` is no integer"))
}

/// The parts of a decimal number: sign, digits before the point, digits after it.
fn decimal(text: &str) -> Result<(bool, &str, &str), String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) || digits.ends_with('.') {
        return Err(format!("`{text}` is no decimal number"));
    }
    Ok((negative, whole, fraction))
}

/// A decimal amount in units of its last of `decimals` places, exactly.
pub(crate) fn minor(text: &str, decimals: u32) -> Result<i64, String> {
    let (negative, whole, fraction) = decimal(text)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals as usize {
        return Err(format!("`{text}` has more than {decimals} decimals"));
    }
    let padding = 10_i64.checked_pow(decimals - fraction.len() as u32);
    let fraction = if fraction.is_empty() { Some(0) } else { fraction.parse::<i64>().ok() };
    let amount = whole
        .parse::<i64>()
        .ok()
        .zip(10_i64.checked_pow(decimals))
        .and_then(|(whole, scale)| whole.checked_mul(scale))
        .zip(fraction.zip(padding).and_then(|(fraction, padding)| fraction.checked_mul(padding)))
        .and_then(|(whole, fraction)| whole.checked_add(fraction))
        .ok_or_else(|| format!("`{text}` is too large"))?;
    Ok(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, decimals, expect) in [
            ("0.50", 2, Ok(50)),
            ("-0.5", 2, Ok(-50)),
            ("12", 2, Ok(1200)),
            ("1.10000", 2, Ok(110)),
            ("500", 0, Ok(500)),
            ("1.234", 3, Ok(1234)),
            ("1.005", 2, Err("`1.005` has more than 2 decimals")),
            ("1.O9", 2, Err("`1.O9` is no decimal number")),
            ("1.", 2, Err("`1.` is no decimal number")),
            ("", 2, Err("`` is no decimal number")),
            ("1e3", 2, Err("`1e3` is no decimal number")),
            ("99999999999999999999", 2, Err("`99999999999999999999` is too large")),
        ] {
            assert_eq!(minor(text, decimals), expect.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn times_are_utc() {
        let time = |kind: Type, text| kind.time(text).map(|time| time.to_string());
        assert_eq!(time(Type::Time, "2017-01-01T11:53:26Z"), Ok("2017-01-01T11:53:26Z".to_owned()));
        assert_eq!(time(Type::Time, "2017-01-01T11:53:26+02:00"), Ok("2017-01-01T09:53:26Z".to_owned()));
        assert_eq!(time(Type::Datetime, "2017-01-01 11:53:26"), Ok("2017-01-01T11:53:26Z".to_owned()));
        assert_eq!(time(Type::Date, "2016-05-17"), Ok("2016-05-17T00:00:00Z".to_owned()));
        assert!(time(Type::Datetime, "2017-01-01 25:61:00").is_err());
        assert!(time(Type::Date, "31/02/2017").is_err());
        assert!(time(Type::Time, "yesterday").is_err());
    }

    #[test]
    fn kinds_have_names() {
        for name in ["text", "decimal?", "date"] {
            assert_eq!(String::from(Kind::try_from(name.to_owned()).expect("a kind")), name);
        }
        assert!(
            Kind::try_from("money".to_owned()).expect_err("no kind").contains("these are: text, integer")
        );
    }
}
