//! Which rows of a table hold a key: every text of every column is looked at as what its column, or its field of a
//! landed record, is about.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::DataType,
    error::ArrowError,
};

use super::{
    About, Denied, Field,
    record::{self, PAYLOAD},
};

/// What a table of persons has, and what a table of their orders has: source records that the latter refers to are orders.
const PERSON: &str = "golden_id";
const ORDER: &str = "order_uid";
/// What a row comes of that is nobody's, such as a movement of stock.
const SOURCE: &str = "source_id";

/// The rows of a batch that hold one of the denied keys.
pub(super) fn held(denied: &Denied, batch: &RecordBatch) -> Result<Vec<bool>, ArrowError> {
    let rows: Vec<_> = (0..batch.num_rows()).collect();
    let has = |name| batch.column_by_name(name).is_some();
    let is_of_persons = has(PERSON) && !has(ORDER);
    let mut marks = Marks { denied, is_of_persons, held: vec![false; rows.len()] };
    let are_records = marks.records(batch);
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !are_records || field.name() != PAYLOAD {
            marks.column(column, denied.field().inside(field.name()).about, &rows)?;
        }
    }
    marks.references(text(batch, "source_system"), text(batch, SOURCE), &rows);
    Ok(marks.held)
}

/// The rows without what only ties them to a denied key: a movement of stock stays, without the order that it comes of.
pub(super) fn severed(denied: &Denied, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (None, Some((at, _))) = (schema.column_with_name(PERSON), schema.column_with_name(SOURCE)) else {
        return Ok(batch);
    };
    let Some(sources) = text(&batch, SOURCE) else { return Ok(batch) };
    let left = |source| if denied.holds(source) { "" } else { source };
    let left: StringArray = sources.iter().map(|source| source.map(left)).collect();
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(left);
    RecordBatch::try_new(schema, columns)
}

pub(super) fn text<'b>(batch: &'b RecordBatch, name: &str) -> Option<&'b StringArray> {
    batch.column_by_name(name)?.as_string_opt()
}

/// Rows that were found to hold a key.
struct Marks<'d> {
    denied: &'d Denied,
    /// Whether a source record that is referred to is a person's.
    is_of_persons: bool,
    held: Vec<bool>,
}

impl Marks<'_> {
    fn mark(&mut self, row: usize) {
        if let Some(held) = self.held.get_mut(row) {
            *held = true;
        }
    }

    /// Looks into what has landed, if that is what the batch has.
    fn records(&mut self, batch: &RecordBatch) -> bool {
        let denied = self.denied;
        record::each(denied, batch, |row, shape, record| {
            if denied.is_in_record(record, shape) {
                self.mark(row);
            }
        })
    }

    /// Looks into a column, or what is in it: its items belong to `rows`.
    fn column(&mut self, array: &ArrayRef, about: About, rows: &[usize]) -> Result<(), ArrowError> {
        let field = Field { about, ..self.denied.field() };
        match array.data_type() {
            DataType::Utf8 => {
                // A value often comes many times in a row.
                let mut last = ("", false);
                for (text, row) in array.as_string::<i32>().iter().zip(rows) {
                    let text = text.unwrap_or_default();
                    if last.0 != text {
                        last = (text, self.denied.is_in(text, field));
                    }
                    if last.1 {
                        self.mark(*row);
                    }
                }
                Ok(())
            }
            DataType::LargeUtf8 | DataType::Utf8View => {
                self.column(&cast(array, &DataType::Utf8)?, about, rows)
            }
            DataType::Dictionary(_, values) if has_text(values) => {
                self.column(&cast(array, &DataType::Utf8)?, about, rows)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                let bytes = cast(array, &DataType::LargeBinary)?;
                let texts = bytes.as_binary::<i64>().iter().map(|bytes| bytes.map(String::from_utf8_lossy));
                for (text, row) in texts.zip(rows) {
                    if text.is_some_and(|text| self.denied.is_in(&text, field)) {
                        self.mark(*row);
                    }
                }
                Ok(())
            }
            DataType::Struct(_) => self.record(array.as_struct(), about, rows),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                self.column(list.values(), about, &spread(list.offsets(), rows))
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let entries: ArrayRef = Arc::new(map.entries().clone());
                self.column(&entries, about, &spread(map.offsets(), rows))
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) if has_text(item.data_type()) => {
                self.column(&cast(array, &DataType::List(item.clone()))?, about, rows)
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, record: &StructArray, about: About, rows: &[usize]) -> Result<(), ArrowError> {
        let text = |name| record.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        self.references(text("system"), text("id"), rows);
        let fields = record.fields().iter().zip(record.columns());
        for (field, column) in fields {
            let about = Field { about, ..self.denied.field() }.inside(field.name()).about;
            self.column(column, about, rows)?;
        }
        Ok(())
    }

    /// Looks at source records that are referred to, if they are persons'.
    fn references(&mut self, systems: Option<&StringArray>, ids: Option<&StringArray>, rows: &[usize]) {
        let (true, Some(systems), Some(ids)) = (self.is_of_persons, systems, ids) else { return };
        for ((system, id), row) in systems.iter().zip(ids).zip(rows) {
            if let (Some(system), Some(id)) = (system, id)
                && self.denied.is_in(id, Field { about: About::Person, system, ..self.denied.field() })
            {
                self.mark(*row);
            }
        }
    }
}

/// For each item of lists, the row that its list belongs to. Items before the first list belong to none.
fn spread(offsets: &OffsetBuffer<i32>, rows: &[usize]) -> Vec<usize> {
    let first = offsets.first().map_or(0, |first| *first as usize);
    let items = offsets.lengths().zip(rows).flat_map(|(length, row)| std::iter::repeat_n(*row, length));
    std::iter::repeat_n(usize::MAX, first).chain(items).collect()
}

fn has_text(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_text(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_text(field.data_type())),
        kind => !kind.is_numeric() && !kind.is_temporal() && *kind != DataType::Boolean,
    }
}
