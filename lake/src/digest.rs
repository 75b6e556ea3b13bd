//! A digest of rows that does not depend on their order.

use arrow::{array::RecordBatch, datatypes::Schema, error::ArrowError, row::RowConverter, row::SortField};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

/// What rows add up to: equal for equal rows in any order, cut into any batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// How many rows.
    pub(crate) rows: u64,
    sum: u128,
}

impl Digest {
    /// Adds a batch's rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let fields =
            batch.schema_ref().fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let rows = RowConverter::new(fields.collect())?.convert_columns(batch.columns())?;
        for row in &rows {
            // A sum, unlike an exclusive or, tells a row that is there twice.
            self.sum = self.sum.wrapping_add(of_row(row.as_ref()));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The digest that [`Digest::hex`] gave of so many rows.
    pub(crate) fn known(rows: u64, hex: &str) -> Option<Self> {
        Some(Self { rows, sum: u128::from_str_radix(hex, 16).ok()? })
    }

    /// What both add up to.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }

    /// What is left after some of the rows have become others.
    pub(crate) fn replaced(self, old: Self, new: Self) -> Self {
        Self {
            rows: self.rows.wrapping_sub(old.rows).wrapping_add(new.rows),
            sum: self.sum.wrapping_sub(old.sum).wrapping_add(new.sum),
        }
    }

    /// The digest as text.
    pub(crate) fn hex(self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// A digest of a table's columns: their names, types and whether values may be missing.
pub(crate) fn schema(schema: &Schema) -> String {
    let mut hash = Sha256::new();
    for field in schema.fields() {
        hash.update(format!("{} {} {}\n", field.name(), field.data_type(), field.is_nullable()));
    }
    format!("{:032x}", half(&hash.finalize()))
}

/// What tells a row, or its key, from others; it stands in for no seal.
pub(crate) fn of_row(row: &[u8]) -> u128 {
    XxHash3_128::oneshot(row)
}

pub(crate) fn half(hash: &[u8]) -> u128 {
    hash.iter().take(16).fold(0, |half, byte| half << 8 | u128::from(*byte))
}
