//! However a table is written, and however often, what is on disk of it beside its rows stays small, and what is tagged
//! stays what it was.

use std::{fs, ops::Range, path::Path};

use arrow::array::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use events::Cursor;
use futures::stream;
use lance_index::{
    IndexType,
    scalar::{BuiltinIndexType, ScalarIndexParams},
};
use tempfile::TempDir;

use super::*;
use crate::{
    Layer, Version,
    card::Card,
    columns::{batch, integer, text},
    dataset::{self, Progress, Store},
    digest::Digest,
    table::{Change, Stale},
};

const MOST_VERSIONS: usize = VERSIONS + VERSIONS / SPARE;
const MOST_WHOLE_VERSIONS: usize = WHOLE_VERSIONS + WHOLE_VERSIONS / SPARE;
/// What a table may have beside its rows.
const METADATA_BYTES: u64 = 1_000_000;
/// Of one version, however many commits were before it.
const MANIFEST_BYTES: u64 = 10_000;

/// A table in a lake of its own.
struct Written {
    directory: TempDir,
    store: Store,
    table: Table,
}

impl Written {
    async fn new(layer: Layer) -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::create(&directory.path().into()).unwrap();
        let table = store.open(TableName::new(layer, "dim_small").unwrap()).await.unwrap();
        Self { directory, store, table }
    }

    async fn commit(&mut self, change: Change, cursor: Cursor) {
        let turn = self.store.turn().await.unwrap();
        let properties = Progress { cursor, settled: cursor }.properties("test");
        self.table.commit(&turn, change, properties, &card()).await.unwrap();
    }

    async fn replace(&mut self, rows: RecordBatch) {
        let turn = self.store.turn().await.unwrap();
        let stream = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
        self.table.replace(&turn, Box::pin(stream), &card(), HashMap::new(), None).await.unwrap();
    }

    fn dataset(&self) -> &Dataset {
        self.table.dataset().unwrap()
    }

    async fn versions(&self) -> usize {
        self.dataset().version_refs().await.unwrap().len()
    }

    async fn rows_at(&self, version: Version) -> Option<usize> {
        // What this store has read it need not find again.
        let store = Store::existing(&self.directory.path().into());
        let dataset = store.at(self.table.name(), &version).await.unwrap()?;
        Some(dataset.scan().try_into_batch().await.unwrap().num_rows())
    }

    /// What a version's rows add up to, and how many of them its index finds.
    async fn content(&self, version: Version) -> (Digest, usize) {
        let store = Store::existing(&self.directory.path().into());
        let dataset = store.at(self.table.name(), &version).await.unwrap().unwrap();
        let digest = dataset::digest(self.table.name(), &dataset).await.unwrap();
        (digest, dataset.count_rows(Some("column_0 = 2".to_owned())).await.unwrap())
    }

    /// Makes an index, or makes it anew.
    async fn index(&mut self) {
        let mut dataset = self.dataset().clone();
        let params = ScalarIndexParams::for_builtin(BuiltinIndexType::BTree);
        let index = dataset.create_index_builder(&["column_0"], IndexType::BTree, &params);
        index.name("by_value".to_owned()).replace(true).await.unwrap();
        self.table = self.store.open(self.table.name().clone()).await.unwrap();
    }

    /// Bytes of all files of the table but those of its rows.
    fn metadata_bytes(&self) -> u64 {
        let table = self.directory.path().join(self.table.name().path());
        ["_versions", "_transactions", "_deletions"].iter().map(|part| bytes(&table.join(part))).sum()
    }
}

