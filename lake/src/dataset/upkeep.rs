//! What a commit makes due: a table stays in few pieces, with few dead rows, and without versions that nobody reads any
//! more, however small its commits are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use lance::{
    Error as LanceError,
    dataset::{
        Dataset,
        cleanup::CleanupPolicyBuilder,
        index::DatasetIndexRemapperOptions,
        optimize::{CompactionOptions, commit_compaction, plan_compaction},
    },
    index::DatasetIndexExt,
};
use lance_index::optimize::OptimizeOptions;
use lance_table::format::{Fragment, RowDatasetVersionMeta, RowDatasetVersionSequence};

use super::{Table, durable::Durable, failed};
use crate::{Error, TableName};

/// A table in more pieces than this is put together.
const PIECES: usize = 50;
/// So is one with this many more dead rows than live ones: each manifest names the ids of both.
const DEAD_ROWS: usize = 50_000;
/// So are the newest pieces alone, once there are more than these in a row of fewer rows than that each: a scan opens
/// every piece.
const TINY_PIECES: usize = 8;
const TINY_ROWS: usize = 1_000;
/// Pieces of more rows are not written again for tiny ones.
const LARGE_ROWS: usize = 100_000;
/// The newest versions, which stay readable.
const VERSIONS: usize = 80;
/// Those of a table that is made anew as a whole: each has files of its own for all rows.
const WHOLE_VERSIONS: usize = 12;
/// Versions beyond them that may gather, because cleaning up reads every manifest: one for so many that stay.
const SPARE: usize = 4;

impl Table {
    /// Does what has become due after a commit that made all of the table anew, or only a part. A failure is no harm: it
    /// stays due after the next commit.
    pub(super) async fn maintain(&mut self, properties: HashMap<String, String>, is_whole: bool) {
        let kept = if is_whole { WHOLE_VERSIONS } else { VERSIONS };
        let done = match self.put_together(properties).await {
            Ok(()) => self.clean_up(kept).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(table = %self.name, %error, "the table stays as it is until its next commit");
        }
    }

    async fn put_together(&mut self, properties: HashMap<String, String>) -> Result<(), Error> {
        let Some(dataset) = &mut self.dataset else { return Ok(()) };
        let due = due(dataset).await.map_err(|error| failed(&self.name, "compacted", error))?;
        let Some(options) = due else { return Ok(()) };
        let options = options.transaction_properties(properties);
        compact(&self.name, dataset, &mut self.durable, &options).await?;
        // What came since an index was made is searched row by row until then.
        if dataset.load_indices().await.is_ok_and(|indices| indices.is_empty()) {
            return Ok(());
        }
        let brought_up = dataset.optimize_indices(&OptimizeOptions::append()).await;
        brought_up.map_err(|error| failed(&self.name, "indexed", error))?;
        self.durable.sync().await
    }

    /// Removes all but the newest versions, and those that a tag or a branch is on.
    async fn clean_up(&self, kept: usize) -> Result<(), Error> {
        let Some(dataset) = &self.dataset else { return Ok(()) };
        let failed = |error| failed(&self.name, "cleaned up", error);
        let versions = dataset.version_refs().await.map_err(failed)?;
        let old = versions.get(..versions.len().saturating_sub(kept)).unwrap_or_default();
        if old.len() <= kept / SPARE {
            return Ok(());
        }
        let tags = dataset.tags().list().await.map_err(failed)?;
        let tagged: BTreeSet<_> = tags.values().map(|tag| tag.version).collect();
        if old.iter().filter(|old| !tagged.contains(&old.version)).count() <= kept / SPARE {
            return Ok(());
        }
        let policy = CleanupPolicyBuilder::default().error_if_tagged_old_versions(false);
        let policy = policy.retain_n_versions(dataset, kept).await.map_err(failed)?.build();
        dataset.cleanup_with_policy(policy).await.map_err(failed)?;
        Ok(())
    }
}

/// How a table is to be put together, if it is.
async fn due(dataset: &Dataset) -> Result<Option<CompactionOptions>, LanceError> {
    let live = dataset.count_rows(None).await?;
    let dead = dataset.count_deleted_rows().await?;
    if dataset.count_fragments() > PIECES || dead > live + DEAD_ROWS {
        return Ok(Some(CompactionOptions::default()));
    }
    let is_tiny = |piece: &&Fragment| piece.physical_rows.is_some_and(|rows| rows < TINY_ROWS);
    let tiny = dataset.fragments().iter().rev().take_while(is_tiny).count();
    Ok((tiny > TINY_PIECES).then(|| CompactionOptions {
        target_rows_per_fragment: LARGE_ROWS,
        materialize_deletions: false,
        ..CompactionOptions::default()
    }))
}

/// Writes pieces anew, as `options` say, without their dead rows.
pub(super) async fn compact(
    name: &TableName,
    dataset: &mut Dataset,
    durable: &mut Durable,
    options: &CompactionOptions,
) -> Result<(), Error> {
    let failed = |error| failed(name, "compacted", error);
    let plan = plan_compaction(dataset, options).await.map_err(failed)?;
    let versions = dataset.version_refs().await.map_err(failed)?;
    let versions: Vec<_> = versions.iter().map(|version| version.version).collect();
    let mut rewritten = Vec::new();
    for task in plan.compaction_tasks() {
        let mut pieces = task.execute(dataset).await.map_err(failed)?;
        for piece in &mut pieces.new_fragments {
            forget_versions(piece, &versions).map_err(failed)?;
        }
        rewritten.push(pieces);
    }
    durable.sync().await?;
    let indices = Arc::new(DatasetIndexRemapperOptions::default());
    commit_compaction(dataset, rewritten, indices, options).await.map_err(failed)?;
    durable.sync().await
}

/// Tells in which versions a piece's rows came and changed only as far as there are `versions` left to compare with: one
/// that is gone counts as the next that is there, which alters no answer. Otherwise each manifest would name every commit
/// that there ever was.
fn forget_versions(piece: &mut Fragment, versions: &[u64]) -> Result<(), LanceError> {
    let left = |version| versions.get(versions.partition_point(|left| *left < version)).copied();
    let told = [&mut piece.created_at_version_meta, &mut piece.last_updated_at_version_meta];
    for told in told.into_iter().flatten() {
        let known = told.load_sequence()?;
        let known: Vec<_> = known.versions().map(|version| left(version).unwrap_or(version)).collect();
        *told = RowDatasetVersionMeta::from_sequence(&RowDatasetVersionSequence::from_versions(&known))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
