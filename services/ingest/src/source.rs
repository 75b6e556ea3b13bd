//! Sources, compiled from their definitions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use encoding_rs::{Encoding, UTF_8};
use glob::{MatchOptions, Pattern};

use crate::{
    Definition, Error,
    definition::{self, Format},
    landing::Batch,
    mapping::{Parsed, Schema, Shape, Template},
    peer::Mapping,
};

/// A source system.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) system: String,
    pub(crate) connector: Connector,
    pub(crate) entities: Vec<Entity>,
}

/// How a source is read.
#[derive(Debug)]
pub(crate) enum Connector {
    Files { root: PathBuf, format: Format },
    Sql { url: String },
}

impl Connector {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Files { .. } => "files",
            Self::Sql { .. } => "sql",
        }
    }
}

/// One kind of records.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Of its files.
    pub(crate) encoding: &'static Encoding,
    pub(crate) schema: Schema,
    /// Indices of the fields that rows of one order share.
    pub(crate) group_by: Vec<usize>,
    /// Templates of the keys by which its records name persons.
    pub(crate) subject_keys: BTreeSet<String>,
    pub(crate) mapping: Mapping,
}

impl Entity {
    /// Reads a record that has landed, and checks it.
    pub(crate) fn parse<'b>(&self, batch: &'b Batch, record: usize) -> Result<Parsed<'b>, String> {
        let parsed = self.schema.parse(batch.payload(record));
        parsed.map_err(|reason| batch.original(record).and_then(|bytes| self.damage(bytes)).unwrap_or(reason))
    }

    /// What is wrong with bytes whose text is damaged, and what to do, where that can be told.
    fn damage(&self, bytes: &[u8]) -> Option<String> {
        if self.encoding != UTF_8 {
            return None;
        }
        Some(match std::str::from_utf8(bytes).map_err(|error| error.valid_up_to()) {
            Ok(_) => "the record is too long: it was cut off".to_owned(),
            Err(at) => format!(
                "the byte 0x{:02X} at {at} is not UTF-8: if the file is in another encoding, such as \
                 windows-1252, name it as the entity's `encoding` and touch the file",
                bytes[at]
            ),
        })
    }
}

/// Where an entity's records are in its source.
#[derive(Debug)]
pub(crate) enum Place {
    Files(Pattern),
    Table(Table),
}

/// A table, the columns that order it, and the tables nested into its records.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) key: Vec<String>,
    pub(crate) children: Vec<definition::Child>,
}

/// Compiles definitions; the first mistake is told with its file, entity and field.
pub(crate) fn compile(definitions: Vec<Definition>) -> Result<Vec<Source>, Error> {
    let mut systems = BTreeSet::new();
    let mut sources = Vec::new();
    for definition in definitions {
        let origin =
            if definition.origin.is_empty() { definition.system.clone() } else { definition.origin.clone() };
        if !systems.insert(definition.system.clone()) {
            return Err(Error::Definition(format!(
                "{origin}: system: `{}` is defined twice",
                definition.system
            )));
        }
        sources.push(source(definition).map_err(|reason| Error::Definition(format!("{origin}: {reason}")))?);
    }
    Ok(sources)
}

fn source(definition: Definition) -> Result<Source, String> {
    let connector = match (definition.files, definition.sql) {
        (Some(files), None) => Connector::Files { root: files.root, format: files.format },
        (None, Some(sql)) => Connector::Sql { url: sql.url },
        _ => return Err("either [files] or [sql] is due".to_owned()),
    };
    let system = definition.system;
    let mut names = BTreeSet::new();
    let mut entities = Vec::new();
    for definition in definition.entities {
        let name = definition.name.clone();
        if !names.insert(name.clone()) {
            return Err(format!("entity `{name}`: name: is there twice"));
        }
        let entity = entity(definition, &system, &connector);
        entities.push(entity.map_err(|reason| format!("entity `{name}`: {reason}"))?);
    }
    Ok(Source { system, connector, entities })
}

/// How globs match: a star ends at a slash.
pub(crate) const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

fn entity(definition: definition::Entity, system: &str, connector: &Connector) -> Result<Entity, String> {
    let shape = match connector {
        Connector::Files { format: Format::Csv, .. } => Shape::Row,
        _ => Shape::Document,
    };
    if definition.expect.is_empty() {
        return Err("expect: names no field".to_owned());
    }
    let schema = Schema::new(shape, &definition.expect)?;
    for text in &definition.subject_keys {
        Template::check(text, &schema).map_err(|reason| format!("subject_keys: {reason}"))?;
    }
    let subject_keys = definition.all_subject_keys(system);
    let place = match (connector, definition.files, definition.table) {
        (Connector::Files { .. }, Some(pattern), None) => {
            Place::Files(Pattern::new(&pattern).map_err(|error| format!("files: {error}"))?)
        }
        (Connector::Sql { .. }, None, Some(name)) => {
            Place::Table(table(name, definition.key, definition.children, &schema)?)
        }
        (Connector::Files { .. }, ..) => return Err("files: a glob is due, and no `table`".to_owned()),
        (Connector::Sql { .. }, ..) => return Err("table: a name is due, and no `files`".to_owned()),
    };
    if shape != Shape::Row && !definition.group_by.is_empty() {
        return Err("group_by: is for the rows of CSV files only".to_owned());
    }
    let group_by: Result<_, _> = definition.group_by.iter().map(|name| schema.field(name)).collect();
    let group_by = group_by.map_err(|reason| format!("group_by: {reason}"))?;
    let mapping = Mapping::new(&definition.map, &schema)?;
    let encoding = encoding(definition.encoding.as_deref(), connector)?;
    Ok(Entity { name: definition.name, place, encoding, schema, group_by, subject_keys, mapping })
}

fn encoding(label: Option<&str>, connector: &Connector) -> Result<&'static Encoding, String> {
    let Some(label) = label else { return Ok(UTF_8) };
    if !matches!(connector, Connector::Files { format: Format::Csv | Format::Jsonl, .. }) {
        return Err("encoding: is for files of CSV and JSON Lines only".to_owned());
    }
    // In the others a part of a character may be the byte that ends a line.
    let encoding = Encoding::for_label(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible());
    encoding.ok_or_else(|| {
        format!("encoding: `{label}` is none that lines can be read in; `utf-8` and `windows-1252` are")
    })
}

fn table(
    name: String,
    key: Vec<String>,
    children: Vec<definition::Child>,
    schema: &Schema,
) -> Result<Table, String> {
    if key.is_empty() {
        return Err("key: names no column".to_owned());
    }
    for column in &key {
        let field = schema.field(column).map_err(|reason| format!("key: {reason}"))?;
        if schema.fields()[field].kind.optional {
            return Err(format!("key: `{column}` may be missing, by its `?` in `expect`"));
        }
    }
    for child in &children {
        schema.array_named(&child.name).map_err(|reason| format!("children: {reason}"))?;
        schema.field(&child.key).map_err(|reason| format!("children: key: {reason}"))?;
    }
    let nested = children.iter().flat_map(|child| [&child.table, &child.key, &child.order]);
    let names = schema.names().chain(nested.map(String::as_str)).chain([name.as_str()]);
    if let Some(bad) = names.into_iter().find(|name| name.contains('"')) {
        return Err(format!("`{bad}`: names of tables and columns hold no quotes"));
    }
    Ok(Table { name, key, children })
}
