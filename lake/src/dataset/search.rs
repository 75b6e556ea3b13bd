//! Looks for keys in files, whoever wrote them: what Lance and Parquet wrote is decoded, as values are compressed there;
//! all else is read as it is.

use std::{collections::BTreeSet, sync::Arc};

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use lance::{Error as LanceError, cache::LanceCache};
use lance_index::scalar::{
    IndexStore,
    inverted::{TOKEN_FST_BYTES_COL, TokenSet, TokenSetFormat},
    lance_format::LanceIndexStore,
};
use lance_io::object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Store, files::below};
use crate::{
    Error,
    deny::{Denied, speaks_for_itself},
};

/// Rows that are decoded at once.
const ROWS: u64 = 4_096;

/// What was found below a directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files that hold a key, or cannot be read.
    pub(crate) files: BTreeSet<Path>,
    /// How many files were looked into.
    pub(crate) searched: u64,
}

impl Store {
    /// Looks into every file below a directory of the lake for what is denied, and for those of `keys` as they are
    /// that cannot be anything else.
    pub(crate) async fn search(
        &self,
        directory: &str,
        denied: &Arc<Denied>,
        keys: &BTreeSet<String>,
    ) -> Result<Found, Error> {
        let (objects, root) = self.objects().await?;
        let mut files = objects.list(Some(below(root, directory)));
        let mut found = Found::default();
        while let Some(file) = files.next().await {
            let file = match file {
                Ok(file) => file,
                Err(LanceError::NotFound { .. }) => break,
                Err(error) => return Err(self.unusable(directory, error)),
            };
            found.searched += 1;
            let holds = holds(objects, &file.location, file.size, denied, keys).await;
            let holds = holds.unwrap_or_else(|error| {
                tracing::warn!(file = %file.location, %error, "a file cannot be read; it may hold anything");
                true
            });
            if holds {
                found.files.insert(file.location);
            }
        }
        Ok(found)
    }

    /// All files that are in the same directories as `files`, which are below `directory`.
    pub(crate) async fn beside(
        &self,
        directory: &str,
        files: &BTreeSet<Path>,
    ) -> Result<BTreeSet<Path>, Error> {
        let (objects, root) = self.objects().await?;
        let directories: BTreeSet<_> = files.iter().map(parent).collect();
        let all = objects.list(Some(below(root, directory))).map_ok(|file| file.location);
        let is_beside = |path: &Path| std::future::ready(directories.contains(&parent(path)));
        match files.is_empty() {
            true => Ok(BTreeSet::new()),
            false => {
                all.try_filter(is_beside).try_collect().await.map_err(|error| self.unusable(directory, error))
            }
        }
    }

    /// Removes files of the lake.
    pub(crate) async fn remove(&self, files: &BTreeSet<Path>) -> Result<(), Error> {
        let (objects, _) = self.objects().await?;
        for file in files {
            match objects.delete(file).await {
                Ok(()) | Err(LanceError::NotFound { .. }) => {}
                Err(error) => return Err(self.unusable("", error)),
            }
        }
        Ok(())
    }
}

async fn holds(
    objects: &Arc<ObjectStore>,
    path: &Path,
    size: u64,
    denied: &Arc<Denied>,
    keys: &BTreeSet<String>,
) -> Result<bool, LanceError> {
    let mut batches = match path.extension() {
        _ if size == 0 => return Ok(false),
        Some("lance" | "idx") => lance(objects, path).await?,
        Some("parquet") => parquet(objects, path).await?,
        _ => {
            let bytes = objects.read_one_all(path).await?;
            let text = String::from_utf8_lossy(&bytes);
            let mut telling = keys.iter().filter(|key| speaks_for_itself(key));
            return Ok(telling.any(|key| text.contains(key)) || text.lines().any(|line| denied.holds(line)));
        }
    };
    while let Some(batch) = batches.try_next().await? {
        let denied = Arc::clone(denied);
        let rows = tokio::task::spawn_blocking(move || denied.rows(&batch)).await;
        if rows.map_err(|error| LanceError::wrapped(error.into()))??.true_count() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

type Batches = BoxStream<'static, Result<RecordBatch, LanceError>>;

/// A file of a table or of an index: both are of one format.
async fn lance(objects: &Arc<ObjectStore>, path: &Path) -> Result<Batches, LanceError> {
    let cache = Arc::new(LanceCache::no_cache());
    let files = LanceIndexStore::new(Arc::clone(objects), parent(path), cache);
    let reader = files.open_index_file(path.filename().unwrap_or_default()).await?;
    if reader.schema().field(TOKEN_FST_BYTES_COL).is_some() {
        // The tokens of a text index are the paths of an automaton.
        let tokens = TokenSet::load(reader, TokenSetFormat::Fst).await?.to_batch(TokenSetFormat::Arrow);
        return Ok(stream::once(async move { tokens }).boxed());
    }
    Ok(reader.read_record_batch_stream(ROWS, 1).await?.boxed())
}

async fn parquet(objects: &Arc<ObjectStore>, path: &Path) -> Result<Batches, LanceError> {
    let bytes = objects.read_one_all(path).await?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|reader| reader.build());
    let batches = reader.map_err(|error| LanceError::wrapped(error.into()))?;
    Ok(stream::iter(batches).map_err(LanceError::from).boxed())
}

fn parent(path: &Path) -> Path {
    path.parts().take(path.parts_count().saturating_sub(1)).collect()
}
