//! What the lake holds, read back from disk: to compare with the sources, and one run with another.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::sum,
    datatypes::{DataType, Int64Type},
};
use futures::TryStreamExt;
use serde::Serialize;

use crate::{Error, Root, TableName, columns::is_volatile, dataset::Store, digest::Digest, table};

/// How large one table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableExtent {
    /// The table's layer.
    pub layer: String,
    /// The table's name in it.
    pub table: String,
    /// Its newest version.
    pub version: u64,
    /// The rows of that version.
    pub rows: u64,
    /// Why it cannot be read, if it cannot: but for its name nothing is known of it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Asks every table of the lake in `root` for its size, which its manifest tells.
pub async fn extents(root: impl Into<Root>) -> Result<Vec<TableExtent>, Error> {
    let store = Store::existing(&root.into());
    let mut extents = Vec::new();
    for name in store.names().await? {
        let (version, rows, error) = match events::caught(store.extent(&name)).await {
            Ok(Some((version, rows))) => (version, rows, None),
            Ok(None) => continue,
            Err(error) => (0, 0, Some(error.of(&name).to_string())),
        };
        extents.push(TableExtent {
            layer: name.layer().as_str().to_owned(),
            table: name.as_str().to_owned(),
            version,
            rows,
            error,
        });
    }
    Ok(extents)
}

/// What one table holds; of a bitemporal one, what stands. How often a record was superseded on the way there depends on
/// how records came in, and on which of them came at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// The table's layer.
    pub layer: String,
    /// The table's name in it.
    pub table: String,
    /// Its rows that stand.
    pub rows: u64,
    /// A digest of the rows that does not depend on their order, nor on generated ids and recorded times: equal for two
    /// runs over the same sources.
    pub digest: String,
    /// By path, such as `total_minor`, `is_current`, `lines` and `lines.quantity`: the sum of every column of whole
    /// numbers, how often a column of truth values is true, and the number of items in every column of lists.
    pub sums: BTreeMap<String, i64>,
}

/// Reads back every table of the lake in `root`.
pub async fn summary(root: impl Into<Root>) -> Result<Vec<TableSummary>, Error> {
    summarise(root.into(), |_| true).await
}

/// Reads back the tables that are made of events, in which two deployments with the same sources agree. Computed tables
/// also tell of generated ids and of when they were computed.
pub async fn exported(root: impl Into<Root>) -> Result<Vec<TableSummary>, Error> {
    summarise(root.into(), |name| table::ALL.iter().any(|table| table.owns(name))).await
}

async fn summarise(root: Root, wanted: impl Fn(&TableName) -> bool) -> Result<Vec<TableSummary>, Error> {
    let store = Store::existing(&root);
    let mut summaries = Vec::new();
    for name in store.names().await?.into_iter().filter(wanted) {
        let Some(batches) = store.scan(&name, |field| !is_volatile(field)).await? else { continue };
        let mut batches = std::pin::pin!(batches);
        let mut total = Total::default();
        while let Some(batch) = batches.try_next().await? {
            total = tokio::task::spawn_blocking(move || total.add(&batch)).await??;
        }
        summaries.push(TableSummary {
            layer: name.layer().as_str().to_owned(),
            table: name.as_str().to_owned(),
            rows: total.digest.rows,
            digest: total.digest.hex(),
            sums: total.sums,
        });
    }
    Ok(summaries)
}

#[derive(Default)]
struct Total {
    digest: Digest,
    sums: BTreeMap<String, i64>,
}

impl Total {
    fn add(mut self, batch: &RecordBatch) -> Result<Self, Error> {
        self.digest.add(batch)?;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            self.sum(field.name(), column);
        }
        Ok(self)
    }

    fn sum(&mut self, path: &str, column: &dyn Array) {
        match column.data_type() {
            DataType::Int64 => self.count(path, sum(column.as_primitive::<Int64Type>()).unwrap_or(0)),
            DataType::Boolean => self.count(path, column.as_boolean().true_count() as i64),
            DataType::Struct(fields) => {
                for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                    self.sum(&format!("{path}.{}", field.name()), column);
                }
            }
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                let offsets = lists.value_offsets();
                let (first, last) =
                    (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
                self.count(path, i64::from(last - first));
                self.sum(path, &lists.values().slice(first as usize, (last - first) as usize));
            }
            _ => {}
        }
    }

    fn count(&mut self, path: &str, count: i64) {
        // Versions that are times add up to more than 64 bits hold: a sum that wraps around still tells tables apart.
        let sum = self.sums.entry(path.to_owned()).or_default();
        *sum = sum.wrapping_add(count);
    }
}
