//! Substitution formats such as `%REQ(:PATH)% %DURATION%`: the one language of access logs, of headers that are
//! added, and of rewrites.

mod operator;
mod time;

use std::borrow::Cow;
use std::fmt::Write;

use http::{HeaderMap, StatusCode};

use crate::call::Call;
use crate::problem::{Path, Problem};
use operator::Operator;

pub(crate) use operator::{lookup, protocol};

/// What a format tells of: a call, and as much of its response as there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) call: &'a Call,
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) trailers: Option<&'a HeaderMap>,
    /// The body of a reply that the edge makes.
    pub(crate) local_body: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// While the request is on its way up.
    pub(crate) fn of_request(call: &'a Call) -> Self {
        Self { call, status: None, headers: None, trailers: None, local_body: None }
    }

    /// While the response is on its way down.
    pub(crate) fn of_response(call: &'a Call, status: StatusCode, headers: &'a HeaderMap) -> Self {
        Self { call, status: Some(status), headers: Some(headers), trailers: None, local_body: None }
    }

    /// Once the call has ended.
    pub(crate) fn of_ended(call: &'a Call) -> Self {
        let ended = &call.ended;
        let (headers, trailers) = (Some(&ended.headers), Some(&ended.trailers));
        Self { call, status: ended.status, headers, trailers, local_body: None }
    }

    /// While a reply is made whose body was to be this.
    pub(crate) fn saying(self, body: &'a str) -> Self {
        Self { local_body: Some(body), ..self }
    }
}

/// What one operator tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Json(Cow<'a, serde_json::Value>),
}

impl Value<'_> {
    fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Text(text) => out.write_str(text),
            Self::Number(number) => write!(out, "{number}"),
            Self::Json(json) => match json.as_str() {
                Some(text) => out.write_str(text),
                None => write!(out, "{json}"),
            },
        };
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// A format, read once.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Operator { operator: Operator, max_len: Option<usize> },
}

impl Format {
    pub(crate) fn parse(format: &str, at: &Path<'_>) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some(start) = rest.find('%') {
            text.push_str(&rest[..start]);
            let command = &rest[start + 1..];
            if let Some(after) = command.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (command, after) = Command::split(command).ok_or_else(|| {
                at.problem(format!("no command at '{}': write %% for a percent sign", &rest[start..]))
            })?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            let operator = Operator::parse(&command).map_err(|message| at.problem(message))?;
            parts.push(Part::Operator { operator, max_len: command.max_len });
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// Writes what it tells; `missing` stands for what is not known.
    pub(crate) fn write(&self, facts: Facts<'_>, missing: &str, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Operator { operator, max_len } => match read(operator, *max_len, facts) {
                    Some(value) => value.write(out),
                    None => out.push_str(missing),
                },
            }
        }
    }

    /// What it tells as a value of its own kind: one operator alone keeps its type, and is none if it is not known.
    pub(crate) fn value<'a>(&'a self, facts: Facts<'a>, missing: &str) -> Option<Value<'a>> {
        match self.0.as_slice() {
            [Part::Operator { operator, max_len }] => read(operator, *max_len, facts),
            [Part::Text(text)] => Some(text.as_str().into()),
            _ => {
                let mut text = String::new();
                self.write(facts, missing, &mut text);
                Some(text.into())
            }
        }
    }

    /// What it tells of every call alike, if it does.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What it tells as text, what is not known left out.
    pub(crate) fn text<'a>(&'a self, facts: Facts<'a>) -> Cow<'a, str> {
        match self.value(facts, "") {
            None => "".into(),
            Some(Value::Text(text)) => text,
            Some(value) => {
                let mut text = String::new();
                value.write(&mut text);
                text.into()
            }
        }
    }
}

fn read<'a>(operator: &'a Operator, max_len: Option<usize>, facts: Facts<'a>) -> Option<Value<'a>> {
    let value = operator.read(facts)?;
    Some(match (value, max_len) {
        (Value::Text(Cow::Borrowed(text)), Some(len)) => text[..text.floor_char_boundary(len)].into(),
        (Value::Text(Cow::Owned(mut text)), Some(len)) => {
            text.truncate(text.floor_char_boundary(len));
            text.into()
        }
        (value, _) => value,
    })
}

/// `NAME(argument):max_len`, between percent signs.
#[derive(Debug)]
struct Command<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    max_len: Option<usize>,
}

impl<'a> Command<'a> {
    /// Splits the command that `text` begins with from what follows it.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let name_len = text
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .filter(|len| *len > 0)?;
        let (name, rest) = text.split_at(name_len);
        let Some(arguments) = rest.strip_prefix('(') else {
            let (max_len, after) = Self::end(rest)?;
            return Some((Self { name, argument: None, max_len }, after));
        };
        // An argument may hold parentheses and percent signs: it ends where the command can end.
        arguments.match_indices(')').find_map(|(end, _)| {
            let (max_len, after) = Self::end(&arguments[end + 1..])?;
            Some((Self { name, argument: Some(&arguments[..end]), max_len }, after))
        })
    }

    fn end(text: &str) -> Option<(Option<usize>, &str)> {
        if let Some(after) = text.strip_prefix('%') {
            return Some((None, after));
        }
        let (len, after) = text.strip_prefix(':')?.split_once('%')?;
        Some((Some(len.parse().ok()?), after))
    }
}

#[cfg(test)]
mod tests;
