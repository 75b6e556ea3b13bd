//! What was observed, as text under paths, and what differs between two observations.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::case::{Difference, Mask};

#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    /// By path.
    lines: BTreeMap<String, String>,
    /// What explains it and is not compared.
    remarks: Vec<String>,
}

impl Observation {
    pub(crate) fn put(&mut self, path: impl Into<String>, value: impl Into<String>) {
        self.lines.insert(path.into(), value.into());
    }

    pub(crate) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// Headers that repeat are one line, in their order.
    pub(crate) fn put_headers(&mut self, path: &str, headers: &[(String, String)]) {
        for (name, value) in headers {
            let line = self.lines.entry(format!("{path}.{name}")).or_default();
            if !line.is_empty() {
                line.push_str(" | ");
            }
            line.push_str(value);
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.lines.get(path).map(String::as_str)
    }

    pub(crate) fn take(&mut self, path: &str) -> Option<String> {
        self.lines.remove(path)
    }

    pub(crate) fn merge(&mut self, prefix: &str, other: Self) {
        self.lines.extend(other.lines.into_iter().map(|(path, value)| (format!("{prefix}{path}"), value)));
    }

    pub(crate) fn keep(&mut self, keep: impl Fn(&str) -> bool) {
        self.lines.retain(|path, _| keep(path));
    }

    pub(crate) fn one_line(&self) -> String {
        self.lines.iter().map(|(path, value)| format!("{path}: {value}")).collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn mask(&mut self, masks: &Masks) {
        for (path, value) in &mut self.lines {
            *value = masks.apply(path, value);
        }
    }
}

impl std::fmt::Display for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.iter().try_for_each(|(path, value)| writeln!(f, "{path}: {}", value.escape_debug()))?;
        self.remarks.iter().try_for_each(|remark| writeln!(f, "({remark})"))
    }
}

/// What is different on each run and says nothing.
#[derive(Debug)]
pub(crate) struct Masks {
    ports: Vec<(String, String)>,
    patterns: Vec<(Regex, &'static str)>,
    paths: Vec<String>,
}

/// Wherever they stand.
const VOLATILE: [(&str, &str); 4] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"127\.0\.0\.1:\d+", "<client>"),
];

impl Masks {
    /// `ports` are named after what listens there.
    pub(crate) fn new(ports: Vec<(String, String)>, own: &[Mask]) -> Self {
        let pattern = |text: &str, name| (Regex::new(text).expect("a mask is a regular expression"), name);
        let mut masks = Self { ports, patterns: Vec::new(), paths: Vec::new() };
        for mask in own {
            match mask {
                Mask::Text(text) => masks.patterns.push(pattern(text, "<…>")),
                Mask::At { at } => masks.paths.push(at.clone()),
            }
        }
        masks.patterns.extend(VOLATILE.iter().map(|(text, name)| pattern(text, *name)));
        masks
    }

    pub(crate) fn name(&mut self, text: &str, name: &'static str) {
        self.patterns.push((Regex::new(&format!(r"\b{}\b", regex::escape(text))).expect("a pattern"), name));
    }

    fn apply(&self, path: &str, value: &str) -> String {
        if self.paths.iter().any(|pattern| is_like(pattern, path)) {
            return "<…>".to_owned();
        }
        let name = path.rsplit('.').next().unwrap_or_default();
        match name {
            "x-envoy-upstream-service-time" => return "<milliseconds>".to_owned(),
            "grpc-timeout" | "x-envoy-expected-rq-timeout-ms" if path.contains('#') => {
                return round_up(value);
            }
            _ => {}
        }
        let mut text = value.to_owned();
        for (port, name) in &self.ports {
            text = text.replace(&format!("127.0.0.1:{port}"), name);
            text = text.replace(&format!("\"port_value\":{port}"), &format!("\"port_value\":\"{name}\""));
        }
        for (pattern, name) in &self.patterns {
            text = pattern.replace_all(&text, *name).into_owned();
        }
        text
    }
}

/// Time that is left, to the next half second: what was asked for, unless the machine is very slow.
fn round_up(value: &str) -> String {
    let digits = value.trim_end_matches(|unit: char| !unit.is_ascii_digit());
    let unit = &value[digits.len()..];
    let scale = match unit {
        "n" => 500_000_000,
        "u" => 500_000,
        "S" | "M" | "H" => return value.to_owned(),
        _ => 500,
    };
    digits.parse::<u64>().map_or(value.to_owned(), |left| format!("{}{unit}", left.div_ceil(scale) * scale))
}

/// What is wrong, one line each; empty when all is as the case says.
pub(crate) fn compare(envoy: &Observation, ours: &Observation, meant: &[Difference]) -> Vec<String> {
    let mut wrong = Vec::new();
    let meant: Vec<_> = meant.iter().flat_map(|it| it.at.iter().map(|at| (at, text(&it.ours)))).collect();
    let mut met = vec![false; meant.len()];
    let paths: BTreeSet<&String> = envoy.lines.keys().chain(ours.lines.keys()).collect();
    for path in paths {
        let (left, right) = (envoy.lines.get(path), ours.lines.get(path));
        if left == right {
            continue;
        }
        match meant.iter().position(|(at, value)| is_like(at, path) && covers(value.as_deref(), right)) {
            Some(index) => met[index] = true,
            None => wrong.push(format!("{path}\n    Envoy: {}\n    ours:  {}", shown(left), shown(right))),
        }
    }
    for ((at, value), _) in meant.iter().zip(&met).filter(|(_, met)| !**met) {
        wrong.push(format!("{at}: is to be {} here, and does not differ", shown(value.as_ref())));
    }
    if !wrong.is_empty() {
        wrong.extend(ours.remarks.iter().map(|remark| format!("ours says: {remark}")));
        wrong.extend(envoy.remarks.iter().map(|remark| format!("Envoy says: {remark}")));
    }
    wrong
}

fn shown(value: Option<&String>) -> String {
    value.map_or("(absent)".to_owned(), |value| format!("{value:?}"))
}

fn covers(meant: Option<&str>, ours: Option<&String>) -> bool {
    match (meant, ours) {
        (Some(pattern), Some(ours)) => is_like(pattern, ours),
        (None, None) => true,
        _ => false,
    }
}

/// Whether a pattern is a text's, in which `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace(r"\*", "(?s:.*)");
    Regex::new(&format!("^{pattern}$")).is_ok_and(|pattern| pattern.is_match(text))
}

/// A value of a case as observations have it.
pub(crate) fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
