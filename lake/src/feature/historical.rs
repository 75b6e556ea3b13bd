//! Features as they were known at the times of a table's rows: the spine of a training set.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
    error::ArrowError,
};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{Stream, stream};
use lance::dataset::Dataset;
use types::{InvalidRequest, Violations};

use super::{
    asof::Timelines,
    rows::{self, KEYS},
    view::{EVENT_TIME, View},
    wire::{Asked, Feature},
};
use crate::Error;

/// Bytes that are answered at once, roughly: gRPC clients take 4 MiB unless told otherwise.
const BYTES: usize = 2 * 1024 * 1024;
/// Rows that are answered at once, at most.
const ROWS: usize = 65_536;

/// Entities at times, and whatever else stands beside them.
#[derive(Debug)]
pub(crate) struct Spine {
    table: RecordBatch,
    times: TimestampMicrosecondArray,
    /// By the name of the column.
    entities: HashMap<&'static str, StringArray>,
}

impl Spine {
    /// Checks that the table says which entities and when, for every view; `now` is the last time it may ask about.
    pub(crate) fn new(table: RecordBatch, asked: &Asked, now: i64) -> Result<Self, InvalidRequest> {
        let mut violations = Violations::default();
        let times = violations.check("spine", times(&table, now));
        let mut entities = HashMap::new();
        for (view, _) in &asked.views {
            if let Some(ids) = violations.check("spine", ids(&table, view)) {
                entities.insert(view.entity, ids);
            }
        }
        violations.finish(times).map(|times| Self { table, times, entities })
    }
}

/// The column, in which nothing may be missing.
fn column<'a>(table: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    let column = table.column_by_name(name).ok_or_else(|| format!("has no column `{name}`"))?;
    match column.null_count() {
        0 => Ok(column),
        missing => Err(format!("lacks `{name}` in {missing} rows")),
    }
}

fn times(table: &RecordBatch, now: i64) -> Result<TimestampMicrosecondArray, String> {
    let column = column(table, EVENT_TIME)?;
    // Without a zone a time is taken to be in UTC.
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(format!("has `{EVENT_TIME}` as {other}; make it a timestamp")),
    };
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone));
    let micros = micros.map_err(|error| format!("has an unusable `{EVENT_TIME}`: {error}"))?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    match micros.values().iter().filter(|time| **time > now).count() {
        0 if micros.null_count() == 0 => Ok(micros.clone()),
        0 => Err(format!("has times in `{EVENT_TIME}` that microseconds do not hold")),
        rows => Err(format!("asks in {rows} rows about times to come")),
    }
}

fn ids(table: &RecordBatch, view: &View) -> Result<StringArray, String> {
    let ids = cast(column(table, view.entity)?, &DataType::Utf8);
    let ids = ids.map_err(|error| format!("has `{}` not as text: {error}", view.entity))?;
    ids.as_string_opt().cloned().ok_or_else(|| format!("has `{}` not as text", view.entity))
}

/// A question about the past with all that answers it.
pub(crate) struct Historical {
    spine: Spine,
    views: Vec<(&'static View, Timelines)>,
    /// Of each feature asked for the view and the column of its rows.
    features: Vec<(usize, usize)>,
    schema: SchemaRef,
    rows: usize,
}

impl Historical {
    pub(crate) async fn open(
        spine: Spine,
        asked: &Asked,
        datasets: &[Arc<Dataset>],
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<Self, Error> {
        let mut views = Vec::new();
        let mut metadata = spine.table.schema_ref().metadata().clone();
        for ((view, features), dataset) in asked.views.iter().zip(datasets) {
            let entities = &spine.entities[view.entity];
            let rows = rows::past(view, features, dataset, runtime, (entities, &spine.times)).await?;
            metadata.insert(format!("omnimesh.version.{}", view.name), dataset.version().version.to_string());
            views.push((*view, rows));
        }
        let given = spine.table.schema_ref().fields().iter().map(|field| field.as_ref().clone());
        let found = asked.features.iter().map(Feature::field);
        let schema = Schema::new_with_metadata(given.chain(found).collect::<Vec<_>>(), metadata);
        let rows = rows_at_once(&spine.table, asked.features.len());
        let features = asked.features.iter().map(|feature| (feature.view, KEYS + feature.place)).collect();
        Ok(Self { spine, views, features, schema: Arc::new(schema), rows })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The spine with its features, part by part.
    pub(crate) fn answer(self) -> impl Stream<Item = Result<RecordBatch, Error>> + Send {
        let all = self.spine.table.num_rows();
        let question = Arc::new(self);
        stream::try_unfold(0, move |first| {
            let question = Arc::clone(&question);
            async move {
                if first >= all {
                    return Ok(None);
                }
                let rows = question.rows.min(all - first);
                let part = tokio::task::spawn_blocking(move || question.part(first, rows)).await??;
                Ok(Some((part, first + rows)))
            }
        })
    }

    fn part(&self, first: usize, rows: usize) -> Result<RecordBatch, ArrowError> {
        let times = self.spine.times.slice(first, rows);
        let found = self.views.iter().map(|(view, timelines)| {
            let entities = self.spine.entities[view.entity].slice(first, rows);
            Ok(timelines.join(&entities, &times, view.ttl))
        });
        let found = found.collect::<Result<Vec<_>, ArrowError>>()?;
        let features = self.features.iter().map(|(view, column)| {
            let rows = self.views[*view].1.table();
            arrow::compute::take(rows.column(*column), &found[*view], None)
        });
        let given = self.spine.table.slice(first, rows);
        let columns = given.columns().iter().cloned().map(Ok).chain(features);
        RecordBatch::try_new(self.schema(), columns.collect::<Result<_, _>>()?)
    }
}

fn rows_at_once(spine: &RecordBatch, features: usize) -> usize {
    let given = spine.get_array_memory_size() / spine.num_rows().max(1);
    // A value of eight bytes, and whether it is there.
    (BYTES / (given + 9 * features)).clamp(1, ROWS)
}
