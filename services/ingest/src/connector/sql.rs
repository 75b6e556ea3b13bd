//! The SQL connector: tables in the order of a key, from where the last run ended, with the rows of their children
//! nested into each record.

use std::{collections::HashMap, sync::Arc};

use storage::{
    Statement,
    sqlx::{self, AnyConnection, Connection, Row, any::AnyRow},
};

use super::{End, Known, KnownObjects, Sink};
use crate::{
    Error,
    definition::Child,
    landing::{Batch, Checkpoint, Encoder, Portion, Records},
    mapping::{Schema, Type},
    source::{Entity, Place, Source, Table},
};

/// Rows of a table that are read at a time.
const PAGE_ROWS: i64 = 500;

/// Reads what is new in every table.
pub(crate) async fn read(source: &Source, url: &str, known: KnownObjects, sink: &Sink) -> Result<(), End> {
    sqlx::any::install_default_drivers();
    // Without a mode SQLite would make the file where there is none.
    let target = match url.strip_prefix("sqlite:") {
        Some(file) => format!("sqlite://{}?mode=ro", file.trim_start_matches("//")),
        None => url.to_owned(),
    };
    let mut connection = AnyConnection::connect(&target).await.map_err(|error| Error::SourceUnreadable {
        place: format!("the database of `{}`{}", source.system, place(url)),
        reason: error.to_string(),
    })?;
    sink.expect(source.entities.len());
    let mut unreadable = None;
    for (index, (entity, known)) in source.entities.iter().zip(known).enumerate() {
        let Place::Table(table) = &entity.place else { continue };
        let known = known.get(&table.name);
        let reader = Reader {
            table,
            schema: &entity.schema,
            parent: Columns::new(entity, None),
            children: (0..table.children.len()).map(|child| Columns::new(entity, Some(child))).collect(),
        };
        match reader.run(&mut connection, index, known, sink).await {
            Err(End::Failed(error)) => drop(unreadable.get_or_insert(error)),
            read => read?,
        }
    }
    unreadable.map_or(Ok(()), |error| Err(End::Failed(error)))
}

/// What may be told of where a database is: a server's URL may hold a password.
fn place(url: &str) -> String {
    url.strip_prefix("sqlite:").map_or_else(String::new, |file| format!(" ({file})"))
}

/// Columns as they are selected, and what stands before each in a record.
struct Columns {
    select: String,
    names: Vec<(String, Type)>,
}

