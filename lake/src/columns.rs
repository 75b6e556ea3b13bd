//! Columns with their fields, so that a table's schema and its rows are written down once.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, Date32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
        TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::{Field, Schema},
    error::ArrowError,
};
use types::Timestamp;

/// Lance refuses a row whose key exists only if the key's fields say so.
const PRIMARY_KEY: &str = "lance-schema:unenforced-primary-key";
const PRIMARY_KEY_POSITION: &str = "lance-schema:unenforced-primary-key:position";
/// Marks columns that two runs over the same sources may fill differently: generated ids and recorded times.
const VOLATILE: &str = "omnimesh.volatile";
/// Marks a column of lists of source records that each are one row's alone.
const EXCLUSIVE: &str = "omnimesh.exclusive";
const SECONDS_OF_DAY: i64 = 86_400;

/// A column: its field and its values.
pub(crate) struct Column {
    field: Field,
    array: ArrayRef,
}

impl Column {
    /// A column in which no value is missing.
    pub(crate) fn new(name: &str, array: impl Array + 'static) -> Self {
        Self { field: Field::new(name, array.data_type().clone(), false), array: Arc::new(array) }
    }

    /// Lets values be missing.
    pub(crate) fn nullable(mut self) -> Self {
        self.field.set_nullable(true);
        self
    }

    fn with_metadata(mut self, key: &str, value: &str) -> Self {
        let mut metadata: HashMap<_, _> = self.field.metadata().clone();
        metadata.insert(key.to_owned(), value.to_owned());
        self.field.set_metadata(metadata);
        self
    }

    /// Makes it the `position`th column of the primary key, from 1.
    pub(crate) fn key(self, position: usize) -> Self {
        key_metadata(position)
            .into_iter()
            .fold(self, |column, (key, value)| column.with_metadata(&key, &value))
    }

    /// Leaves it out of what tables of two runs are compared by.
    pub(crate) fn volatile(self) -> Self {
        let (key, value) = volatile_metadata();
        self.with_metadata(&key, &value)
    }

    /// Makes each source record in its lists one row's alone: of two rows that are upserted with it the newer stands.
    pub(crate) fn exclusive(self) -> Self {
        self.with_metadata(EXCLUSIVE, "true")
    }
}

/// What marks a field as the `position`th of the primary key, from 1.
pub(crate) fn key_metadata(position: usize) -> [(String, String); 2] {
    [(PRIMARY_KEY.to_owned(), "true".to_owned()), (PRIMARY_KEY_POSITION.to_owned(), position.to_string())]
}

/// Whether it is metadata that marks a field as a part of the primary key.
pub(crate) fn marks_key(metadata: &str) -> bool {
    metadata.starts_with(PRIMARY_KEY)
}

/// What marks a field that two runs over the same sources may fill differently.
pub(crate) fn volatile_metadata() -> (String, String) {
    (VOLATILE.to_owned(), "true".to_owned())
}

/// Whether a field is a part of the primary key.
pub(crate) fn is_key(field: &Field) -> bool {
    field.metadata().contains_key(PRIMARY_KEY)
}

pub(crate) fn is_volatile(field: &Field) -> bool {
    field.metadata().contains_key(VOLATILE)
}

/// Whether each source record in the field's lists is one row's alone.
pub(crate) fn is_exclusive(field: &Field) -> bool {
    field.metadata().contains_key(EXCLUSIVE)
}

/// Texts, none of them missing.
pub(crate) fn text<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Column {
    Column::new(name, StringArray::from_iter(values.map(Some)))
}

/// Texts, of which an empty one is missing.
pub(crate) fn optional_text<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Column {
    let values = values.map(|value| (!value.is_empty()).then_some(value));
    Column::new(name, StringArray::from_iter(values)).nullable()
}

/// Whole numbers.
pub(crate) fn integer(name: &str, values: impl Iterator<Item = i64>) -> Column {
    Column::new(name, Int64Array::from_iter_values(values))
}

/// Whole numbers, of which some are missing.
pub(crate) fn optional_integer(name: &str, values: impl Iterator<Item = Option<i64>>) -> Column {
    Column::new(name, Int64Array::from_iter(values)).nullable()
}

/// Times in UTC, as messages carry them; one that is missing or out of range is null.
pub(crate) fn time(name: &str, values: impl Iterator<Item = Option<prost_types::Timestamp>>) -> Column {
    let micros = values.map(|time| Timestamp::try_from(time?).ok().map(Timestamp::micros));
    Column::new(name, TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC")).nullable()
}

/// Days in UTC of times as messages carry them.
pub(crate) fn date(name: &str, values: impl Iterator<Item = Option<prost_types::Timestamp>>) -> Column {
    let days = values.map(|time| i32::try_from(time?.seconds.div_euclid(SECONDS_OF_DAY)).ok());
    Column::new(name, Date32Array::from_iter(days)).nullable()
}

/// Records of several columns.
pub(crate) fn record(name: &str, columns: Vec<Column>) -> Column {
    let (fields, arrays): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|column| (column.field, column.array)).unzip();
    Column::new(name, StructArray::new(fields.into(), arrays, None))
}

/// Lists over consecutive runs of `items`, one run of each length.
pub(crate) fn list(name: &str, lengths: impl Iterator<Item = usize>, items: Column) -> Column {
    let offsets = OffsetBuffer::from_lengths(lengths);
    // None is missing, but DataFusion's functions over lists return lists of items that may be.
    let Column { field, array } = items.nullable();
    Column::new(name, ListArray::new(Arc::new(field), offsets, array, None))
}

/// Rows of several columns.
pub(crate) fn batch(columns: Vec<Column>) -> Result<RecordBatch, ArrowError> {
    let (fields, arrays): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|column| (column.field, column.array)).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}
