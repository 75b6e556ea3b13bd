//! What tells two versions of a table apart, by its key.

use std::collections::{BTreeSet, HashMap};

use arrow::{
    array::{Array, ArrayRef},
    datatypes::Schema,
    row::{RowConverter, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};
use futures::TryStreamExt;
use lance::dataset::Dataset;
use serde::Serialize;

use crate::{
    Error, TableName, Version, columns,
    dataset::{Store, failed},
    digest,
};

/// Keys of each kind that are shown.
const SHOWN: usize = 10;

/// What tells two versions apart.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Diff {
    /// Rows of the one and of the other.
    pub rows: (u64, u64),
    /// Columns that only the other has.
    pub columns_added: Vec<String>,
    /// Columns that only the one has.
    pub columns_removed: Vec<String>,
    /// Rows whose key only the other has.
    pub added: Keys,
    /// Rows whose key only the one has.
    pub removed: Keys,
    /// Rows that say something else under the same key.
    pub changed: Keys,
}

/// How many keys, and the first of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Keys {
    /// How many.
    pub count: u64,
    /// Some of them.
    pub first: Vec<String>,
}

impl Keys {
    fn add(&mut self, key: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(key());
        }
    }
}

impl Diff {
    /// Whether both hold the same rows.
    pub fn is_empty(&self) -> bool {
        self.added.count + self.removed.count + self.changed.count == 0
            && self.columns_added.is_empty()
            && self.columns_removed.is_empty()
    }
}

/// Compares a table at `from` with one at `to`, by the columns that both have.
pub(crate) async fn diff(
    store: &Store,
    from: (&TableName, &Version),
    to: (&TableName, &Version),
) -> Result<Diff, Error> {
    let (one, other) = (open(store, from).await?, open(store, to).await?);
    let names = |dataset: &Dataset| -> BTreeSet<String> {
        dataset.schema().fields.iter().map(|field| field.name.clone()).collect()
    };
    let (left, right) = (names(&one), names(&other));
    let common: Vec<_> = left.intersection(&right).cloned().collect();
    let mut diff = Diff {
        columns_added: right.difference(&left).cloned().collect(),
        columns_removed: left.difference(&right).cloned().collect(),
        ..Diff::default()
    };
    let mut known = HashMap::new();
    read(from.0, &one, &common, |key, row, name| {
        known.insert(key, (row, name()));
    })
    .await?;
    diff.rows.0 = known.len() as u64;
    read(to.0, &other, &common, |key, row, name| {
        diff.rows.1 += 1;
        match known.remove(&key) {
            None => diff.added.add(name),
            Some((same, _)) if same == row => {}
            Some((_, name)) => diff.changed.add(|| name),
        }
    })
    .await?;
    let mut gone: Vec<_> = known.into_values().map(|(_, name)| name).collect();
    gone.sort();
    for name in gone {
        diff.removed.add(|| name);
    }
    Ok(diff)
}

async fn open(store: &Store, (name, version): (&TableName, &Version)) -> Result<Dataset, Error> {
    let found = store.at(name, version).await?;
    found.ok_or_else(|| Error::NotFound { what: format!("table {name} at {version}") })
}

/// Tells of each row: what its key and its values come to, and what its key is called.
async fn read(
    name: &TableName,
    dataset: &Dataset,
    columns: &[String],
    mut tell: impl FnMut(u128, u128, &dyn Fn() -> String),
) -> Result<(), Error> {
    let mut scan = dataset.scan();
    scan.project(columns).map_err(|error| failed(name, "read", error))?;
    let mut batches = scan.try_into_stream().await.map_err(|error| failed(name, "read", error))?;
    let schema = Schema::from(dataset.schema());
    let keys: Vec<_> =
        columns.iter().filter(|name| schema.field_with_name(name).is_ok_and(columns::is_key)).collect();
    while let Some(batch) = batches.try_next().await.map_err(|error| failed(name, "read", error))? {
        let keyed: Vec<_> = keys.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect();
        let (ids, rows) = (hashes(&keyed)?, hashes(batch.columns())?);
        let formatters = formatters(&keyed)?;
        for (index, (id, row)) in ids.into_iter().zip(rows).enumerate() {
            let name = || {
                let parts = formatters.iter().map(|column| column.value(index).to_string());
                parts.collect::<Vec<_>>().join(", ")
            };
            tell(id, row, &name);
        }
    }
    Ok(())
}

fn formatters(columns: &[ArrayRef]) -> Result<Vec<ArrayFormatter<'_>>, Error> {
    static OPTIONS: FormatOptions<'static> = FormatOptions::new();
    Ok(columns.iter().map(|column| ArrayFormatter::try_new(column, &OPTIONS)).collect::<Result<_, _>>()?)
}

fn hashes(columns: &[ArrayRef]) -> Result<Vec<u128>, Error> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let rows = RowConverter::new(fields.collect())?.convert_columns(columns)?;
    Ok(rows.iter().map(|row| digest::of_row(row.as_ref())).collect())
}
