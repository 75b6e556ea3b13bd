//! What has changed between two versions of a table, and replacing what was made of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Schema, UInt64Type},
    error::ArrowError,
    row::{RowConverter, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use lance::{
    Error as LanceError,
    dataset::{Dataset, ProjectionRequest, WhenMatched, transaction::Operation},
};

use super::{
    Published, Table, Turn, failed, merge,
    publish::{Check, bytes, conform},
    quoted,
    write::sole,
};
use crate::{
    Error, TableName,
    card::Card,
    digest::{self, Digest},
};

/// Values whose rows are replaced at once: of more, everything is computed anew with less effort.
const VALUES: usize = 10_000;
const ROW_ID: &str = "_rowid";

/// The values of a column in rows that came, changed or went between two versions of a table, as they were and as they
/// are. None if the change feed does not tell, or if there are too many.
pub(crate) async fn changed_values(
    name: &TableName,
    old: &Dataset,
    new: &Dataset,
    column: &str,
) -> Result<Option<RecordBatch>, Error> {
    let unreadable = |error| failed(name, "read", error);
    if !is_followed(old, new).await.map_err(unreadable)? {
        return Ok(None);
    }
    let schema = Schema::from(new.schema());
    let schema = Arc::new(schema.project(&[schema.index_of(column)?])?);
    let mut values = Values::new(&schema)?;
    let mut rows = Vec::new();
    let delta = new.delta().compared_against_version(old.version().version).build().map_err(unreadable)?;
    let mut upserted = delta.get_upserted_rows().await.map_err(unreadable)?;
    while let Some(batch) = upserted.try_next().await.map_err(unreadable)? {
        values.add(&batch, column)?;
        rows.extend(ids(&batch));
        if values.seen.len() > VALUES {
            return Ok(None);
        }
    }
    let mut deleted = delta.get_deleted_row_ids().await.map_err(unreadable)?;
    while let Some(batch) = deleted.try_next().await.map_err(unreadable)? {
        rows.extend(ids(&batch));
    }
    // Rows that are new were not there: they are passed over.
    let projection = ProjectionRequest::from_columns([column], old.schema());
    values.add(&old.take_rows(&rows, projection).await.map_err(unreadable)?, column)?;
    values.batch(&schema)
}

/// Whether rows keep their ids from one version to the other, so that a feed tells what changed.
async fn is_followed(old: &Dataset, new: &Dataset) -> Result<bool, LanceError> {
    let (from, to) = (old.version().version, new.version().version);
    if from > to || !old.manifest().uses_stable_row_ids() || !new.manifest().uses_stable_row_ids() {
        return Ok(false);
    }
    for version in from + 1..=to {
        let transaction = match new.read_transaction_by_version(version).await {
            Ok(transaction) => transaction,
            Err(
                LanceError::NotFound { .. }
                | LanceError::DatasetNotFound { .. }
                | LanceError::VersionNotFound { .. },
            ) => None,
            Err(error) => return Err(error),
        };
        let keeps_ids = transaction.is_some_and(|transaction| {
            matches!(
                transaction.operation,
                Operation::Append { .. }
                    | Operation::Update { .. }
                    | Operation::Delete { .. }
                    | Operation::Rewrite { .. }
                    | Operation::ReserveFragments { .. }
                    | Operation::CreateIndex { .. }
                    | Operation::UpdateConfig { .. }
            )
        });
        if !keeps_ids {
            return Ok(false);
        }
    }
    Ok(true)
}

fn ids(batch: &RecordBatch) -> Vec<u64> {
    let ids = batch.column_by_name(ROW_ID).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    ids.map(|ids| ids.values().to_vec()).unwrap_or_default()
}

/// Different values of a column.
struct Values {
    converter: RowConverter,
    seen: BTreeSet<Vec<u8>>,
    lacks_some: bool,
}

impl Values {
    fn new(schema: &Schema) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self { converter: RowConverter::new(fields.collect())?, seen: BTreeSet::new(), lacks_some: false })
    }

    fn add(&mut self, batch: &RecordBatch, column: &str) -> Result<(), ArrowError> {
        let column = Arc::clone(batch.column(batch.schema_ref().index_of(column)?));
        self.lacks_some |= column.null_count() > 0;
        let rows = self.converter.convert_columns(&[column])?;
        self.seen.extend(rows.iter().map(|row| row.as_ref().to_vec()));
        Ok(())
    }

    /// All of them, unless there are too many, or a row has none that it could be found by.
    fn batch(&self, schema: &Arc<Schema>) -> Result<Option<RecordBatch>, Error> {
        if self.lacks_some || self.seen.len() > VALUES {
            return Ok(None);
        }
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(self.seen.iter().map(|row| parser.parse(row)))?;
        Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
    }
}

