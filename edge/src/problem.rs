//! What is wrong with a configuration, and where: a path into the file, and its line once the file is at hand.

use std::fmt;

/// One thing that keeps a configuration from being used, or that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Names of fields as Envoy's API has them: `static_resources.listeners[0].name`. Empty for the whole file.
    pub path: String,
    /// Counted from 1.
    pub line: Option<usize>,
    pub message: String,
}

impl Problem {
    /// As compilers print it: `FILE:LINE: path: message`.
    pub fn in_file(&self, file: &str) -> String {
        let separator = if self.line.is_some() { ":" } else { ": " };
        format!("{file}{separator}{self}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "{line}: ")?;
        }
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// A place in a configuration. It borrows the place around it: going down costs nothing until there is a problem.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const fn root() -> Path<'static> {
        Path { parent: None, step: Step::Root }
    }

    /// A field of the message that is here.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An item of the repeated field that is here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map that is here.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { path: self.to_string(), line: None, message: message.into() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(formatter)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.parent.is_none_or(|parent| parent.step == Step::Root) => {
                formatter.write_str(name)
            }
            Step::Field(name) => write!(formatter, ".{name}"),
            Step::Index(index) => write!(formatter, "[{index}]"),
            Step::Key(key) => write!(formatter, "[{key:?}]"),
        }
    }
}

/// The steps of a path as it was written down. What cannot be read ends them: the place around it still can be named.
pub(crate) fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if let Some(inside) = rest.strip_prefix('[') {
            let quoted = inside.strip_prefix('"');
            let (step, after) = match quoted {
                Some(quoted) => quoted.split_once("\"]").map(|(key, after)| (Step::Key(key), after))?,
                None => {
                    let (index, after) = inside.split_once(']')?;
                    (Step::Index(index.parse().ok()?), after)
                }
            };
            rest = after;
            return Some(step);
        }
        let name = rest.strip_prefix('.').unwrap_or(rest);
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (field, after) = name.split_at(end);
        rest = after;
        (!field.is_empty()).then_some(Step::Field(field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_written() {
        let root = Path::root();
        let listeners = root.field("static_resources").field("listeners").to_string();
        assert_eq!(listeners, "static_resources.listeners");
        let (resources, third) = (root.field("static_resources"), 3);
        let clusters = resources.field("clusters");
        let cluster = clusters.index(third);
        let options = cluster.field("typed_extension_protocol_options");
        let http = options.key("envoy.http");
        let timeout = http.field("idle_timeout");
        let written =
            "static_resources.clusters[3].typed_extension_protocol_options[\"envoy.http\"].idle_timeout";
        assert_eq!(timeout.to_string(), written);
        let read: Vec<_> = steps(written).collect();
        let expected = [
            Step::Field("static_resources"),
            Step::Field("clusters"),
            Step::Index(3),
            Step::Field("typed_extension_protocol_options"),
            Step::Key("envoy.http"),
            Step::Field("idle_timeout"),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_problem_reads_as_compilers_print_them() {
        let problem = Path::root().field("admin").problem("is odd");
        assert_eq!(problem.in_file("envoy.yaml"), "envoy.yaml: admin: is odd");
        let problem = Problem { line: Some(4), ..problem };
        assert_eq!(problem.in_file("envoy.yaml"), "envoy.yaml:4: admin: is odd");
    }
}
