//! The SQL connector: tables in the order of a key, from where the last run ended, with the rows of their children
//! nested into each record.

use std::{collections::HashMap, sync::Arc};

use arrow::error::ArrowError;
use sha2::{Digest, Sha256};
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
/// Rows of a table that may lack a key; each run reads all of them.
const KEYLESS_ROWS: i64 = 1_000;

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
        let reader = Reader {
            table,
            schema: &entity.schema,
            parent: Columns::new(entity, None),
            children: (0..table.children.len()).map(|child| Columns::new(entity, Some(child))).collect(),
        };
        match reader.run(&mut connection, index, &known, sink).await {
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
    /// Reads what is new, and then the rows that have no place in the key's order.
    async fn run(
        &self,
        connection: &mut AnyConnection,
        entity: usize,
        known: &HashMap<String, Known>,
        sink: &Sink,
    ) -> Result<(), End> {
        let unreadable = |error: storage::Error| Error::SourceUnreadable {
            place: format!("table `{}`", self.table.name),
            reason: error.to_string(),
        };
        let object: Arc<str> = self.table.name.as_str().into();
        let mut reached = Reached { entity, object, encoder: Encoder::new()?, portion: Portion::default() };
        let table = known.get(&self.table.name);
        let mut position = table.map(|known| known.position.clone()).unwrap_or_default();
        let mut landed = table.map_or(0, |known| known.landed);
        let mut unchanged = table.is_some_and(|known| known.complete);
        loop {
            let page = self.page(connection, &position).await.map_err(unreadable)?;
            let complete = (page.documents.len() as i64) < PAGE_ROWS;
            unchanged &= page.documents.is_empty();
            if unchanged {
                break;
            }
            position = page.position.unwrap_or(position);
            landed = reached.add(page.documents, landed, &position, complete)?;
            if complete || reached.portion.is_full() {
                sink.send(std::mem::take(&mut reached.portion)).await?;
            }
            if complete {
                break;
            }
        }
        for document in self.keyless(connection).await.map_err(unreadable)? {
            reached.add_keyless(&document, known)?;
        }
        if !reached.portion.is_empty() {
            sink.send(reached.portion).await?;
        }
        Ok(())
    }

    async fn page(&self, connection: &mut AnyConnection, position: &str) -> Result<Page, storage::Error> {
        let rows = self.rows(connection, position).await?;
        let documents = self.documents(connection, &rows).await?;
        let mut page = Page { documents: Vec::with_capacity(rows.len()), position: None };
        for (row, document) in rows.iter().zip(documents) {
            let key =
                self.table.key.iter().map(|column| self.column(row, column).map(Option::unwrap_or_default));
            let key = key.collect::<Result<Vec<_>, sqlx::Error>>()?;
            page.documents.push((key.join("/"), document));
            page.position = Some(serde_json::Value::from(key).to_string());
        }
        Ok(page)
    }

    /// Rows as JSON objects.
    async fn documents(
        &self,
        connection: &mut AnyConnection,
        rows: &[AnyRow],
    ) -> Result<Vec<String>, storage::Error> {
        let mut documents = Vec::with_capacity(rows.len());
        for row in rows {
            let mut document = String::from("{");
            self.parent.write(row, 0, &mut document)?;
            documents.push(document);
        }
        for (child, columns) in self.table.children.iter().zip(&self.children) {
            let parents: Result<Vec<_>, _> = rows.iter().map(|row| self.column(row, &child.key)).collect();
            let parents = parents?;
            let named: Vec<_> = parents.iter().flatten().map(String::as_str).collect();
            let nested = self.nested(connection, child, columns, &named).await?;
            for (document, parent) in documents.iter_mut().zip(&parents) {
                let elements = parent.as_ref().and_then(|parent| nested.get(parent));
                document.push_str(&format!(",\"{}\":[{}]", child.name, elements.map_or("", String::as_str)));
            }
        }
        documents.iter_mut().for_each(|document| document.push('}'));
        Ok(documents)
    }

    async fn rows(
        &self,
        connection: &mut AnyConnection,
        position: &str,
    ) -> Result<Vec<AnyRow>, storage::Error> {
        let key: Vec<String> = self.table.key.iter().map(|column| quote(column)).collect();
        let key = key.join(", ");
        let mut statement = self.select();
        statement.push(&format!(" WHERE {}", self.has_key()));
        let after: Vec<String> = serde_json::from_str(position).unwrap_or_default();
        if !after.is_empty() {
            statement.push(&format!(" AND ({key}) > ("));
            for (index, (column, value)) in self.table.key.iter().zip(after).enumerate() {
                statement.push(if index == 0 { "" } else { ", " });
                bind(&mut statement, &value, self.type_of(column));
            }
            statement.push(")");
        }
        statement.push(&format!(" ORDER BY {key} LIMIT ")).bind(PAGE_ROWS);
        statement.fetch_all(connection).await
    }

    /// The rows where a column of the key is NULL or empty.
    async fn keyless(&self, connection: &mut AnyConnection) -> Result<Vec<String>, storage::Error> {
        let mut statement = self.select();
        statement.push(&format!(" WHERE ({}) IS NOT TRUE LIMIT ", self.has_key())).bind(KEYLESS_ROWS + 1);
        let rows = statement.fetch_all(connection).await?;
        if rows.len() as i64 > KEYLESS_ROWS {
            let reason =
                format!("its `key` is NULL or empty in more than {KEYLESS_ROWS} rows: choose another");
            return Err(storage::Error::Corrupt(reason));
        }
        self.documents(connection, &rows).await
    }

    fn select(&self) -> Statement {
        let mut statement = Statement::new("SELECT ");
        statement.push(&self.parent.select).push(&format!(" FROM \"{}\" AS t", self.table.name));
        statement
    }

    /// True of a row that has a place in the key's order; of a NULL it is NULL.
    fn has_key(&self) -> String {
        let present: Vec<_> =
            self.table.key.iter().map(|column| format!("{} <> ''", text_of(column))).collect();
        present.join(" AND ")
    }

    /// The rows of `child` that belong to `parents`, as the elements of a JSON array for each.
    async fn nested(
        &self,
        connection: &mut AnyConnection,
        child: &Child,
        columns: &Columns,
        parents: &[&str],
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
    fn column(&self, row: &AnyRow, column: &str) -> Result<Option<String>, sqlx::Error> {
        let mut own = self.schema.fields().iter().filter(|field| field.each.is_none());
        row.try_get(own.position(|field| field.name == column).unwrap_or(0))
    }
}

struct Page {
    /// Each with its place in the key's order.
    documents: Vec<(String, String)>,
    /// Where to go on, as a JSON array of the key's values.
    position: Option<String>,
}

/// What was read of a table and is not handed over yet.
struct Reached {
    entity: usize,
    object: Arc<str>,
    encoder: Encoder,
    portion: Portion,
}

impl Reached {
    /// Adds a page of rows after the first `landed`; returns how many there are with it.
    fn add(
        &mut self,
        documents: Vec<(String, String)>,
        landed: i64,
        position: &str,
        complete: bool,
    ) -> Result<i64, ArrowError> {
        let mut records = Records::default();
        let mut first = landed + 1;
        let mut documents = documents.iter().peekable();
        while let Some((place, document)) = documents.next() {
            records.push(place, document);
            if records.is_full() || documents.peek().is_none() {
                let batch = std::mem::take(&mut records);
                let next = first + batch.count() as i64;
                self.push(Arc::clone(&self.object), first, batch)?;
                first = next;
            }
        }
        let object = Arc::clone(&self.object);
        self.portion.reach(checkpoint(self.entity, object, first - 1 - landed, position, complete));
        Ok(first - 1)
    }

    fn push(&mut self, object: Arc<str>, first: i64, records: Records) -> Result<(), ArrowError> {
        self.portion.push(Batch::new(self.entity, object, 0, first, records), &mut self.encoder)
    }

    /// Adds a row without a key as an object of its own, which is known by what it holds: nothing else tells it from
    /// others, and whether it was read before. Its schema refuses it, as it does without a required field.
    fn add_keyless(&mut self, document: &str, known: &HashMap<String, Known>) -> Result<(), ArrowError> {
        let digest = hex::encode(Sha256::digest(document));
        let object: Arc<str> = format!("{}#{}", self.object, &digest[..16]).into();
        if known.contains_key(&*object)
            || self.portion.checkpoints.iter().any(|checkpoint| checkpoint.object == object)
        {
            return Ok(());
        }
        let mut records = Records::default();
        records.push("1", document);
        self.push(Arc::clone(&object), 1, records)?;
        self.portion.reach(checkpoint(self.entity, object, 1, "1", false));
        Ok(())
    }
}

fn checkpoint(entity: usize, object: Arc<str>, landed: i64, position: &str, complete: bool) -> Checkpoint {
    Checkpoint {
        entity,
        object,
        size: 0,
        mtime: 0,
        position: position.to_owned(),
        digest: String::new(),
        complete,
        restart: false,
        revision: 0,
        landed,
        failure: None,
    }
}
