//! Source records that are one row's alone: a row whose records have gone over to others is gone, whoever tells of it
//! again. So nothing is to be remembered of such rows.

use std::collections::{HashMap, HashSet};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Int64Type},
    error::ArrowError,
};
use futures::TryStreamExt;
use lance::{Error as LanceError, dataset::Dataset};

use crate::{columns::is_exclusive, table::Change};

/// A row, by its key, its age and the source records that it has.
struct Claim<'b> {
    key: &'b str,
    at: Option<i64>,
    records: Vec<(&'b str, &'b str)>,
}

/// An upsert without those of its rows that are older than another row with the same source record, and with those of
/// the standing ones to delete.
pub(super) async fn settled(dataset: Option<&Dataset>, change: Change) -> Result<Change, LanceError> {
    let Change::Upsert { rows, mut stale, newer: Some(newer) } = change else { return Ok(change) };
    let schema = rows.schema();
    let Some(exclusive) = schema.fields().iter().find(|field| is_exclusive(field)) else {
        return Ok(Change::Upsert { rows, stale, newer: Some(newer) });
    };
    let columns = [stale.column, newer, exclusive.name().as_str()];
    let coming = claims(&rows, columns)?;
    let told: HashSet<_> = coming.iter().flat_map(|claim| claim.records.iter().copied()).collect();
    let sharing = match dataset {
        Some(dataset) => sharing(dataset, &told, columns).await?,
        None => Vec::new(),
    };
    let mut standing = Vec::new();
    for batch in &sharing {
        standing.extend(claims(batch, columns)?);
    }
    let mut newest = HashMap::new();
    for Claim { at, records, .. } in standing.iter().chain(&coming) {
        for record in records {
            let known = newest.entry(record).or_insert(at);
            *known = at.max(*known);
        }
    }
    let is_outdated = |claim: &&Claim<'_>| claim.records.iter().any(|record| *newest[record] > claim.at);
    let outdated = standing.iter().filter(is_outdated);
    stale.values.extend(outdated.map(|claim| claim.key.to_owned()));
    let stands = coming.iter().map(|claim| Some(!is_outdated(&claim))).collect();
    let rows = filter_record_batch(&rows, &stands)?;
    Ok(Change::Upsert { rows, stale, newer: Some(newer) })
}

/// The standing rows that have any of `records`.
async fn sharing(
    dataset: &Dataset,
    records: &HashSet<(&str, &str)>,
    columns: [&str; 3],
) -> Result<Vec<RecordBatch>, LanceError> {
    let mut scan = dataset.scan();
    let mut batches = scan.project(&columns)?.try_into_stream().await?;
    let mut sharing = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let shares = |claim: Claim<'_>| Some(claim.records.iter().any(|record| records.contains(record)));
        let shares: BooleanArray = claims(&batch, columns)?.into_iter().map(shares).collect();
        if shares.true_count() > 0 {
            sharing.push(filter_record_batch(&batch, &shares)?);
        }
    }
    Ok(sharing)
}

fn claims<'b>(rows: &'b RecordBatch, [key, time, list]: [&str; 3]) -> Result<Vec<Claim<'b>>, ArrowError> {
    let column = |name: &str| Ok::<_, ArrowError>(rows.column(rows.schema_ref().index_of(name)?));
    let keys = column(key)?.as_string::<i32>();
    let times = cast(column(time)?, &DataType::Int64)?;
    let times = times.as_primitive::<Int64Type>();
    let lists = column(list)?.as_list::<i32>();
    let items = lists.values().as_struct();
    let part = |name: &str| {
        let part = items.column_by_name(name).map(|part| part.as_string::<i32>());
        part.ok_or_else(|| ArrowError::SchemaError(format!("records in {list} have no {name}")))
    };
    let (systems, ids) = (part("system")?, part("id")?);
    let offsets = lists.value_offsets();
    let claim = |row: usize| {
        let items = offsets[row] as usize..offsets[row + 1] as usize;
        Claim {
            key: keys.value(row),
            at: times.is_valid(row).then(|| times.value(row)),
            records: items.map(|item| (systems.value(item), ids.value(item))).collect(),
        }
    };
    Ok((0..rows.num_rows()).map(claim).collect())
}
