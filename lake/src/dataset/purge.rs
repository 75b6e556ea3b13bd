//! Ridding a table of rows for good: of its newest version and of every older one, of its files and of its indices.
//!
//! Deleting hides rows, compacting leaves them out of new files, indices keep what they were made of, and old versions
//! keep the old files. So each of these is done in this order, and files that hold a key are gone only with the last
//! step: cut short, it is found unfinished and is done again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::{and_not, filter, filter_record_batch},
    datatypes::UInt64Type,
};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use jiff::Timestamp;
use lance::{
    Error as LanceError,
    dataset::{
        CommitBuilder, Dataset, DeleteBuilder, ROW_ID, WhenMatched,
        cleanup::CleanupPolicyBuilder,
        optimize::CompactionOptions,
        transaction::{Operation, Transaction},
    },
    index::DatasetIndexExt,
};
use lance_index::{
    IndexDescription, IndexParams, IndexType, is_system_index,
    optimize::OptimizeOptions,
    pbold::InvertedIndexDetails,
    scalar::{BuiltinIndexType, InvertedIndexParams, ScalarIndexParams},
};
use lance_table::format::IndexMetadata;
use object_store::path::Path;
use prost::Message;

use super::{Store, Table, failed, publish, upkeep::compact, write::merge};
use crate::{Error, TableName, deny::Denied, run::PROD};

/// Files of a table that are of no version of it; those of its branches are of theirs.
const UNTRACKED: [&str; 3] = ["_refs/", "tree/", "_versions/latest_version_hint.json"];

/// What begins the name of the property that says how far an exporter is.
const CURSOR: &str = "omnimesh.cursor.";

/// What a table was rid of.
#[derive(Debug, Default)]
pub(crate) struct Purged {
    /// Rows of its newest version.
    pub(crate) rows: u64,
    /// Tags and branches whose version held such rows.
    pub(crate) references: Vec<String>,
}

type Properties = HashMap<String, String>;

impl Table {
    /// Rids the table of the rows that hold what is denied; `files` are those of its files that do. Indices from before
    /// `since` are made anew.
    pub(crate) async fn purge(
        &mut self,
        denied: &Arc<Denied>,
        files: &BTreeSet<Path>,
        since: Timestamp,
    ) -> Result<Purged, Error> {
        let Some(dataset) = &mut self.dataset else { return Ok(Purged::default()) };
        let failed = |error| failed(&self.name, "rid of rows", error);
        let progress = progress(dataset).await.map_err(failed)?;
        let Held { ids, severed } = held(dataset, denied).await.map_err(failed)?;
        let until = if ids.is_empty() && severed.is_empty() { since } else { Timestamp::MAX };
        if !ids.is_empty() {
            let deletion = deletion(dataset, &ids).await.map_err(failed)?;
            // Whatever a manifest names is on disk before it.
            self.durable.sync().await?;
            commit(dataset, deletion, &progress).await.map_err(failed)?;
        }
        if !severed.is_empty() {
            let severed = merge(dataset, severed, WhenMatched::UpdateAll, None).await.map_err(failed)?;
            self.durable.sync().await?;
            if let Some(severed) = severed {
                commit(dataset, severed, &progress).await.map_err(failed)?;
            }
        }
        compact(&self.name, dataset, &mut self.durable, &options(&progress)).await?;
        // An index that was made since then is of rows that were rid of already, unless some went just now.
        index(dataset, &progress, until).await.map_err(failed)?;
        mark(dataset, &progress).await.map_err(failed)?;
        self.durable.sync().await?;
        let references = References::to(dataset, files).await.map_err(failed)?;
        let names = references.names();
        references.forget(dataset).await.map_err(failed)?;
        self.durable.sync_tags().await?;
        let policy = CleanupPolicyBuilder::default().retain_n_versions(dataset, 1).await.map_err(failed)?;
        let policy = policy.delete_unverified(true).error_if_tagged_old_versions(false).build();
        dataset.cleanup_with_policy(policy).await.map_err(failed)?;
        self.durable.sync().await?;
        Ok(Purged { rows: ids.len() as u64, references: names })
    }

