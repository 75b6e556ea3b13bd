//! All SQL of the order service.

mod customers;
mod orders;
mod sightings;
mod verdicts;

use std::collections::BTreeMap;

use storage::{
    Database, Statement, Tx,
    sqlx::{self, AnyConnection, any::AnyRow, migrate::Migrator, pool::PoolConnection},
};
use types::SourceRef;

use crate::{Error, domain::MatchRule};

pub(crate) use orders::Query;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// Values in one IN list.
const CHUNK: usize = 500;

#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        Ok(self.database.begin().await?)
    }

    pub(crate) async fn reader(&self) -> Result<PoolConnection<sqlx::Any>, Error> {
        Ok(self.database.reader().await?)
    }
}

/// The rows of `select` whose columns `system` and `id` name one of `sources`.
async fn rows_of(
    connection: &mut AnyConnection,
    select: &'static str,
    [system, id]: [&'static str; 2],
    sources: impl IntoIterator<Item = &SourceRef>,
) -> Result<Vec<AnyRow>, Error> {
    let mut rows = Vec::new();
    for (name, ids) in by_system(sources) {
        for ids in ids.chunks(CHUNK) {
            let mut statement = Statement::new(select);
            statement.push(" WHERE ").push(system).push(" = ").bind(name);
            statement.push(" AND ").push(id).push(" IN (").bind_all(ids.iter().copied()).push(")");
            rows.extend(statement.fetch_all(connection).await?);
        }
    }
    Ok(rows)
}

fn by_system<'s>(sources: impl IntoIterator<Item = &'s SourceRef>) -> BTreeMap<&'s str, Vec<&'s str>> {
    let mut systems: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for source in sources {
        systems.entry(source.system.as_str()).or_default().push(source.id.as_str());
    }
    systems
}

/// Empty text stands for nothing, which no identifier is.
fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(error.to_string())
}

fn source(system: &str, id: &str) -> Result<SourceRef, Error> {
    SourceRef::new(system, id).map_err(corrupt)
}

fn rule_number(rule: Option<MatchRule>) -> i64 {
    match rule {
        None => 0,
        Some(MatchRule::Reference) => 1,
        Some(MatchRule::Payment) => 2,
        Some(MatchRule::Content) => 3,
        Some(MatchRule::Asserted) => 4,
    }
}

fn rule(number: i64) -> Result<Option<MatchRule>, Error> {
    Ok(match number {
        0 => None,
        1 => Some(MatchRule::Reference),
        2 => Some(MatchRule::Payment),
        3 => Some(MatchRule::Content),
        4 => Some(MatchRule::Asserted),
        other => return Err(corrupt(format!("{other} is no match rule"))),
    })
}