impl Columns {
    fn new(entity: &Entity, child: Option<usize>) -> Self {
        let mut columns = Self { select: String::new(), names: Vec::new() };
        let Place::Table(table) = &entity.place else { return columns };
        let child = child.map(|child| &table.children[child]);
        let array = child.and_then(|child| entity.schema.array_named(&child.name).ok());
        if let Some(child) = child {
            columns.select = text_of(&child.key);
        }
        for field in entity.schema.fields().iter().filter(|field| field.each == array) {
            let column = field.path.join(".");
            if !columns.select.is_empty() {
                columns.select.push_str(", ");
            }
            columns.select.push_str(&text_of(&column));
            columns.names.push((format!("\"{column}\":"), field.kind.r#type));
        }
        columns
    }

    /// Writes a row, whose columns begin at `first`, as the members of a JSON object.
    fn write(&self, row: &AnyRow, first: usize, out: &mut String) -> Result<(), sqlx::Error> {
        for (index, (name, r#type)) in self.names.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(name);
            let Some(text) = row.try_get::<Option<String>, _>(first + index)? else {
                out.push_str("null");
                continue;
            };
            match integer(&text, *r#type) {
                Some(number) => out.push_str(&number.to_string()),
                None => out.push_str(&serde_json::Value::String(text).to_string()),
            }
        }
        Ok(())
    }
}

/// The number that a column of integers holds. In SQLite it may hold anything, which is for the schema to judge.
fn integer(text: &str, r#type: Type) -> Option<i64> {
    if r#type == Type::Integer { text.parse().ok() } else { None }
}

fn bind(statement: &mut Statement, value: &str, r#type: Type) {
    match integer(value, r#type) {
        Some(number) => statement.bind(number),
        None => statement.bind(value),
    };
}

/// A column of the table that is read. With the table's name before it: SQLite would take a column that is not there
/// for a text.
fn quote(column: &str) -> String {
    format!("t.\"{column}\"")
}

/// A column as text, which both engines and JSON agree on.
fn text_of(column: &str) -> String {
    format!("CAST({} AS TEXT)", quote(column))
}

/// Reads one table.
struct Reader<'s> {
    table: &'s Table,
    schema: &'s Schema,
    parent: Columns,
    children: Vec<Columns>,
}

impl Reader<'_> {
    async fn run(
        &self,
        connection: &mut AnyConnection,
        entity: usize,
        known: Option<&Known>,
        sink: &Sink,
    ) -> Result<(), End> {
        let unreadable = |error: storage::Error| Error::SourceUnreadable {
            place: format!("table `{}`", self.table.name),
            reason: error.to_string(),
        };
        let mut position = known.map(|known| known.position.clone()).unwrap_or_default();
        let mut landed = known.map_or(0, |known| known.landed);
        let mut unchanged = known.is_some_and(|known| known.complete);
        let object: Arc<str> = self.table.name.as_str().into();
        let mut encoder = Encoder::new()?;
        let mut portion = Portion::default();
        loop {
            let page = self.page(connection, &position).await.map_err(unreadable)?;
            let complete = (page.documents.len() as i64) < PAGE_ROWS;
            unchanged &= page.documents.is_empty();
            if unchanged {
                return Ok(());
            }
            let mut records = Records::default();
            for (place, document) in &page.documents {
                records.push(place, document);
            }
            position = page.position.unwrap_or(position);
            let (first, count) = (landed + 1, records.count() as i64);
            landed += count;
            if count > 0 {
                portion.push(Batch::new(entity, Arc::clone(&object), 0, first, records), &mut encoder)?;
            }
            portion.reach(Checkpoint {
                entity,
                object: Arc::clone(&object),
                size: 0,
                mtime: 0,
                position: position.clone(),
                digest: String::new(),
                complete,
                restart: false,
                revision: 0,
                landed: count,
                failure: None,
            });
            if complete || portion.is_full() {
                sink.send(std::mem::take(&mut portion)).await?;
            }
            if complete {
                return Ok(());
            }
        }
    }

    async fn page(&self, connection: &mut AnyConnection, position: &str) -> Result<Page, storage::Error> {
        let rows = self.rows(connection, position).await?;
        let mut documents = Vec::with_capacity(rows.len());
        let mut position = None;
        for row in &rows {
            let mut document = String::from("{");
            self.parent.write(row, 0, &mut document)?;
            let key: Result<Vec<_>, _> =
                self.table.key.iter().map(|column| self.column(row, column)).collect();
            let key = key?;
            documents.push((key.join("/"), document));
            position = Some(serde_json::Value::from(key).to_string());
        }
        for (child, columns) in self.table.children.iter().zip(&self.children) {
            let parents: Result<Vec<_>, _> = rows.iter().map(|row| self.column(row, &child.key)).collect();
            let parents = parents?;
            let mut nested = self.nested(connection, child, columns, &parents).await?;
            for ((_, document), parent) in documents.iter_mut().zip(&parents) {
                let elements = nested.remove(parent).unwrap_or_default();
                document.push_str(&format!(",\"{}\":[{elements}]", child.name));
            }
        }
        documents.iter_mut().for_each(|(_, document)| document.push('}'));
        Ok(Page { documents, position })
    }

    async fn rows(
        &self,
        connection: &mut AnyConnection,
        position: &str,
    ) -> Result<Vec<AnyRow>, storage::Error> {
        let key: Vec<String> = self.table.key.iter().map(|column| quote(column)).collect();
        let key = key.join(", ");
        let mut statement = Statement::new("SELECT ");
        statement.push(&self.parent.select).push(&format!(" FROM \"{}\" AS t", self.table.name));
        let after: Vec<String> = serde_json::from_str(position).unwrap_or_default();
        if !after.is_empty() {
            statement.push(&format!(" WHERE ({key}) > ("));
            for (index, (column, value)) in self.table.key.iter().zip(after).enumerate() {
                statement.push(if index == 0 { "" } else { ", " });
                bind(&mut statement, &value, self.type_of(column));
            }
            statement.push(")");
        }
        statement.push(&format!(" ORDER BY {key} LIMIT ")).bind(PAGE_ROWS);
        statement.fetch_all(connection).await
    }

    /// The rows of `child` that belong to `parents`, as the elements of a JSON array for each.
    async fn nested(
        &self,
        connection: &mut AnyConnection,
        child: &Child,
        columns: &Columns,
        parents: &[String],
    ) -> Result<HashMap<String, String>, storage::Error> {
        let mut nested: HashMap<String, String> = HashMap::with_capacity(parents.len());
        if parents.is_empty() {
            return Ok(nested);
        }
        let (key, order) = (quote(&child.key), quote(&child.order));
        let mut statement = Statement::new("SELECT ");
        statement.push(&columns.select).push(&format!(" FROM \"{}\" AS t WHERE {key} IN (", child.table));
        for (index, parent) in parents.iter().enumerate() {
            statement.push(if index == 0 { "" } else { ", " });
            bind(&mut statement, parent, self.type_of(&child.key));
        }
        statement.push(&format!(") ORDER BY {key}, {order}"));
        for row in statement.fetch_all(connection).await? {
            let elements = nested.entry(row.try_get(0)?).or_default();
            elements.push_str(if elements.is_empty() { "{" } else { ",{" });
            columns.write(&row, 1, elements)?;
            elements.push('}');
        }
        Ok(nested)
    }

    fn type_of(&self, column: &str) -> Type {
        self.schema.field(column).map_or(Type::Text, |field| self.schema.fields()[field].kind.r#type)
    }

    /// A column of the table's own, which `expect` names.
    fn column(&self, row: &AnyRow, column: &str) -> Result<String, storage::Error> {
        let mut own = self.schema.fields().iter().filter(|field| field.each.is_none());
        let index = own.position(|field| field.name == column).unwrap_or(0);
        let found: Option<String> = row.try_get(index)?;
        found.ok_or_else(|| {
            storage::Error::Corrupt(format!("`{column}` is NULL, which has no place in a key"))
        })
    }
}

struct Page {
    /// Each with its place in the key's order.
    documents: Vec<(String, String)>,
    /// Where to go on, as a JSON array of the key's values.
    position: Option<String>,
}
