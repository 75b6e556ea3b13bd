//! What a line of an access log says: text, or JSON whose values keep their types.

use std::io;

use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Source;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value as Template};

use crate::format::{Facts, Format, Value};
use crate::problem::{Path, Problem};
use crate::value;

const DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// The form of a log's lines.
#[derive(Debug)]
pub(crate) struct Line {
    form: Form,
    omit_empty: bool,
}

#[derive(Debug)]
enum Form {
    Text(Format),
    Json(Node),
}

impl Line {
    pub(crate) fn default(at: &Path<'_>) -> Result<Self, Problem> {
        Self::text(DEFAULT, at)
    }

    pub(crate) fn text(format: &str, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(Self { form: Form::Text(Format::parse(format, at)?), omit_empty: false })
    }

    pub(crate) fn json(template: &Struct, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(Self { form: Form::Json(Node::object(template, at)?), omit_empty: false })
    }

    #[expect(deprecated, reason = "Envoy still reads text_format")]
    pub(crate) fn compile(config: &SubstitutionFormatString, at: &Path<'_>) -> Result<Self, Problem> {
        if !config.formatters.is_empty() {
            return Err(at.field("formatters").problem("is not supported: remove it"));
        }
        let line = match &config.format {
            // Of old, an empty text means the default one.
            Some(Source::TextFormat(text)) if text.is_empty() => Self::default(at)?,
            Some(Source::TextFormat(text)) => Self::text(text, &at.field("text_format"))?,
            Some(Source::JsonFormat(template)) => Self::json(template, &at.field("json_format"))?,
            Some(Source::TextFormatSource(source)) => {
                let at = at.field("text_format_source");
                let text =
                    String::from_utf8(value::read(source, &at)?).map_err(|_| at.problem("is not UTF-8"))?;
                Self::text(&text, &at)?
            }
            None => return Err(at.problem("needs text_format_source or json_format")),
        };
        Ok(Self { omit_empty: config.omit_empty_values, ..line })
    }

    /// The line of a call, with its end.
    pub(crate) fn write(&self, facts: Facts<'_>) -> String {
        let mut line = String::with_capacity(512);
        match &self.form {
            Form::Text(format) => format.write(facts, self.missing(), &mut line),
            Form::Json(node) => {
                node.write(facts, self, &mut line);
                line.push('\n');
            }
        }
        line
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self.form, Form::Json(_))
    }

    fn missing(&self) -> &'static str {
        if self.omit_empty { "" } else { "-" }
    }
}

/// A part of a JSON line.
#[derive(Debug)]
enum Node {
    /// Keys are written already, as `"key":`, and in order.
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Format(Format),
    /// What is the same in every line.
    Fixed(String),
    Null,
}

impl Node {
    fn object(template: &Struct, at: &Path<'_>) -> Result<Self, Problem> {
        let mut fields: Vec<_> = template.fields.iter().collect();
        fields.sort_by_key(|(key, _)| *key);
        let fields = fields.into_iter().map(|(key, template)| {
            let node = Self::compile(template, &at.key(key))?;
            Ok((format!("{}:", serde_json::Value::from(key.as_str())), node))
        });
        Ok(Self::Object(fields.collect::<Result<_, _>>()?))
    }

    fn compile(template: &Template, at: &Path<'_>) -> Result<Self, Problem> {
        Ok(match &template.kind {
            None | Some(Kind::NullValue(_)) => Self::Null,
            Some(Kind::BoolValue(value)) => Self::Fixed(value.to_string()),
            // Displayed, a float without a fraction looks like an integer, as it shall.
            Some(Kind::NumberValue(value)) => Self::Fixed(value.to_string()),
            Some(Kind::StringValue(format)) => Self::Format(Format::parse(format, at)?),
            Some(Kind::StructValue(template)) => Self::object(template, at)?,
            Some(Kind::ListValue(list)) => {
                let items = list.values.iter().enumerate();
                Self::List(
                    items.map(|(i, item)| Self::compile(item, &at.index(i))).collect::<Result<_, _>>()?,
                )
            }
        })
    }

    /// Writes the part; false if it is empty and shall be left out.
    fn write(&self, facts: Facts<'_>, line: &Line, out: &mut String) -> bool {
        match self {
            Self::Object(fields) => {
                let fields = fields.iter().map(|(key, node)| (key.as_str(), node));
                write_all(('{', '}'), fields, facts, line, out)
            }
            Self::List(items) => write_all(('[', ']'), items.iter().map(|node| ("", node)), facts, line, out),
            Self::Format(format) => match format.value(facts, line.missing()) {
                Some(value) => {
                    write_value(&value, out);
                    true
                }
                None => Self::Null.write(facts, line, out),
            },
            Self::Fixed(text) => {
                out.push_str(text);
                true
            }
            Self::Null => {
                out.push_str("null");
                !line.omit_empty
            }
        }
    }
}

/// Writes an object's or a list's parts, without those that shall be left out.
fn write_all<'n>(
    (open, close): (char, char),
    parts: impl Iterator<Item = (&'n str, &'n Node)>,
    facts: Facts<'_>,
    line: &Line,
    out: &mut String,
) -> bool {
    out.push(open);
    let mut some = false;
    for (key, node) in parts {
        let before = out.len();
        if some {
            out.push(',');
        }
        out.push_str(key);
        if node.write(facts, line, out) {
            some = true;
        } else {
            out.truncate(before);
        }
    }
    out.push(close);
    some || !line.omit_empty
}

fn write_value(value: &Value<'_>, out: &mut String) {
    // Strings, numbers and JSON can always be written as JSON.
    let _ = match value {
        Value::Text(text) => serde_json::to_writer(Utf8(out), text),
        Value::Number(number) => serde_json::to_writer(Utf8(out), number),
        Value::Json(json) => serde_json::to_writer(Utf8(out), json),
    };
}

/// Lets serde write to a string.
struct Utf8<'a>(&'a mut String);

impl io::Write for Utf8<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push_str(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
