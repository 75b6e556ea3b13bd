//! YAML into a tree that remembers lines, with the scalars typed as Envoy types them.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::problem::Problem;

/// Envoy's messages nest about thirty deep; prost gives up at a hundred.
const DEEPEST: usize = 90;
/// Bounds what aliases of aliases can expand to.
const HEAVIEST: usize = 64 << 20;
const WEIGHT_OF_A_NODE: usize = 64;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) content: Content,
    /// With aliases followed.
    weight: usize,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key: a value may begin on a later one.
    pub(super) line: usize,
    pub(super) value: Arc<Node>,
}

/// What a plain scalar means to Envoy: 32-bit integers are numbers, and all other numbers stay text until a field
/// says what they are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i32),
    Text(String),
}

impl Node {
    pub(super) fn new(line: usize, content: Content) -> Node {
        let inside = match &content {
            Content::Scalar(Scalar::Text(text)) => text.len(),
            Content::Scalar(_) => 0,
            Content::Sequence(items) => {
                items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.weight))
            }
            Content::Mapping(entries) => entries.iter().fold(0_usize, |sum, entry| {
                sum.saturating_add(entry.key.len()).saturating_add(entry.value.weight)
            }),
        };
        Node { line, content, weight: inside.saturating_add(WEIGHT_OF_A_NODE) }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Scalar::Null))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Node>> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// For a message to the file's author.
    pub(super) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(Scalar::Null) => "nothing",
            Content::Scalar(Scalar::Bool(_)) => "a boolean",
            Content::Scalar(Scalar::Int(_)) => "a number",
            Content::Scalar(Scalar::Text(_)) => "text",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Arc<Node>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new(StrInput::new(text));
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| scan_problem(&error))?;
        builder.take(event, span.start.line())?;
    }
    builder.root.ok_or_else(|| problem(1, "the file holds no configuration"))
}

fn scan_problem(error: &ScanError) -> Problem {
    problem(error.marker().line(), format!("not YAML: {}", error.info()))
}

fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem { path: String::new(), line: Some(line), message: message.into() }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
}

/// A collection whose end was not met yet.
struct Open {
    line: usize,
    anchor: usize,
    items: Items,
}

enum Items {
    Sequence(Vec<Arc<Node>>),
    Mapping { entries: Vec<Entry>, first: HashMap<String, usize>, key: Option<Key> },
}

struct Key {
    text: String,
    line: usize,
    /// Envoy's tag for entries that only hold anchors.
    ignored: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(problem(line, "a second document: only one configuration can be used"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                if let Some(Items::Mapping { key: key @ None, .. }) =
                    self.open.last_mut().map(|open| &mut open.items)
                {
                    let ignored = tag.is_some_and(|tag| tag.handle == "!" && tag.suffix == "ignore");
                    *key = Some(Key { text: text.into_owned(), line, ignored });
                    return Ok(());
                }
                let scalar = if style == ScalarStyle::Plain && !tag.is_some_and(is_non_specific) {
                    plain(&text)
                } else {
                    Scalar::Text(text.into_owned())
                };
                self.close(Node::new(line, Content::Scalar(scalar)), anchor)
            }
            Event::Alias(anchor) => {
                let unknown = || problem(line, "an alias of an anchor that is not complete here");
                let node = Arc::clone(self.anchors.get(&anchor).ok_or_else(unknown)?);
                self.place(node, line)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Items::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(
                line,
                anchor,
                Items::Mapping { entries: Vec::new(), first: HashMap::new(), key: None },
            ),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, items }) = self.open.pop() else { return Ok(()) };
                let content = match items {
                    Items::Sequence(items) => Content::Sequence(items),
                    Items::Mapping { entries, .. } => Content::Mapping(entries),
                };
                self.close(Node::new(line, content), anchor)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, items: Items) -> Result<(), Problem> {
        if let Some(Items::Mapping { key: None, .. }) = self.open.last().map(|open| &open.items) {
            return Err(problem(line, "a key must be text"));
        }
        if self.open.len() == DEEPEST {
            return Err(problem(line, format!("nested more than {DEEPEST} levels deep")));
        }
        self.open.push(Open { line, anchor, items });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let (line, node) = (node.line, Arc::new(node));
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place(node, line)
    }

    fn place(&mut self, node: Arc<Node>, line: usize) -> Result<(), Problem> {
        if node.weight > HEAVIEST {
            return Err(problem(line, "the aliases expand to more than an edge can hold"));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::Sequence(items)) => items.push(node),
            Some(Items::Mapping { entries, first, key }) => {
                let Some(Key { text, line, ignored }) = key.take() else {
                    return Err(problem(line, "a key must be text"));
                };
                if ignored {
                    return Ok(());
                }
                if text == "<<" {
                    return Err(problem(
                        line,
                        "merge keys (`<<`) are not read, as in Envoy: repeat the fields",
                    ));
                }
                if let Some(first) = first.insert(text.clone(), line) {
                    return Err(problem(line, format!("`{text}` stands here twice, first on line {first}")));
                }
                entries.push(Entry { key: text, line, value: node });
            }
        }
        Ok(())
    }
}

/// `! text` is text whatever it looks like. Other tags have no meaning to Envoy.
fn is_non_specific(tag: &Tag) -> bool {
    (tag.handle == "!" && tag.suffix.is_empty()) || (tag.handle.is_empty() && tag.suffix == "!")
}

pub(super) fn plain(text: &str) -> Scalar {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Scalar::Null;
    }
    if let Some(value) = boolean(text) {
        return Scalar::Bool(value);
    }
    match integer(text) {
        Some(value) => i32::try_from(value).map_or_else(|_| Scalar::Text(value.to_string()), Scalar::Int),
        None => Scalar::Text(text.to_owned()),
    }
}

/// YAML 1.1's words, in the three spellings that yaml-cpp knows.
fn boolean(text: &str) -> Option<bool> {
    let value = match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => true,
        "n" | "no" | "false" | "off" => false,
        _ => return None,
    };
    let rest = text.get(1..)?;
    let one_case = |rest: &str| rest.chars().all(|letter| letter.is_ascii_lowercase());
    let upper = text.chars().all(|letter| letter.is_ascii_uppercase());
    (upper || one_case(rest)).then_some(value)
}

/// Decimal, hexadecimal and octal as C reads them.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_envoy() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let cases = [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("N", Scalar::Bool(false)),
            ("tRue", text("tRue")),
            ("10", Scalar::Int(10)),
            ("-010", Scalar::Int(-8)),
            ("0x1F", Scalar::Int(31)),
            ("08", text("08")),
            ("1_000", text("1_000")),
            ("2147483648", text("2147483648")),
            ("99999999999999999999", text("99999999999999999999")),
            ("1.5", text("1.5")),
        ];
        for (written, scalar) in cases {
            assert_eq!(plain(written), scalar, "{written}");
        }
    }

    #[test]
    fn aliases_that_expand_without_end_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let previous = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![&*previous; 10].join(", "));
        }
        assert!(parse(&bomb).unwrap_err().message.contains("aliases expand"));
        assert!(parse("a: &a [*a]").unwrap_err().message.contains("not complete"));
        assert!(parse(&"[".repeat(200)).is_err());
        assert!(parse(&"- ".repeat(200)).is_err());
    }
}
