//! Vectors: what is alike lies near.
//!
//! An [embedder] makes vectors of texts, [factor] of who bought what; `table::embeddings` keeps them in tables, which
//! [publish] indexes and judges by their [recall]. [serve] holds what was published in memory, in an [ivf] each, and
//! [grpc] answers from there.

pub(crate) mod embedder;
pub(crate) mod factor;
pub(crate) mod grpc;
pub(crate) mod ivf;
pub(crate) mod publish;
pub(crate) mod recall;
pub(crate) mod serve;

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Field, Float32Type},
};
use types::filter::{self, Kind};

/// The column of vectors.
pub(crate) const VECTOR: &str = "vector";
/// The column of what the vectors stand for.
pub(crate) const ENTITY: &str = "entity_id";
/// The column of the texts that they were made of.
pub(crate) const TEXT: &str = "text";
/// The column of the model that made them.
pub(crate) const MODEL: &str = "model_id";
/// Columns that searches can be filtered by, in tables that have them.
pub(crate) const FILTERS: [filter::Field; 5] = [
    filter::Field { name: "department", kind: Kind::Text },
    filter::Field { name: "category", kind: Kind::Text },
    filter::Field { name: "brand", kind: Kind::Text },
    filter::Field { name: "in_stock", kind: Kind::Boolean },
    filter::Field { name: "channel", kind: Kind::Text },
];

/// An item of a vector.
pub(crate) fn component() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// The dimension of a batch's vectors, and all their components.
pub(crate) fn components(batch: &RecordBatch) -> Option<(usize, &[f32])> {
    let vectors = batch.column_by_name(VECTOR)?.as_fixed_size_list_opt()?;
    let dimension = usize::try_from(vectors.value_length()).ok().filter(|dimension| *dimension > 0)?;
    let values = vectors.values().as_primitive_opt::<Float32Type>()?.values();
    Some((dimension, values.get(..vectors.len() * dimension)?))
}
