//! Rows of the views' tables: made into batches, and read back as far as a question needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    compute::{concat_batches, filter_record_batch},
    datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use datafusion::{
    common::{HashMap, ScalarValue, TableReference},
    execution::runtime_env::RuntimeEnv,
    prelude::{DataFrame, Expr, col, in_list, lit},
};
use futures::TryStreamExt;
use lance::dataset::Dataset;

use super::{
    asof::Timelines,
    timeline::Row,
    view::{EVENT_TIME, KNOWN_AT, Unit, View},
};
use crate::{Error, Layer, TableName, sql::Snapshot};

/// Columns before the features.
pub(super) const KEYS: usize = 3;
/// Entities that are looked for one by one; more of them, and the table is read whole.
const SOUGHT: usize = 1_000;

/// Rows on their way into a batch.
pub(super) struct Batch {
    view: &'static View,
    schema: SchemaRef,
    entities: Vec<String>,
    event_times: Vec<i64>,
    known_at: Vec<i64>,
    values: Vec<Vec<Option<i64>>>,
}

impl Batch {
    pub(super) fn new(view: &'static View) -> Self {
        let values = vec![Vec::new(); view.features.len()];
        let schema = view.schema();
        Self { view, schema, entities: Vec::new(), event_times: Vec::new(), known_at: Vec::new(), values }
    }

    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    pub(super) fn add(&mut self, entity: &str, row: Row) {
        self.entities.push(entity.to_owned());
        self.event_times.push(row.event_time);
        self.known_at.push(row.known_at);
        for (column, value) in self.values.iter_mut().zip(row.values) {
            column.push(value);
        }
    }

    /// Everything added so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let empty = Self::new(self.view);
        let rows = std::mem::replace(self, empty);
        let time = |times: TimestampMicrosecondArray| -> ArrayRef { Arc::new(times.with_timezone("UTC")) };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.entities)),
            time(rows.event_times.into()),
            time(rows.known_at.into()),
        ];
        for (feature, values) in self.view.features.iter().zip(rows.values) {
            let values = Int64Array::from(values);
            columns.push(match feature.unit {
                Unit::Time => time(values.reinterpret_cast::<TimestampMicrosecondType>()),
                _ => Arc::new(values),
            });
        }
        RecordBatch::try_new(rows.schema, columns)
    }
}

/// A feature's value in a row of a table.
pub(super) fn value(column: &dyn Array, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    let integer = column.as_primitive_opt::<Int64Type>().map(|values| values.value(row));
    integer.or_else(|| Some(column.as_primitive_opt::<TimestampMicrosecondType>()?.value(row)))
}

/// An entity's values by event time, as they were known last.
pub(super) fn standing(rows: &Timelines, entity: &str) -> BTreeMap<i64, Vec<Option<i64>>> {
    let features = &rows.table().columns()[KEYS..];
    let values = |row| features.iter().map(|column| value(column, row)).collect();
    rows.events(entity).map(|(time, row)| (time, values(row))).collect()
}

/// The rows that may be current at `from` or later, and the latest time that any of them became known.
pub(super) async fn current(
    view: &'static View,
    dataset: &Arc<Dataset>,
    runtime: &Arc<RuntimeEnv>,
    from: i64,
) -> Result<(Timelines, i64), Error> {
    let frame = table(view, dataset, runtime).await?;
    let frame = frame.filter(col(EVENT_TIME).gt(time(from.saturating_sub(view.ttl))))?;
    // Of what was visible before, only an entity's last row can still be current.
    let mut last: HashMap<String, (i64, i64)> = HashMap::new();
    let mut newest = i64::MIN;
    let mut keys =
        frame.clone().select_columns(&[view.entity, EVENT_TIME, KNOWN_AT])?.execute_stream().await?;
    while let Some(batch) = keys.try_next().await? {
        for_each_key(&batch, |entity, at, known| {
            newest = newest.max(known);
            if at.max(known) <= from {
                let last = last.entry_ref(entity).or_insert((at, known));
                *last = (*last).max((at, known));
            }
        })?;
    }
    let schema = view.schema();
    let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut rows = frame.select_columns(&columns)?.execute_stream().await?;
    let mut kept = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        let mut wanted = Vec::with_capacity(batch.num_rows());
        for_each_key(&batch, |entity, at, known| {
            wanted.push(at.max(known) > from || last.get(entity) == Some(&(at, known)));
        })?;
        kept.push(filter_record_batch(&batch, &BooleanArray::from(wanted))?);
    }
    Ok((Timelines::new(concat_batches(&rows.schema(), &kept)?)?, newest))
}

/// The rows of some features that may have been current for `entities` at `times`.
pub(super) async fn past(
    view: &'static View,
    features: &[usize],
    dataset: &Arc<Dataset>,
    runtime: &Arc<RuntimeEnv>,
    (entities, times): (&StringArray, &TimestampMicrosecondArray),
) -> Result<Timelines, Error> {
    let (first, last) = times
        .values()
        .iter()
        .fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(*time), last.max(*time)));
    let mut wanted = col(EVENT_TIME).gt(time(first.saturating_sub(view.ttl)));
    wanted = wanted.and(col(EVENT_TIME).lt_eq(time(last))).and(col(KNOWN_AT).lt_eq(time(last)));
    let distinct: BTreeSet<_> = entities.iter().flatten().collect();
    if distinct.len() <= SOUGHT {
        let sought = distinct.into_iter().map(lit).collect();
        wanted = wanted.and(in_list(col(view.entity), sought, false));
    }
    let names =
        features.iter().filter_map(|feature| view.features.get(*feature)).map(|feature| &*feature.name);
    let columns: Vec<_> = [view.entity, EVENT_TIME, KNOWN_AT].into_iter().chain(names).collect();
    let frame = table(view, dataset, runtime).await?.filter(wanted)?.select_columns(&columns)?;
    let rows = frame.execute_stream().await?;
    let schema = rows.schema();
    let rows: Vec<_> = rows.try_collect().await?;
    Ok(Timelines::new(concat_batches(&schema, &rows)?)?)
}

async fn table(
    view: &'static View,
    dataset: &Arc<Dataset>,
    runtime: &Arc<RuntimeEnv>,
) -> Result<DataFrame, Error> {
    let mut snapshot = Snapshot::default();
    snapshot.share(TableName::new(Layer::Features, view.name)?, dataset);
    let name = TableReference::partial(Layer::Features.as_str(), view.name);
    Ok(snapshot.context(runtime)?.table(name).await?)
}

fn time(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

fn for_each_key(batch: &RecordBatch, mut told: impl FnMut(&str, i64, i64)) -> Result<(), ArrowError> {
    let (entities, times, known) = super::asof::keys(batch)?;
    for ((entity, time), known) in entities.iter().zip(times.values()).zip(known.values()) {
        told(entity.unwrap_or_default(), *time, *known);
    }
    Ok(())
}