    /// Whether versions are left whose rows are gone: an erasure was killed while it cleaned up.
    pub(crate) async fn is_half_cleaned(&self) -> Result<bool, Error> {
        let Some(dataset) = &self.dataset else { return Ok(false) };
        let files = Files::of(dataset).await.map_err(|error| failed(&self.name, "checked", error))?;
        Ok(files.known.difference(&files.found).any(|file| file.starts_with("data/")))
    }

    /// What of a table that was rid of rows since then is not as it must be.
    pub(crate) async fn fault(&self, since: Timestamp) -> Result<Option<String>, Error> {
        let Some(dataset) = &self.dataset else { return Ok(None) };
        let failed = |error| failed(&self.name, "checked", error);
        if dataset.fragments().iter().any(|fragment| fragment.deletion_file.is_some()) {
            return Ok(Some("deleted rows are still in its files".to_owned()));
        }
        for index in dataset.load_indices().await.map_err(failed)?.iter() {
            if made(index) < since.as_microsecond() && !is_system_index(index) {
                return Ok(Some(format!("index {} is older than the erasure", index.name)));
            }
        }
        let files = Files::of(dataset).await.map_err(failed)?;
        let is_untracked = |file: &&String| UNTRACKED.iter().any(|known| file.starts_with(known));
        let stray = files.found.difference(&files.known).find(|file| !is_untracked(file));
        Ok(stray.map(|file| format!("no version has the file {file}")))
    }
}

/// What the newest commit of an exporter says of how far it is; nothing in a table that no exporter writes.
async fn progress(dataset: &Dataset) -> Result<Properties, LanceError> {
    let mut versions = dataset.version_refs().await?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.version));
    for version in versions {
        let transaction = dataset.read_transaction_by_version(version.version).await?;
        let said = transaction.and_then(|transaction| transaction.transaction_properties);
        if let Some(said) = said.filter(|said| said.keys().any(|name| name.starts_with(CURSOR))) {
            return Ok(said.as_ref().clone());
        }
    }
    Ok(Properties::new())
}

/// The rows that hold what is denied.
#[derive(Default)]
struct Held {
    /// Those that go, by their numbers.
    ids: Vec<u64>,
    /// Those that stay, as they are from then on.
    severed: Vec<RecordBatch>,
}

async fn held(dataset: &Dataset, denied: &Arc<Denied>) -> Result<Held, LanceError> {
    let mut scan = dataset.scan();
    let mut batches = scan.with_row_id().try_into_stream().await?;
    let mut all = Held::default();
    while let Some(batch) = batches.try_next().await? {
        let denied = Arc::clone(denied);
        let found = tokio::task::spawn_blocking(move || held_in(batch, &denied));
        let Held { ids, severed } = found.await.map_err(|error| LanceError::wrapped(error.into()))??;
        all.ids.extend(ids);
        all.severed.extend(severed);
    }
    Ok(all)
}

fn held_in(rows: RecordBatch, denied: &Denied) -> Result<Held, LanceError> {
    let found = denied.rows(&rows)?;
    if found.true_count() == 0 {
        return Ok(Held::default());
    }
    let mut severed = denied.severed(rows)?;
    let goes = denied.rows(&severed)?;
    let ids = severed.remove_column(severed.schema_ref().index_of(ROW_ID)?);
    let ids = filter(&ids, &goes)?.as_primitive::<UInt64Type>().values().to_vec();
    let severed = filter_record_batch(&severed, &and_not(&found, &goes)?)?;
    Ok(Held { ids, severed: Some(severed).filter(|rows| rows.num_rows() > 0).into_iter().collect() })
}

/// A deletion by the numbers of the rows: a transaction says what it deleted by, and that must be nobody's name.
async fn deletion(dataset: &Dataset, ids: &[u64]) -> Result<Transaction, LanceError> {
    let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
    let rows = format!("{ROW_ID} IN ({})", ids.join(","));
    let staged = DeleteBuilder::new(Arc::new(dataset.clone()), rows).execute_uncommitted().await?;
    Ok(staged.transaction)
}

