//! The registered schema of an entity: its fields, where they are in a record, and what they should be.

use types::csv;

use super::{Kind, Parsed, Scope};

/// How records are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Columns in a fixed order.
    Row,
    /// JSON documents.
    Document,
}

/// A field that is expected.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The array whose elements have it.
    pub(crate) each: Option<usize>,
    /// Where it is in a document (or in an array's element).
    pub(crate) path: Vec<String>,
}

/// Every field that is expected of an entity.
#[derive(Debug)]
pub(crate) struct Schema {
    shape: Shape,
    fields: Vec<Field>,
    /// Paths of the arrays.
    arrays: Vec<Vec<String>>,
}

impl Schema {
    pub(crate) fn new(shape: Shape, expect: &[(String, Kind)]) -> Result<Self, String> {
        let mut schema = Self { shape, fields: Vec::new(), arrays: Vec::new() };
        for (name, kind) in expect {
            if schema.fields.iter().any(|field| field.name == *name) {
                return Err(format!("expect: `{name}` is there twice"));
            }
            let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
            let (each, path) = match (shape, name.split_once("[].")) {
                (Shape::Document, Some((array, rest))) => (Some(schema.array(path(array))), path(rest)),
                (Shape::Document, None) => (None, path(name)),
                (Shape::Row, _) => (None, Vec::new()),
            };
            schema.fields.push(Field { name: name.clone(), kind: *kind, each, path });
        }
        Ok(schema)
    }

    fn array(&mut self, path: Vec<String>) -> usize {
        let found = self.arrays.iter().position(|array| *array == path);
        found.unwrap_or_else(|| {
            self.arrays.push(path);
            self.arrays.len() - 1
        })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The names of a row's columns; none of a document's fields, which have theirs beside them.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|_| self.shape == Shape::Row)
    }

    pub(crate) fn field(&self, name: &str) -> Result<usize, String> {
        self.names().position(|known| known == name).ok_or_else(|| format!("`{name}` is not in `expect`"))
    }

    pub(crate) fn array_named(&self, name: &str) -> Result<usize, String> {
        let known = |array: &Vec<String>| array.join(".") == name;
        self.arrays.iter().position(known).ok_or_else(|| format!("no field of `{name}[]` is in `expect`"))
    }

    pub(crate) fn array_path(&self, array: usize) -> &[String] {
        &self.arrays[array]
    }

    /// Fails if `line` is not the header of the fields' columns.
    pub(crate) fn check_header(&self, line: &str) -> Result<(), String> {
        if csv::row(line)?.iter().eq(self.names()) {
            return Ok(());
        }
        let expected: Vec<&str> = self.names().collect();
        Err(format!("the header should be `{}`, it is `{line}`", expected.join(",")))
    }

    /// Reads a record and checks it.
    pub(crate) fn parse<'p>(&self, payload: &'p str) -> Result<Parsed<'p>, String> {
        if payload.contains(char::REPLACEMENT_CHARACTER) {
            return Err("the text is damaged: U+FFFD stands for what was cut off, or was no text".to_owned());
        }
        let parsed = match self.shape {
            Shape::Row => Parsed::Row(self.row(payload)?),
            Shape::Document => Parsed::document(payload)?,
        };
        self.check(&parsed)?;
        Ok(parsed)
    }

    fn row<'p>(&self, line: &'p str) -> Result<Vec<std::borrow::Cow<'p, str>>, String> {
        let columns = csv::row(line)?;
        if columns.len() == self.fields.len() {
            return Ok(columns);
        }
        Err(format!("the row has {} columns, {} are due", columns.len(), self.fields.len()))
    }

    fn check(&self, record: &Parsed<'_>) -> Result<(), String> {
        let top = record.scope();
        for (index, field) in self.fields.iter().enumerate().filter(|(_, field)| field.each.is_none()) {
            check(field, index, top)?;
        }
        for array in 0..self.arrays.len() {
            for element in record.each(self, array)? {
                let inside = |(_, field): &(usize, &Field)| field.each == Some(array);
                for (index, field) in self.fields.iter().enumerate().filter(inside) {
                    check(field, index, element)?;
                }
            }
        }
        Ok(())
    }
}

fn check(field: &Field, index: usize, scope: Scope<'_>) -> Result<(), String> {
    let named = |reason: String| format!("{}: {reason}", field.name);
    match scope.text(field, index).map_err(named)? {
        // PostgreSQL's text holds none, and no system means one.
        Some(text) if text.contains('\0') => Err(named("holds a NUL character".to_owned())),
        Some(text) => field.kind.r#type.check(&text).map_err(named),
        None if field.kind.optional => Ok(()),
        None => Err(format!("{}: is missing", field.name)),
    }
}
