//! One version of a table of vectors, in memory.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, DictionaryArray, RecordBatch, StringArray},
    compute::{cast, sort_to_indices, take_record_batch},
    datatypes::{DataType, Int32Type},
    error::ArrowError,
};
use lance::dataset::Dataset;
use types::filter::Condition;

use super::Neighbour;
use crate::{
    Error, TableName,
    vector::{
        ENTITY, FILTERS, MODEL, TEXT, VECTOR, components,
        ivf::{Hit, Ivf, Row},
        publish::{not_vectors, read},
    },
};

#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) version: u64,
    pub(super) model_id: String,
    pub(super) dimension: usize,
    /// In order.
    entities: StringArray,
    /// Of tables that are made of texts.
    texts: Option<StringArray>,
    filters: BTreeMap<&'static str, DictionaryArray<Int32Type>>,
    index: Ivf,
}

impl Loaded {
    pub(super) async fn read(name: &TableName, dataset: &Dataset) -> Result<Self, Error> {
        let there = |column: &&str| dataset.schema().field(column).is_some();
        let filters = FILTERS.map(|field| field.name);
        let columns = [ENTITY, VECTOR, MODEL, TEXT].into_iter().chain(filters).filter(there);
        let rows = read(name, dataset, &columns.collect::<Vec<_>>()).await?;
        let version = dataset.version().version;
        let loaded = tokio::task::spawn_blocking(move || Self::of(version, rows)).await??;
        loaded.ok_or_else(|| not_vectors(name))
    }

    fn of(version: u64, rows: RecordBatch) -> Result<Option<Self>, Error> {
        let rows = sorted(rows)?;
        let texts = |column: &str| rows.column_by_name(column).and_then(|texts| texts.as_string_opt::<i32>());
        let (Some(entities), Some(models), Some((dimension, vectors))) =
            (texts(ENTITY), texts(MODEL), components(&rows))
        else {
            return Ok(None);
        };
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut filters = BTreeMap::new();
        for column in FILTERS.map(|field| field.name) {
            if let Some(values) = rows.column_by_name(column) {
                filters.insert(column, cast(values, &dictionary)?.as_dictionary().clone());
            }
        }
        Ok(Some(Self {
            version,
            model_id: models.iter().flatten().next().unwrap_or_default().to_owned(),
            dimension,
            entities: entities.clone(),
            texts: texts(TEXT).cloned(),
            filters,
            index: Ivf::new(dimension, vectors)?,
        }))
    }

    pub(super) fn rows(&self) -> usize {
        self.entities.len()
    }

    /// What searches find of the truth.
    pub(super) fn recall(&self) -> f64 {
        self.index.recall()
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.filters.contains_key(column)
    }

    pub(super) fn is_of_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// An entity's row and vector.
    pub(super) fn entity(&self, entity: &str) -> Option<(Row, &[f32])> {
        let (mut from, mut to) = (0, self.entities.len());
        while from < to {
            let middle = from.midpoint(to);
            if self.entities.value(middle) < entity { from = middle + 1 } else { to = middle }
        }
        let is_there = from < self.entities.len() && self.entities.value(from) == entity;
        let row = Row::try_from(from).ok().filter(|_| is_there)?;
        Some((row, self.index.vector(row)?))
    }

    /// The nearest rows for which every condition holds, without the one that is asked about.
    pub(super) fn nearest(
        &self,
        vector: &[f32],
        k: usize,
        itself: Option<Row>,
        conditions: &[Condition],
    ) -> Vec<Hit> {
        let allowed: Vec<_> = conditions.iter().filter_map(|condition| self.allowed(condition)).collect();
        self.index.search(vector, k, |row| {
            Some(row) != itself && allowed.iter().all(|(codes, holds)| holds_at(codes, holds, row))
        })
    }

    /// A column's codes, and for each code, with that of a missing value last, whether the condition holds.
    fn allowed(&self, condition: &Condition) -> Option<(&DictionaryArray<Int32Type>, Vec<bool>)> {
        let codes = self.filters.get(condition.field)?;
        let values = codes.values().as_string_opt::<i32>()?;
        let holds = values.iter().chain([None]).map(|value| condition.holds(value.unwrap_or_default()));
        Some((codes, holds.collect()))
    }

    pub(super) fn neighbour(&self, hit: Hit) -> Neighbour {
        let row = hit.row as usize;
        let attributes = self.filters.iter().filter_map(|(column, codes)| {
            let value = codes.values().as_string_opt::<i32>()?.value(codes.key(row)?);
            Some((*column, value.to_owned()))
        });
        Neighbour {
            entity: self.entities.value(row).to_owned(),
            similarity: hit.similarity,
            text: self.texts.as_ref().map_or("", |texts| texts.value(row)).to_owned(),
            attributes: attributes.collect(),
        }
    }
}

/// Rows in the order of their entities: as they are, if they are as they were written.
fn sorted(rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let Some(entities) = rows.column_by_name(ENTITY) else { return Ok(rows) };
    match entities.as_string_opt::<i32>() {
        Some(entities) if !entities.iter().is_sorted() => {
            take_record_batch(&rows, &sort_to_indices(entities, None, None)?)
        }
        _ => Ok(rows),
    }
}

fn holds_at(codes: &DictionaryArray<Int32Type>, holds: &[bool], row: Row) -> bool {
    let code = codes.key(row as usize).or_else(|| holds.len().checked_sub(1));
    code.and_then(|code| holds.get(code)).copied().unwrap_or(false)
}
