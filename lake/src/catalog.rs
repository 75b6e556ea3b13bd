//! What the lake holds: each table's size, freshness, columns and card.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use jiff::Timestamp;
use lance::dataset::Dataset;
use serde::Serialize;

use crate::{Error, TableName, columns, dataset::Store, run};

/// A table of the lake.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DatasetInfo {
    /// Its layer.
    pub layer: String,
    /// Its name in the layer.
    pub table: String,
    /// Where readers open it.
    pub uri: String,
    /// Its newest version.
    pub version: u64,
    /// Rows of that version.
    pub rows: u64,
    /// Bytes of that version's files.
    pub bytes: u64,
    /// When that version was committed.
    pub updated_at: Timestamp,
    /// What is said about it.
    pub card: BTreeMap<String, String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// The version that each tag is on.
    pub tags: BTreeMap<String, u64>,
    /// Why it cannot be read, if it cannot: but for its name nothing is known of it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why its newest rows were refused, if they were: an older version is published, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A column of a table.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it holds.
    pub description: String,
    /// What it says of a person.
    pub pii: String,
    /// Whether it is a part of the key.
    pub key: bool,
}

impl DatasetInfo {
    fn of(store: &Store, name: &TableName) -> Self {
        Self {
            layer: name.layer().as_str().to_owned(),
            table: name.as_str().to_owned(),
            uri: format!("{}/{}/{}.lance", store.uri(), name.layer().as_str(), name.as_str()),
            ..Self::default()
        }
    }
}

/// Every table that has rows, or had some refused, or cannot be read.
pub(crate) async fn list(store: &Store) -> Result<Vec<DatasetInfo>, Error> {
    let mut refusals = run::refusals(store).await?;
    let names: BTreeSet<_> = store.names().await?.into_iter().chain(refusals.keys().cloned()).collect();
    let mut datasets = Vec::new();
    for name in names {
        let found = events::caught(read(store, &name)).await.unwrap_or_else(|error| {
            let error = Some(error.of(&name).to_string());
            Some(DatasetInfo { error, ..DatasetInfo::of(store, &name) })
        });
        datasets.extend(told(store, &name, found, refusals.remove(&name)));
    }
    Ok(datasets)
}

/// A table, if it has rows, or had some refused.
pub(crate) async fn get(store: &Store, name: &TableName) -> Result<Option<DatasetInfo>, Error> {
    let refusal = run::refusals(store).await?.remove(name);
    Ok(told(store, name, read(store, name).await?, refusal))
}

fn told(
    store: &Store,
    name: &TableName,
    found: Option<DatasetInfo>,
    refusal: Option<String>,
) -> Option<DatasetInfo> {
    let found = found.or_else(|| refusal.is_some().then(|| DatasetInfo::of(store, name)))?;
    Some(DatasetInfo { refusal, ..found })
}

async fn read(store: &Store, name: &TableName) -> Result<Option<DatasetInfo>, Error> {
    let Some(dataset) = store.load(name).await? else { return Ok(None) };
    let failed = |error| crate::dataset::failed(name, "read", error);
    let rows = dataset.count_rows(None).await.map_err(failed)? as u64;
    let tags = dataset.tags().list().await.map_err(failed)?;
    let card = dataset
        .metadata()
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("omnimesh.card.")?.to_owned(), value.clone())));
    Ok(Some(DatasetInfo {
        version: dataset.version().version,
        rows,
        bytes: bytes(&dataset),
        updated_at: Timestamp::from_microsecond(dataset.version().timestamp.timestamp_micros())
            .unwrap_or_default(),
        card: card.collect(),
        columns: columns(&Schema::from(dataset.schema())),
        tags: tags.into_iter().map(|(tag, contents)| (tag, contents.version)).collect(),
        ..DatasetInfo::of(store, name)
    }))
}

fn bytes(dataset: &Dataset) -> u64 {
    let files = dataset.fragments().iter().flat_map(|fragment| &fragment.files);
    files.filter_map(|file| file.file_size_bytes.get()).map(std::num::NonZero::get).sum()
}

fn columns(schema: &Schema) -> Vec<ColumnInfo> {
    let text =
        |field: &arrow::datatypes::Field, key: &str| field.metadata().get(key).cloned().unwrap_or_default();
    let columns = schema.fields().iter().map(|field| ColumnInfo {
        name: field.name().clone(),
        kind: field.data_type().to_string(),
        description: text(field, "description"),
        pii: text(field, "omnimesh.pii"),
        key: columns::is_key(field),
    });
    columns.collect()
}
