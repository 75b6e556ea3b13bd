//! SQL put together at run time, with each engine's own placeholders: PostgreSQL knows numbered ones only, and SQLite
//! looks a numbered one up among all others, which makes a statement of thousands take time by their square.

use futures::Stream;
use sqlx::{
    Any, AnyConnection, Arguments, AssertSqlSafe, Database, Encode, Executor, Postgres, Type,
    any::{AnyArguments, AnyQueryResult, AnyRow},
};
use types::filter::{Condition, Value};

use crate::Error;

/// A statement under construction. Text comes from the program, values are always bound.
#[derive(Default)]
pub struct Statement {
    sql: String,
    /// Where in the text a placeholder stands.
    placeholders: Vec<usize>,
    arguments: AnyArguments,
    failure: Option<String>,
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statement").field("sql", &self.sql).finish_non_exhaustive()
    }
}

impl Statement {
    /// Begins with `sql`.
    pub fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), ..Self::default() }
    }

    /// Appends SQL.
    pub fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends a placeholder for `value`.
    pub fn bind<'v, T: Encode<'v, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failure = Some(error.to_string());
        }
        self.placeholders.push(self.sql.len());
        self
    }

    /// Appends placeholders for `values`, separated by commas.
    pub fn bind_all<'v, T: Encode<'v, Any> + Type<Any>>(
        &mut self,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.sql.push_str(", ");
            }
            self.bind(value);
        }
        self
    }

    /// Appends what a filter asks for, whose fields go by their columns' names, to conditions that are there.
    pub fn and(&mut self, conditions: &[Condition]) -> &mut Self {
        for condition in conditions {
            self.push(" AND ").push(condition.field).push(" ").push(condition.operator.sql()).push(" ");
            match &condition.value {
                Value::Text(text) => self.bind(text.as_str()),
                Value::Time(time) => self.bind(time.micros()),
                Value::Boolean(boolean) => self.bind(*boolean),
            };
        }
        self
    }

    fn query(
        self,
        connection: &AnyConnection,
    ) -> Result<sqlx::query::Query<'static, Any, AnyArguments>, Error> {
        let is_numbered = connection.backend_name() == Postgres::NAME;
        let mut sql = String::with_capacity(self.sql.len() + 6 * self.placeholders.len());
        let mut start = 0;
        for (index, end) in self.placeholders.into_iter().enumerate() {
            sql.push_str(&self.sql[start..end]);
            match is_numbered {
                true => sql.push_str(&format!("${}", index + 1)),
                false => sql.push('?'),
            }
            start = end;
        }
        sql.push_str(&self.sql[start..]);
        match self.failure {
            Some(failure) => Err(Error::Corrupt(failure)),
            None => Ok(sqlx::query_with(AssertSqlSafe(sql), self.arguments)),
        }
    }

    /// Runs it.
    pub async fn execute(self, connection: &mut AnyConnection) -> Result<AnyQueryResult, Error> {
        Ok(connection.execute(self.query(connection)?).await?)
    }

    /// Runs it and returns its rows.
    pub async fn fetch_all(self, connection: &mut AnyConnection) -> Result<Vec<AnyRow>, Error> {
        Ok(connection.fetch_all(self.query(connection)?).await?)
    }

    /// Runs it and streams its rows.
    pub fn fetch(
        self,
        connection: &mut AnyConnection,
    ) -> Result<impl Stream<Item = Result<AnyRow, sqlx::Error>> + Send + '_, Error> {
        Ok(connection.fetch(self.query(connection)?))
    }

    /// Runs it and returns its first row.
    pub async fn fetch_optional(self, connection: &mut AnyConnection) -> Result<Option<AnyRow>, Error> {
        Ok(connection.fetch_optional(self.query(connection)?).await?)
    }
}

/// Rows of one statement: few enough for both engines' limit on placeholders, always the same number so that the
/// prepared statement is found again.
const ROWS: usize = 256;
const PLACEHOLDERS: usize = 30_000;

/// Inserts many rows with few statements: `head` is `INSERT INTO t (a, b) VALUES`, `tail` what follows the rows
/// (such as `ON CONFLICT DO NOTHING`), `row` binds the values of one row. Returns how many rows were written.
pub async fn insert_many<T>(
    connection: &mut AnyConnection,
    head: &'static str,
    tail: &'static str,
    rows: &[T],
    mut row: impl FnMut(&mut Row<'_>, &T),
) -> Result<u64, Error> {
    let mut written = 0;
    let mut size = ROWS;
    let mut rest = rows;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        let mut statement = Statement::new(head);
        for (index, value) in chunk.iter().enumerate() {
            statement.push(if index == 0 { " (" } else { ", (" });
            let mut columns = Row { statement: &mut statement, width: 0 };
            row(&mut columns, value);
            size = ROWS.min(PLACEHOLDERS / columns.width.max(1));
            statement.push(")");
        }
        statement.push(" ").push(tail);
        written += statement.execute(connection).await?.rows_affected();
        rest = after;
    }
    Ok(written)
}

/// The values of one row of [`insert_many`].
#[derive(Debug)]
pub struct Row<'s> {
    statement: &'s mut Statement,
    width: usize,
}

impl Row<'_> {
    /// The next column's value.
    pub fn bind<'v, T: Encode<'v, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        if self.width > 0 {
            self.statement.push(", ");
        }
        self.width += 1;
        self.statement.bind(value);
        self
    }
}
