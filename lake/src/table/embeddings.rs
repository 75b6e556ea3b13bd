//! Tables of vectors: a query says which entities there are and what can be said of them, a model where each lies.

mod by_text;
mod factored;

pub(super) use by_text::ProductsByText;
pub(super) use factored::{CustomersByPurchases, ProductsByBuyers};

use std::{iter::repeat_n, sync::Arc};

use arrow::{
    array::{AsArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use datafusion::{
    error::DataFusionError,
    execution::{SendableRecordBatchStream, runtime_env::RuntimeEnv},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;

use super::{Derived, model::Model};
use crate::{
    Error, Layer,
    card::Card,
    sql::{Lineage, Role, Snapshot, through},
    vector::{ENTITY, MODEL, TEXT, VECTOR, component},
};

/// What the columns are that every table of vectors has.
const COLUMNS: &str = "\
column vector: Where it lies: of length 1, so that the dot product of two is their cosine.
column model_id: The model that made the vector; only vectors of one model can be compared.
column text_sha256: Digest of the text, by which it is known whether it has changed.
";

const fn query(name: &'static str, sql: &'static str) -> Model {
    Model { layer: Layer::Embeddings, name, sql }
}

/// The card of a query, and of the columns that join its own.
fn card(query: &Model) -> Card {
    let mut card = query.card();
    for (column, said) in Card::parse(COLUMNS).columns {
        card.columns.entry(column).or_insert(said);
    }
    card
}

/// What a query returns: at least one batch, if only to tell its columns.
async fn rows(
    query: &Model,
    inputs: &Snapshot,
    runtime: &Arc<RuntimeEnv>,
) -> Result<Vec<RecordBatch>, Error> {
    let frame = query.frame(inputs, runtime).await?;
    let schema = Arc::clone(frame.schema().inner());
    let mut rows = frame.collect().await?;
    if rows.is_empty() {
        rows.push(RecordBatch::new_empty(schema));
    }
    Ok(rows)
}

/// Where a query's columns come from, and the vectors: from its columns `of`.
async fn lineage_of(
    query: &Model,
    of: &[&str],
    inputs: &Snapshot,
    runtime: &Arc<RuntimeEnv>,
) -> Result<Lineage, Error> {
    let mut lineage = query.lineage(inputs, runtime).await?;
    let origins = of.iter().filter_map(|column| lineage.columns.get(*column)).flatten().cloned();
    let origins = through(origins, Role::Transformation).collect();
    lineage.columns.insert(VECTOR.to_owned(), origins);
    Ok(lineage)
}

/// The texts in a column; a missing one is empty.
fn texts<'a>(
    rows: &'a RecordBatch,
    column: &str,
) -> Result<impl Iterator<Item = &'a str> + Clone, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("there is no column `{column}` of texts"));
    let texts = rows.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
    Ok(texts.ok_or_else(missing)?.iter().map(Option::unwrap_or_default))
}

/// A table whose rows are those of `rows` that have a vector: `vectors` gives the vectors of a batch's rows.
fn with_vectors<V: AsRef<[f32]>>(
    rows: Vec<RecordBatch>,
    model_id: &str,
    dimension: usize,
    mut vectors: impl FnMut(&RecordBatch) -> Result<Vec<Option<V>>, ArrowError> + Send + 'static,
) -> SendableRecordBatchStream {
    let schema = schema(rows.first().map(RecordBatch::schema_ref), dimension);
    let (of_all, model_id) = (Arc::clone(&schema), model_id.to_owned());
    let batches = rows.into_iter().map(move |rows| {
        let vectors = vectors(&rows)?;
        let there = vectors.iter().map(Option::is_some).collect::<Vec<_>>().into();
        let rows = filter_record_batch(&rows, &there)?;
        let values = vectors.iter().flatten().flat_map(|vector| vector.as_ref()).copied();
        let values = Arc::new(Float32Array::from_iter_values(values));
        let model_ids = StringArray::from_iter_values(repeat_n(&model_id, rows.num_rows()));
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(FixedSizeListArray::try_new(component(), dimension as i32, values, None)?));
        columns.push(Arc::new(model_ids));
        RecordBatch::try_new(Arc::clone(&of_all), columns)
    });
    let batches = stream::iter(batches.map(|batch| batch.map_err(DataFusionError::from)));
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The columns of a query with those that are added to it.
fn schema(query: Option<&SchemaRef>, dimension: usize) -> SchemaRef {
    let vector = DataType::FixedSizeList(component(), dimension as i32);
    let added = [Field::new(VECTOR, vector, false), Field::new(MODEL, DataType::Utf8, false)];
    let queried = query.into_iter().flat_map(|schema| schema.fields());
    let fields = queried.map(|field| {
        // Neither is ever missing where there is a vector.
        let is_needed = [ENTITY, TEXT].contains(&field.name().as_str());
        field.as_ref().clone().with_nullable(field.is_nullable() && !is_needed)
    });
    Arc::new(Schema::new(fields.chain(added).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests;