impl Table {
    /// Makes `rows` all that the table holds of the `values` of a column of its key; everything else stays. `standing`
    /// is what stands until then. None, and nothing has happened, if the rows' columns are not the table's.
    pub(crate) async fn replace_part(
        &mut self,
        turn: &Turn<'_>,
        mut rows: SendableRecordBatchStream,
        values: &RecordBatch,
        card: &Card,
        properties: HashMap<String, String>,
        standing: Published,
    ) -> Result<Option<Published>, Error> {
        if values.num_rows() == 0 {
            return Ok(Some(Published { is_new: false, ..standing }));
        }
        let name = self.name.clone();
        let denied = turn.denied(self)?;
        let (Some(dataset), Some(known)) = (self.dataset.as_ref(), standing.digest()) else {
            return Ok(None);
        };
        let schema = Arc::new(card.dress(&rows.schema()));
        let Some(part) = filter(values)?.filter(|_| digest::schema(&schema) == standing.schema) else {
            return Ok(None);
        };
        let mut check = Check::new(&name.to_string(), &schema, card)?;
        let mut fresh = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            let (batch, _) = denied.without(conform(&batch, &schema)?)?;
            check.add(&batch)?;
            fresh.push(batch);
        }
        // The part is told by the key: no row of it can repeat a key of another part.
        let fresh_digest = check.outcome()?;
        let stale_digest = digest_of(dataset, &part).await.map_err(|error| failed(&name, "read", error))?;
        if fresh_digest == stale_digest {
            return Ok(Some(Published { is_new: false, ..standing }));
        }
        if fresh.is_empty() {
            fresh.push(RecordBatch::new_empty(Arc::clone(&schema)));
        }
        let written = merge(dataset, fresh, WhenMatched::UpdateAll, Some(part)).await;
        let Some(mut transaction) = written.map_err(|error| failed(&name, "written", error))? else {
            return Ok(None);
        };
        sole(&mut transaction);
        let bytes = bytes(&transaction);
        self.settle(turn, transaction, card, properties).await?;
        let version = self.dataset.as_ref().map_or(0, |dataset| dataset.version().version);
        let digest = known.replaced(stale_digest, fresh_digest);
        let (rows, content) = (digest.rows, digest.hex());
        Ok(Some(Published { version, rows, bytes, content, is_new: true, ..standing }))
    }
}

/// The digest of a version's rows that `filter` is true of.
async fn digest_of(dataset: &Dataset, filter: &str) -> Result<Digest, LanceError> {
    let mut digest = Digest::default();
    let mut scan = dataset.scan();
    scan.filter(filter)?;
    let mut batches = scan.try_into_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        digest.add(&batch)?;
    }
    Ok(digest)
}

/// What is true of the rows with these values; None if that cannot be written down.
fn filter(values: &RecordBatch) -> Result<Option<String>, ArrowError> {
    let (schema, column) = (values.schema(), values.column(0));
    let literal: fn(String) -> String = match column.data_type() {
        DataType::Utf8 => |text| quoted(&text),
        DataType::Int64 => |number| number,
        DataType::Date32 => |date| format!("date '{date}'"),
        _ => return Ok(None),
    };
    let format = FormatOptions::default();
    let texts = ArrayFormatter::try_new(column, &format)?;
    let values: Vec<_> = (0..column.len())
        .map(|row| Ok(literal(texts.value(row).try_to_string()?)))
        .collect::<Result<_, ArrowError>>()?;
    Ok(Some(format!("{} IN ({})", schema.field(0).name(), values.join(", "))))
}
