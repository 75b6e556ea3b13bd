//! What has landed: by which fields it names persons, and where nobody says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use arrow::array::{AsArray, RecordBatch};
use futures::{Stream, TryStreamExt};

use crate::{
    Error, Layer, TableName,
    dataset::Store,
    deny::{COLUMNS, Denied, SHORTEST, SubjectKeys, spellings},
};

/// The columns of bronze that tell by which keys a system's records of an entity name persons.
const SAID: [&str; 3] = ["_source", "_entity", "_subject_keys"];

/// By table and field: how many records.
pub(super) type Unclear = BTreeMap<String, BTreeMap<String, u64>>;

/// What of it the newest records say holds of those that landed before the definition said so.
pub(super) async fn subject_keys(store: &Store) -> Result<SubjectKeys, Error> {
    let mut known = SubjectKeys::new();
    for table in tables(store).await? {
        let Some(records) = records(store, &table, &SAID).await? else { continue };
        let mut records = pin!(records);
        while let Some(batch) = records.try_next().await? {
            let text = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let [Some(systems), Some(entities), Some(keys)] = SAID.map(text) else { continue };
            let said: BTreeSet<_> = systems.iter().zip(entities).zip(keys).collect();
            for ((system, entity), keys) in said {
                if let (Some(system), Some(entity), Some(keys)) = (system, entity, keys) {
                    let known = known.entry(format!("{system}/{entity}")).or_default();
                    known.extend(keys.lines().map(str::to_owned));
                }
            }
        }
    }
    Ok(known)
}

/// Where records hold what one of `keys` is, though nobody says that it names a person there. It tells no value.
pub(super) async fn unclear(
    store: &Store,
    denied: &Arc<Denied>,
    keys: &BTreeSet<String>,
) -> Result<Unclear, Error> {
    let values: Arc<BTreeSet<_>> = Arc::new(keys.iter().flat_map(|key| values(key)).collect());
    let mut unclear = Unclear::new();
    for table in tables(store).await? {
        let Some(records) = records(store, &table, &COLUMNS).await? else { continue };
        let mut records = pin!(records);
        while let Some(batch) = records.try_next().await? {
            let (denied, values) = (Arc::clone(denied), Arc::clone(&values));
            let found = tokio::task::spawn_blocking(move || denied.unclear(batch, &values)).await??;
            for (field, count) in found {
                *unclear.entry(table.to_string()).or_default().entry(field).or_default() += count;
            }
        }
    }
    Ok(unclear)
}

/// What a source may write of a key: of an id that is known with its system, the id alone. A short number is anything's.
fn values(key: &str) -> Vec<String> {
    match key.split_once('/') {
        Some((_, id)) if id.len() < SHORTEST && id.parse::<f64>().is_ok() => Vec::new(),
        Some((_, id)) => vec![id.to_owned()],
        None => spellings(key).collect(),
    }
}

async fn tables(store: &Store) -> Result<impl Iterator<Item = TableName>, Error> {
    Ok(store.names().await?.into_iter().filter(|table| table.layer() == Layer::Bronze))
}

/// Columns of a table's records, if it has any.
async fn records(
    store: &Store,
    table: &TableName,
    columns: &[&str],
) -> Result<Option<impl Stream<Item = Result<RecordBatch, Error>>>, Error> {
    store.scan(table, |column| columns.contains(&column.name().as_str())).await
}
