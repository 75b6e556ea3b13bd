//! Writing data files for a change, before any version names them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use lance::{
    Error as LanceError,
    dataset::{
        Dataset, InsertBuilder, MergeInsertBuilder, WhenMatched, WhenNotMatched, WhenNotMatchedBySource,
        WriteMode, WriteParams,
        transaction::{Operation, Transaction},
    },
};
use lance_table::format::key_existence::{
    KeyExistenceFilter, KeyExistenceFilterBuilder, extract_key_value_from_batch,
};

use super::VERSION;
use crate::{card::Card, table::Stale};

/// Rows of a new table, with what is said about its columns.
pub(super) fn dressed(rows: Vec<RecordBatch>, card: &Card) -> Result<Vec<RecordBatch>, LanceError> {
    let dress = |rows: RecordBatch| {
        let schema = Arc::new(card.dress(rows.schema_ref()));
        RecordBatch::try_new(schema, rows.columns().to_vec()).map_err(LanceError::from)
    };
    rows.into_iter().map(dress).collect()
}

/// New rows, written as an update whose keys Lance compares with those of other writers: of two exporters that append
/// the same events at once, one is told of the conflict and finds them there.
pub(super) async fn append(dataset: &Dataset, rows: Vec<RecordBatch>) -> Result<Transaction, LanceError> {
    let params = WriteParams {
        mode: WriteMode::Append,
        data_storage_version: Some(VERSION),
        ..WriteParams::default()
    };
    let keys = keys(dataset, &rows)?;
    let insert = InsertBuilder::new(Arc::new(dataset.clone()));
    let mut transaction = insert.with_params(&params).execute_uncommitted(rows).await?;
    if let Operation::Append { fragments } = transaction.operation {
        transaction.operation = Operation::Update {
            removed_fragment_ids: Vec::new(),
            updated_fragments: Vec::new(),
            new_fragments: fragments,
            fields_modified: Vec::new(),
            compacted_sstables: Vec::new(),
            fields_for_preserving_frag_bitmap: Vec::new(),
            update_mode: None,
            inserted_rows_filter: Some(keys),
            updated_fragment_offsets: None,
        };
    }
    Ok(transaction)
}

fn keys(dataset: &Dataset, rows: &[RecordBatch]) -> Result<KeyExistenceFilter, LanceError> {
    let fields = dataset.schema().unenforced_primary_key();
    let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
    let mut keys = KeyExistenceFilterBuilder::new(fields.iter().map(|field| field.id).collect());
    for batch in rows {
        for row in 0..batch.num_rows() {
            if let Some(key) = extract_key_value_from_batch(batch, row, &names) {
                keys.insert(key)?;
            }
        }
    }
    Ok(keys.build())
}

/// One merge writes, replaces and deletes, so that no reader sees a half of it. Rows that `stale` is true of are deleted
/// unless they come again.
pub(super) async fn merge(
    dataset: &Dataset,
    rows: Vec<RecordBatch>,
    matched: WhenMatched,
    stale: Option<String>,
) -> Result<Option<Transaction>, LanceError> {
    let mut merge = MergeInsertBuilder::try_new(Arc::new(dataset.clone()), Vec::new())?;
    merge.when_matched(matched).when_not_matched(WhenNotMatched::InsertAll);
    if let Some(stale) = stale {
        merge.when_not_matched_by_source(WhenNotMatchedBySource::delete_if(dataset, &stale)?);
    }
    let merged = merge.try_build()?.execute_uncommitted_batches(rows).await?;
    let changes_nothing = matches!(
        &merged.transaction.operation,
        Operation::Update { removed_fragment_ids, updated_fragments, new_fragments, .. }
            if removed_fragment_ids.is_empty() && updated_fragments.is_empty() && new_fragments.is_empty()
    );
    Ok((!changes_nothing).then_some(merged.transaction))
}

pub(super) fn filter(stale: &Stale) -> Option<String> {
    let values: Vec<_> = stale.values.iter().map(|value| quoted(value)).collect();
    (!values.is_empty()).then(|| format!("{} IN ({})", stale.column, values.join(", ")))
}

pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