fn bytes(directory: &Path) -> u64 {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn card() -> Card {
    Card { key: vec!["key".to_owned()], ..Card::default() }
}

fn cursor(commit: usize) -> Cursor {
    format!("{commit:x}-1").parse().unwrap()
}

/// Rows of as many columns as a table of events has.
fn rows(keys: Range<usize>, value: usize) -> RecordBatch {
    let names: Vec<_> = keys.clone().map(|key| format!("key-{key}")).collect();
    let mut columns = vec![text("key", names.iter().map(String::as_str)).key(1)];
    for column in 0..10 {
        columns.push(integer(&format!("column_{column}"), keys.clone().map(|_| value as i64)));
    }
    batch(columns).unwrap()
}

#[tokio::test]
async fn many_tiny_commits_leave_little_beside_the_rows() {
    const COMMITS: usize = 300;
    let mut written = Written::new(Layer::Silver).await;
    for commit in 0..COMMITS {
        let change = Change::Append(vec![rows(commit * 10..commit * 10 + 10, commit)]);
        written.commit(change, cursor(commit)).await;
        if commit == 0 {
            let version = written.dataset().version().version;
            written.table.tag("train-small", version).await.unwrap();
        }
    }
    assert!(written.metadata_bytes() < METADATA_BYTES, "{} bytes", written.metadata_bytes());
    assert!(written.versions().await <= MOST_VERSIONS + 1, "{} versions", written.versions().await);
    assert!(written.dataset().count_fragments() <= TINY_PIECES + 1);
    let table = written.directory.path().join(written.table.name().path());
    let manifest = bytes(&table.join("_versions")) / written.versions().await as u64;
    assert!(manifest < MANIFEST_BYTES, "manifests of {manifest} bytes");
    assert_eq!(written.rows_at(Version::Newest).await, Some(COMMITS * 10));
    assert_eq!(written.rows_at(Version::Tag("train-small".to_owned())).await, Some(10));
    let progress = written.table.progress("test").await.unwrap();
    assert_eq!(progress.cursor, cursor(COMMITS - 1));
}

#[tokio::test]
async fn versions_of_rows_that_only_change_do_not_gather() {
    let mut written = Written::new(Layer::Silver).await;
    for commit in 0..MOST_VERSIONS + 10 {
        let change = Change::Upsert { rows: rows(0..3, commit), stale: Stale::NONE, newer: None };
        written.commit(change, cursor(commit)).await;
    }
    assert!(written.versions().await <= MOST_VERSIONS, "{} versions", written.versions().await);
    assert!(written.metadata_bytes() < METADATA_BYTES, "{} bytes", written.metadata_bytes());
    assert_eq!(written.rows_at(Version::Newest).await, Some(3));
}

#[tokio::test]
async fn a_table_that_is_computed_again_and_again_keeps_its_newest_and_its_tagged_versions() {
    let mut written = Written::new(Layer::Gold).await;
    for run in 0..MOST_WHOLE_VERSIONS + 10 {
        written.replace(rows(0..run + 1, run)).await;
        if run == 4 {
            let version = written.dataset().version().version;
            written.table.tag("run-fifth", version).await.unwrap();
        }
    }
    let newest = written.dataset().version().version;
    assert!(written.versions().await <= MOST_WHOLE_VERSIONS + 1, "{} versions", written.versions().await);
    assert_eq!(written.rows_at(Version::Newest).await, Some(MOST_WHOLE_VERSIONS + 10));
    assert_eq!(written.rows_at(Version::Tag("run-fifth".to_owned())).await, Some(5));
    let oldest = newest - WHOLE_VERSIONS as u64 + 1;
    assert_eq!(
        written.rows_at(Version::Number(oldest)).await,
        Some(MOST_WHOLE_VERSIONS + 10 - WHOLE_VERSIONS + 1)
    );
    assert_eq!(written.rows_at(Version::Number(1)).await, None);
    let data = written.directory.path().join(written.table.name().path()).join("data");
    assert!(fs::read_dir(data).unwrap().count() <= MOST_WHOLE_VERSIONS + 1);
}

#[tokio::test]
async fn what_came_after_an_index_comes_into_it() {
    let mut written = Written::new(Layer::Silver).await;
    for commit in 0..=TINY_PIECES + 1 {
        let change = Change::Append(vec![rows(commit * 10..commit * 10 + 10, commit)]);
        written.commit(change, cursor(commit)).await;
        if commit == 0 {
            written.index().await;
        }
    }
    let statistics = written.dataset().index_statistics("by_value").await.unwrap();
    let statistics: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    assert!(statistics["num_unindexed_rows"].as_u64().unwrap() < 10 * TINY_PIECES as u64, "{statistics}");
}

#[tokio::test]
async fn what_is_tagged_is_the_same_after_compaction_indexing_and_clean_up() {
    let mut written = Written::new(Layer::Silver).await;
    let change = |commit: usize| {
        // Half of the rows are others' new values.
        let rows = rows(commit * 5..commit * 5 + 10, commit);
        Change::Upsert { rows, stale: Stale::NONE, newer: None }
    };
    for commit in 0..4 {
        written.commit(change(commit), cursor(commit)).await;
    }
    written.index().await;
    let tag = Version::Tag("train-small".to_owned());
    let version = written.dataset().version().version;
    written.table.tag("train-small", version).await.unwrap();
    let (digest, found) = written.content(tag.clone()).await;
    assert_eq!((digest.rows, found), (25, 5));

    for commit in 4..PIECES {
        written.commit(change(commit), cursor(commit)).await;
    }
    let table = &mut written.table;
    let options = CompactionOptions { materialize_deletions_threshold: 0.0, ..CompactionOptions::default() };
    let newest = table.dataset.as_mut().unwrap();
    compact(&table.name, newest, &mut table.durable, &options).await.unwrap();
    written.index().await;
    written.table.clean_up(1).await.unwrap();
    assert_eq!(written.versions().await, 2);
    assert_eq!(written.dataset().count_deleted_rows().await.unwrap(), 0);
    assert_eq!(written.content(tag).await, (digest, found));
    assert_ne!(written.content(Version::Newest).await.0, digest);
}
