//! Which of Envoy's fields this edge implements, which it may leave without effect, and what a file uses of them.
//!
//! The table is `support.txt`. A field that is not in it is refused: no configuration means less here than it says.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

/// `MESSAGE: field field …` implements fields, `MESSAGE -field …: reason` accepts them without effect. The same for
/// an enumeration and its values; one that is not listed is implemented whole.
static TABLE: &str = include_str!("support.txt");

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    Supported,
    /// Accepted without effect, for this reason.
    Ignored(&'static str),
    Unsupported,
}

#[derive(Default)]
pub(super) struct Table {
    names: HashMap<&'static str, HashMap<&'static str, Support>>,
}

impl Table {
    pub(super) fn read() -> Table {
        let mut table = Table::default();
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let Some((head, tail)) = line.split_once(':') else { continue };
            let mut words = head.split_whitespace();
            let names = table.names.entry(words.next().unwrap_or_default()).or_default();
            names.extend(
                words.filter_map(|word| Some((word.strip_prefix('-')?, Support::Ignored(tail.trim())))),
            );
            if !head.contains(" -") {
                names.extend(tail.split_whitespace().map(|word| (word, Support::Supported)));
            }
        }
        table
    }

    /// Whether the message means anything here at all.
    pub(super) fn knows(&self, message: &str) -> bool {
        self.names.contains_key(message)
    }

    pub(super) fn field(&self, message: &str, field: &str) -> Support {
        let fields = self.names.get(message);
        fields.and_then(|fields| fields.get(field)).copied().unwrap_or(Support::Unsupported)
    }

    pub(super) fn value(&self, kind: &str, value: &str) -> Support {
        self.names
            .get(kind)
            .map_or(Support::Supported, |values| values.get(value).copied().unwrap_or(Support::Unsupported))
    }
}

/// What a file uses: a row for each field, value or message, with the lines it stands on.
#[derive(Debug, Default)]
pub struct Report {
    rows: BTreeMap<(Support, String), Vec<usize>>,
}

impl Report {
    pub(super) fn add(&mut self, support: Support, name: String, line: usize) {
        self.rows.entry((support, name)).or_default().push(line);
    }

    /// Name by name in order: what is supported, then ignored, then unsupported.
    pub fn rows(&self) -> impl Iterator<Item = (Support, &str, &[usize])> {
        self.rows.iter().map(|((support, name), lines)| (*support, name.as_str(), lines.as_slice()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.keys().map(|(_, name)| name.len()).max().unwrap_or_default();
        for (support, name, lines) in self.rows() {
            let (word, reason) = match support {
                Support::Supported => ("supported", None),
                Support::Ignored(reason) => ("ignored", Some(reason)),
                Support::Unsupported => ("unsupported", None),
            };
            let times =
                if lines.len() > 1 { format!(" and {} more", lines.len() - 1) } else { String::new() };
            let first = lines.first().copied().unwrap_or_default();
            write!(formatter, "{word:<11}  {name:<width$}  line {first}{times}")?;
            writeln!(formatter, "{}", reason.map(|reason| format!(" ({reason})")).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::Kind;

    use super::{super::schema::Schema, *};

    #[test]
    fn the_table_names_what_envoy_has() {
        let pool = Schema::read().unwrap().pool;
        let mut wrong = Vec::new();
        for (name, fields) in Table::read().names {
            let Some(message) = pool.get_message_by_name(name) else {
                match pool.get_enum_by_name(name) {
                    Some(kind) => wrong.extend(
                        fields
                            .keys()
                            .filter(|value| kind.get_value_by_name(value).is_none())
                            .map(|value| format!("{name}.{value}")),
                    ),
                    None => wrong.push(name.to_owned()),
                }
                continue;
            };
            wrong.extend(
                fields
                    .keys()
                    .filter(|field| message.get_field_by_name(field).is_none())
                    .map(|field| format!("{name}.{field}")),
            );
        }
        assert!(wrong.is_empty(), "not in Envoy's API: {wrong:#?}");
    }

    /// A field without the message it holds would be refused as soon as somebody used it.
    #[test]
    fn the_table_is_closed() {
        let pool = Schema::read().unwrap().pool;
        let table = Table::read();
        let mut missing = std::collections::BTreeSet::new();
        for (name, fields) in &table.names {
            let Some(message) = pool.get_message_by_name(name) else { continue };
            for (field, _) in fields.iter().filter(|(_, support)| **support == Support::Supported) {
                let mut kind = message.get_field_by_name(field).unwrap().kind();
                if let Kind::Message(entry) = &kind
                    && entry.is_map_entry()
                {
                    kind = entry.map_entry_value_field().kind();
                }
                if let Kind::Message(held) = kind
                    && held.package_name() != "google.protobuf"
                    && !table.knows(held.full_name())
                {
                    missing.insert(format!("{} ({name}.{field})", held.full_name()));
                }
            }
        }
        assert!(missing.is_empty(), "held by supported fields, and not in the table: {missing:#?}");
    }
}
