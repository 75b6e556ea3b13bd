//! Tables as Parquet, for tools that do not read Lance: each version in a directory of its own.
//!
//! A directory is complete once it has its [`SUCCESS`], which is written last and names the parts. What a version holds
//! never changes, so writing it again writes the same parts under the same names.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use jiff::Timestamp;
use lance::dataset::Dataset;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, TableName, Version,
    dataset::{Store, Turn, failed},
    digest,
};

const SUCCESS: &str = "_SUCCESS.json";
/// A part is held in memory while it is written.
const PART_BYTES: usize = 64 * 1024 * 1024;
const GROUP_BYTES: usize = 32 * 1024 * 1024;

/// A version of a table as Parquet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The table, as `<layer>/<table>`.
    pub table: String,
    /// Where its directory is.
    pub uri: String,
    /// Which version it is.
    pub version: u64,
    /// The tag that it was asked for by.
    pub tag: Option<String>,
    /// When the version was committed.
    pub committed_at: Timestamp,
    /// Its rows.
    pub rows: u64,
    /// Digest of its columns.
    pub schema: String,
    /// Its files, in the order of the rows.
    pub parts: Vec<String>,
}

/// Writes a version of a table below `parquet/` in `out`, unless it is there.
pub(crate) async fn mirror(
    store: &Store,
    out: &Store,
    name: &TableName,
    version: &Version,
) -> Result<Mirror, Error> {
    let missing = || Error::NotFound { what: format!("table {name} at {version}") };
    store.at(name, version).await?.ok_or_else(missing)?;
    // An erasure waits until all that was read is in its place, where it is looked for.
    let turn = store.turn().await?;
    let dataset = store.at(name, version).await?.ok_or_else(missing)?;
    let found = dataset.version();
    let directory = format!("parquet/{name}/v={}", found.version);
    let mut mirror = Mirror {
        table: name.to_string(),
        uri: format!("{}/{directory}", out.uri()),
        version: found.version,
        tag: match version {
            Version::Tag(tag) => Some(tag.clone()),
            _ => None,
        },
        committed_at: Timestamp::from_microsecond(found.timestamp.timestamp_micros()).unwrap_or_default(),
        rows: 0,
        schema: digest::schema(&Schema::from(dataset.schema())),
        parts: Vec::new(),
    };
    match standing(out, &directory).await? {
        // A table that was made anew counts its versions from the start.
        Some(known) if known.committed_at == mirror.committed_at && known.schema == mirror.schema => {
            if (&known.tag, &known.uri) == (&mirror.tag, &mirror.uri) {
                return Ok(known);
            }
            (mirror.rows, mirror.parts) = (known.rows, known.parts);
        }
        _ => write(&turn, &dataset, name, out, &directory, &mut mirror).await?,
    }
    turn.still(name).await?;
    let text = serde_json::to_vec_pretty(&mirror).unwrap_or_default();
    out.write_file(&format!("{directory}/{SUCCESS}"), text).await?;
    Ok(mirror)
}

/// What a complete directory says of itself.
async fn standing(out: &Store, directory: &str) -> Result<Option<Mirror>, Error> {
    if !out.files(directory).await?.iter().any(|file| file == SUCCESS) {
        return Ok(None);
    }
    let text = out.read_file(&format!("{directory}/{SUCCESS}")).await?;
    Ok(serde_json::from_slice(&text).ok())
}

async fn write(
    turn: &Turn<'_>,
    dataset: &Dataset,
    name: &TableName,
    out: &Store,
    directory: &str,
    mirror: &mut Mirror,
) -> Result<(), Error> {
    let failed = |error| failed(name, "read", error);
    let schema = Arc::new(Schema::from(dataset.schema()));
    let mut batches = dataset.scan().try_into_stream().await.map_err(failed)?;
    let mut batch = batches.try_next().await.map_err(failed)?;
    // A table without rows has columns, and so a part.
    while batch.is_some() || mirror.parts.is_empty() {
        let mut part = begin(&schema)?;
        while let Some(rows) = &batch
            && part.bytes_written() + part.in_progress_size() < PART_BYTES
        {
            part.write(rows)?;
            mirror.rows += rows.num_rows() as u64;
            batch = batches.try_next().await.map_err(failed)?;
        }
        let file = format!("part-{:05}.parquet", mirror.parts.len());
        turn.still(name).await?;
        out.write_file(&format!("{directory}/{file}"), part.into_inner()?).await?;
        mirror.parts.push(file);
    }
    Ok(())
}

fn begin(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(GROUP_BYTES));
    ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties.build()))
}
