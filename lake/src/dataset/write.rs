//! Writing data files for a change, before any version names them.

use std::{collections::HashSet, sync::Arc};

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
    FilterType, KeyExistenceFilter, KeyExistenceFilterBuilder, extract_key_value_from_batch,
};

use super::VERSION;
use crate::{card::Card, table::Stale};

/// Keys that are told one by one. A filter of Lance's takes as much room, and already of so many keys it has bits in
/// common with nearly every other one.
const FEW_KEYS: usize = 3_000;

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
    let keys = keys(dataset, &rows);
    let insert = InsertBuilder::new(Arc::new(dataset.clone())).with_params(&params);
    let mut transaction = insert.execute_uncommitted(rows).await?;
    guard(&mut transaction, keys);
    Ok(transaction)
}

/// Makes a transaction fail if another one like it is committed meanwhile: its rows were computed from what stood before.
pub(super) fn sole(transaction: &mut Transaction) {
    let all = FilterType::ExactSet(HashSet::from([0]));
    guard(transaction, KeyExistenceFilter { field_ids: Vec::new(), filter: all });
}

/// Makes a transaction fail if another one that tells its keys writes one of `keys` meanwhile.
fn guard(transaction: &mut Transaction, keys: KeyExistenceFilter) {
    match &mut transaction.operation {
        Operation::Append { fragments } => {
            transaction.operation = Operation::Update {
                removed_fragment_ids: Vec::new(),
                updated_fragments: Vec::new(),
                new_fragments: std::mem::take(fragments),
                fields_modified: Vec::new(),
                compacted_sstables: Vec::new(),
                fields_for_preserving_frag_bitmap: Vec::new(),
                update_mode: None,
                inserted_rows_filter: Some(keys),
                updated_fragment_offsets: None,
            };
        }
        Operation::Update { inserted_rows_filter, .. } => *inserted_rows_filter = Some(keys),
        _ => {}
    }
}

/// Few keys by their digests; of many only that they may be anybody's, as a filter of Lance's would come to.
fn keys(dataset: &Dataset, rows: &[RecordBatch]) -> KeyExistenceFilter {
    let fields = dataset.schema().unenforced_primary_key();
    let field_ids = fields.iter().map(|field| field.id).collect();
    if rows.iter().map(RecordBatch::num_rows).sum::<usize>() > FEW_KEYS {
        let mut any = KeyExistenceFilterBuilder::new(field_ids).build();
        if let FilterType::Bloom { bitmap, .. } = &mut any.filter {
            bitmap.fill(u8::MAX);
        }
        return any;
    }
    let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
    let of_batch = |batch: &RecordBatch| {
        let keys = (0..batch.num_rows()).filter_map(|row| extract_key_value_from_batch(batch, row, &names));
        keys.map(|key| key.hash_value()).collect::<Vec<_>>()
    };
    let filter = FilterType::ExactSet(rows.iter().flat_map(of_batch).collect());
    KeyExistenceFilter { field_ids, filter }
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
    let keys = keys(dataset, &rows);
    let mut merged = merge.try_build()?.execute_uncommitted_batches(rows).await?;
    let changes_nothing = matches!(
        &merged.transaction.operation,
        Operation::Update { removed_fragment_ids, updated_fragments, new_fragments, .. }
            if removed_fragment_ids.is_empty() && updated_fragments.is_empty() && new_fragments.is_empty()
    );
    guard(&mut merged.transaction, keys);
    Ok((!changes_nothing).then_some(merged.transaction))
}

pub(super) fn filter(stale: &Stale) -> Option<String> {
    let values: Vec<_> = stale.values.iter().map(|value| quoted(value)).collect();
    (!values.is_empty()).then(|| format!("{} IN ({})", stale.column, values.join(", ")))
}

pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
