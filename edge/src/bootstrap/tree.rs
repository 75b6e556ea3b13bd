//! A file's content without its places, to be rewritten and written down again as YAML.

use serde_json::Value;

use super::yaml::{Content, Node, Scalar, plain};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Scalar(Scalar),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    pub(super) fn text(text: impl Into<String>) -> Tree {
        Tree::Scalar(Scalar::Text(text.into()))
    }

    pub(super) fn map<const N: usize>(entries: [(&str, Tree); N]) -> Tree {
        Tree::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Tree::Scalar(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn entries(&mut self) -> Option<&mut Vec<(String, Tree)>> {
        match self {
            Tree::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list, or the one value that stands in a list's place.
    pub(super) fn into_items(self) -> Vec<Tree> {
        match self {
            Tree::List(items) => items,
            item => vec![item],
        }
    }

    pub(super) fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        self.write(0, &mut yaml);
        yaml
    }

    /// Writes lines indented so far; a scalar or an empty collection is a line of its own at the top only.
    fn write(&self, indent: usize, yaml: &mut String) {
        let margin = " ".repeat(indent);
        match self {
            Tree::Map(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    *yaml += &format!("{margin}{}:", quoted(key));
                    value.write_behind(indent + 2, yaml);
                }
            }
            Tree::List(items) if !items.is_empty() => {
                for item in items {
                    let mut lines = String::new();
                    item.write(indent + 2, &mut lines);
                    *yaml += &format!("{margin}- {}", lines.trim_start());
                }
            }
            single => *yaml += &format!("{margin}{}\n", single.inline()),
        }
    }

    fn write_behind(&self, indent: usize, yaml: &mut String) {
        match self {
            Tree::Map(entries) if !entries.is_empty() => {
                yaml.push('\n');
                self.write(indent, yaml);
            }
            // A list may stand as far out as its key.
            Tree::List(items) if !items.is_empty() => {
                yaml.push('\n');
                self.write(indent - 2, yaml);
            }
            single => *yaml += &format!(" {}\n", single.inline()),
        }
    }

    fn inline(&self) -> String {
        match self {
            Tree::Scalar(Scalar::Null) => "null".to_owned(),
            Tree::Scalar(Scalar::Bool(value)) => value.to_string(),
            Tree::Scalar(Scalar::Int(value)) => value.to_string(),
            Tree::Scalar(Scalar::Text(text)) => quoted(text),
            Tree::List(_) => "[]".to_owned(),
            Tree::Map(_) => "{}".to_owned(),
        }
    }
}

impl From<&Node> for Tree {
    fn from(node: &Node) -> Tree {
        match &node.content {
            Content::Scalar(scalar) => Tree::Scalar(scalar.clone()),
            Content::Sequence(items) => Tree::List(items.iter().map(|item| Tree::from(&**item)).collect()),
            Content::Mapping(entries) => Tree::Map(
                entries.iter().map(|entry| (entry.key.clone(), Tree::from(&*entry.value))).collect(),
            ),
        }
    }
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Tree {
        match value {
            Value::Null => Tree::Scalar(Scalar::Null),
            Value::Bool(value) => Tree::Scalar(Scalar::Bool(*value)),
            Value::Number(number) => match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
                Some(number) => Tree::Scalar(Scalar::Int(number)),
                None => Tree::text(number.to_string()),
            },
            Value::String(text) => Tree::text(text),
            Value::Array(items) => Tree::List(items.iter().map(Tree::from).collect()),
            Value::Object(entries) => {
                Tree::Map(entries.iter().map(|(key, value)| (key.clone(), Tree::from(value))).collect())
            }
        }
    }
}

/// Bare where it reads as the same text, else in the quotes of JSON, which are YAML's too.
fn quoted(text: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    let bare = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(safe)
        && plain(text) == Scalar::Text(text.to_owned());
    if bare { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::{super::yaml, *};

    #[test]
    fn what_is_written_reads_the_same() {
        let text = r#"
a: {"@type": x/y, b: [1, true, ~, "1", "yes", "", " s: #", "a\nb\u0001é"], c: [], d: {}}
e: [[1, [2]], {f: {g: [{h: 1, i: [2]}]}}, 0.25s, -x, "- y", /p]
"#;
        let tree = Tree::from(&*yaml::parse(text).unwrap());
        let written = tree.to_yaml();
        assert_eq!(Tree::from(&*yaml::parse(&written).unwrap()), tree, "{written}");
    }
}