/// Every file that a row was deleted from is written anew.
fn options(progress: &Properties) -> CompactionOptions {
    let options = CompactionOptions { materialize_deletions_threshold: 0.0, ..CompactionOptions::default() };
    options.transaction_properties(progress.clone())
}

/// Makes every index anew that is older than `until`.
async fn index(dataset: &mut Dataset, progress: &Properties, until: Timestamp) -> Result<(), LanceError> {
    let indices = dataset.describe_indices(None).await?;
    let is_old =
        |segment: &IndexMetadata| made(segment) < until.as_microsecond() && !is_system_index(segment);
    for index in indices.iter().filter(|index| index.metadata().iter().any(is_old)) {
        let Ok(kind) = IndexType::try_from(index.index_type()) else { continue };
        if kind.is_vector() {
            let options = OptimizeOptions::retrain().index_names(vec![index.name().to_owned()]);
            dataset.optimize_indices(&options).await?;
            continue;
        }
        let Some(field) = index.field_ids().first() else { continue };
        let column = dataset.schema().field_path(*field as i32)?;
        let params = params(kind, index.as_ref())?;
        let is_trained = dataset.count_rows(None).await? > 0;
        dataset
            .create_index_builder(&[column.as_str()], kind, params.as_ref())
            .name(index.name().to_owned())
            .replace(true)
            .train(is_trained)
            .transaction_properties(progress.clone())
            .await?;
    }
    Ok(())
}

/// When a part of an index was made, in microseconds.
fn made(segment: &IndexMetadata) -> i64 {
    segment.created_at.map_or(0, |made| made.timestamp_micros())
}

fn params(kind: IndexType, index: &dyn IndexDescription) -> Result<Box<dyn IndexParams>, LanceError> {
    if kind != IndexType::Inverted {
        return Ok(Box::new(ScalarIndexParams::for_builtin(BuiltinIndexType::try_from(kind)?)));
    }
    let details = index.metadata().first().and_then(|segment| segment.index_details.clone());
    let details = details.map(|details| InvertedIndexDetails::decode(details.value.as_slice())).transpose();
    let details = details.map_err(|error| LanceError::wrapped(error.into()))?.unwrap_or_default();
    Ok(Box::new(InvertedIndexParams::try_from(&details)?))
}

/// Makes the newest version say how far the table is: those before it are about to go.
async fn mark(dataset: &mut Dataset, progress: &Properties) -> Result<(), LanceError> {
    let newest = dataset.read_transaction().await?.and_then(|newest| newest.transaction_properties);
    if progress.is_empty() || newest.is_some_and(|newest| *newest == *progress) {
        return Ok(());
    }
    let nothing = Operation::UpdateConfig {
        config_updates: None,
        table_metadata_updates: None,
        schema_metadata_updates: None,
        field_metadata_updates: HashMap::new(),
    };
    let version = dataset.version().version;
    commit(dataset, Transaction::new(version, nothing, None), progress).await
}

async fn commit(
    dataset: &mut Dataset,
    mut transaction: Transaction,
    progress: &Properties,
) -> Result<(), LanceError> {
    transaction.transaction_properties = Some(Arc::new(progress.clone()));
    *dataset = CommitBuilder::new(Arc::new(dataset.clone())).execute(transaction).await?;
    Ok(())
}

/// Tags and branches on versions that have one of `files`.
#[derive(Default)]
struct References {
    tags: BTreeSet<String>,
    branches: BTreeSet<String>,
}

impl References {
    async fn to(dataset: &Dataset, files: &BTreeSet<Path>) -> Result<Self, LanceError> {
        let branches = dirty_branches(dataset, files).await?;
        let mut tags = BTreeSet::new();
        for (tag, contents) in dataset.tags().list().await? {
            let is_on = contents.branch.as_ref().is_some_and(|branch| branches.contains(branch));
            if is_on || is_dirty(&dataset.checkout_version(tag.as_str()).await?, files).await? {
                tags.insert(tag);
            }
        }
        Ok(Self { tags, branches })
    }

    fn names(&self) -> Vec<String> {
        self.tags.iter().chain(&self.branches).cloned().collect()
    }

