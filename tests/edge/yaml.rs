//! YAML into the values that serde reads. Scalars follow YAML 1.2's core schema.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

pub(crate) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new() };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Ok(Value::Null),
            event => return reader.node(event),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Value>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.events.next() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the document ends too early".to_owned()),
        }
    }

    fn node(&mut self, event: Event<'a>) -> Result<Value, String> {
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                return self.anchors.get(&anchor).cloned().ok_or("unknown alias".to_owned());
            }
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break (anchor, Value::Array(items)),
                        event => items.push(self.node(event)?),
                    }
                }
            }
            Event::MappingStart(anchor, _) => (anchor, self.mapping()?),
            other => return Err(format!("unexpected {other:?}")),
        };
        self.anchors.insert(anchor, value.clone());
        Ok(value)
    }

    fn mapping(&mut self) -> Result<Value, String> {
        let mut fields = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Value::Object(fields)),
                Event::Scalar(key, ..) => key.into_owned(),
                other => return Err(format!("a key is no scalar: {other:?}")),
            };
            let event = self.next()?;
            let value = self.node(event)?;
            if fields.insert(key.clone(), value).is_some() {
                return Err(format!("the key {key} stands twice"));
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => {
            let number =
                text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
            let looks_like_one =
                text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
            number.ok().filter(|_| looks_like_one).unwrap_or_else(|| text.into())
        }
    }
}