    /// Takes them away; [`PROD`] moves to the newest version if nothing was added since the one that it is on.
    async fn forget(mut self, dataset: &mut Dataset) -> Result<(), LanceError> {
        for tag in self.tags {
            if tag == PROD && stands(dataset, dataset.tags().get_version(PROD).await?).await {
                publish::tag(dataset, PROD, dataset.version().version).await?;
            } else {
                dataset.tags().delete(&tag).await?;
            }
        }
        // A branch is in the way of the one that it grew from.
        while !self.branches.is_empty() {
            let mut refused = BTreeSet::new();
            let mut conflict = None;
            for branch in &self.branches {
                match dataset.delete_branch(branch).await {
                    Err(error @ LanceError::RefConflict { .. }) => {
                        refused.insert(branch.clone());
                        conflict = Some(error);
                    }
                    outcome => outcome?,
                }
            }
            match conflict {
                Some(error) if refused.len() == self.branches.len() => return Err(error),
                _ => self.branches = refused,
            }
        }
        Ok(())
    }
}

/// Whether the newest version has no rows that a version lacks: what was written later may have been refused.
async fn stands(dataset: &Dataset, version: u64) -> bool {
    for later in (version + 1..=dataset.version().version).rev() {
        let Ok(Some(transaction)) = dataset.read_transaction_by_version(later).await else { return false };
        let adds = matches!(
            transaction.operation,
            Operation::Overwrite { .. } | Operation::Append { .. } | Operation::Update { .. }
        );
        if adds {
            return false;
        }
    }
    true
}

/// Branches of which a version has one of `files`.
async fn dirty_branches(dataset: &Dataset, files: &BTreeSet<Path>) -> Result<BTreeSet<String>, LanceError> {
    let mut dirty = BTreeSet::new();
    for branch in dataset.list_branches().await?.into_keys() {
        let newest = dataset.checkout_branch(&branch).await?;
        for version in newest.version_refs().await? {
            let version = (branch.as_str(), version.version);
            if is_dirty(&newest.checkout_version(version).await?, files).await? {
                dirty.insert(branch);
                break;
            }
        }
    }
    Ok(dirty)
}

/// Whether a version has one of `files`. Names of files are never used twice, but those of manifests.
async fn is_dirty(version: &Dataset, files: &BTreeSet<Path>) -> Result<bool, LanceError> {
    let data = version.fragments().iter().flat_map(|fragment| &fragment.files);
    let mut names: BTreeSet<_> = data.map(|file| file.path.clone()).collect();
    names.extend(version.load_indices().await?.iter().map(|index| index.uuid.to_string()));
    names.extend(version.manifest().transaction_file.clone());
    let manifest = &version.manifest_location().path;
    let has = |file: &Path| file == manifest || file.parts().any(|part| names.contains(part.as_ref()));
    Ok(files.iter().any(has))
}

/// What [`Table::purge`] would take away.
pub(crate) async fn would_purge(
    store: &Store,
    name: &TableName,
    denied: &Arc<Denied>,
    files: &BTreeSet<Path>,
) -> Result<Purged, Error> {
    let Some(dataset) = store.load(name).await? else { return Ok(Purged::default()) };
    let failed = |error| failed(name, "read", error);
    let rows = held(&dataset, denied).await.map_err(failed)?.ids.len() as u64;
    let references = References::to(&dataset, files).await.map_err(failed)?.names();
    Ok(Purged { rows, references })
}

/// Names of a table's files.
struct Files {
    /// Those that its versions name.
    known: BTreeSet<String>,
    /// Those that are there.
    found: BTreeSet<String>,
}

impl Files {
    async fn of(dataset: &Dataset) -> Result<Self, LanceError> {
        let known = names(dataset.tracked_files().await).await?;
        Ok(Self { known, found: names(dataset.all_files().await).await? })
    }
}

/// The column `path` of a listing of files.
async fn names(files: SendableRecordBatchStream) -> Result<BTreeSet<String>, LanceError> {
    let files: Vec<_> = files.try_collect().await.map_err(LanceError::from)?;
    let paths = files.iter().filter_map(|batch| batch.column_by_name("path"));
    Ok(paths.flat_map(|paths| paths.as_string::<i32>().iter().flatten()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
