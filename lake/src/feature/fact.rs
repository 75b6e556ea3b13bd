//! Facts: what features are computed from, as the queries in `fact/` find it in the silver tables.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray},
    datatypes::{ArrowPrimitiveType, Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};
use datafusion::common::HashMap;

/// Orders as facts about their customers, those that were cancelled among them.
pub(crate) static ORDERS: &str = include_str!("fact/orders.sql");
/// The same of orders that stand.
pub(crate) static PURCHASES: &str = concat!(
    "SELECT * FROM (",
    include_str!("fact/orders.sql"),
    ") AS orders WHERE status IS DISTINCT FROM 'cancelled' ORDER BY subject, ordered_at, order_uid"
);
/// Lines of orders that stand as facts about products.
pub(crate) static SALES: &str = include_str!("fact/sales.sql");

/// Where something was bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Web,
    Marketplace,
    Pos,
    Other,
}

/// An order, or what it had of one product. Names are numbers here, the same number for the same name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purchase {
    pub(crate) at: i64,
    pub(crate) known: i64,
    pub(crate) channel: Channel,
    pub(crate) location: u32,
    /// None where nobody knows who bought.
    pub(crate) customer: Option<u32>,
    pub(crate) currency: u32,
    pub(crate) lines: i64,
    pub(crate) units: i64,
    pub(crate) amount_minor: i64,
    pub(crate) discount_minor: i64,
    pub(crate) largest_line_minor: i64,
}

impl Purchase {
    /// Whether more was paid back than was paid: that lowers amounts and units, and is no order.
    pub(crate) fn is_return(&self) -> bool {
        self.amount_minor < 0
    }
}

/// All facts about one subject, by when they happened; of a subject that is not known, whose name is empty, a single one.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) subject: String,
    /// Of each purchase the order.
    pub(crate) orders: Vec<String>,
    pub(crate) purchases: Vec<Purchase>,
}

impl History {
    /// Adds what comes next. Lines of one order, which come one after the other, are one purchase.
    fn add(&mut self, order: &str, purchase: Purchase) {
        match self.purchases.last_mut().filter(|_| self.orders.last().is_some_and(|last| last == order)) {
            Some(before) => {
                before.lines += purchase.lines;
                before.units += purchase.units;
                before.amount_minor += purchase.amount_minor;
                before.discount_minor += purchase.discount_minor;
                before.largest_line_minor = before.largest_line_minor.max(purchase.largest_line_minor);
            }
            None => {
                self.purchases.push(purchase);
                self.orders.push(order.to_owned());
            }
        }
    }
}

/// Puts facts, which come in the order of subject and time, together into histories.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    numbers: HashMap<String, u32>,
    open: History,
}

impl Histories {
    /// Takes a batch; returns the histories that it shows to be complete. Nothing was known after `stamp`.
    pub(crate) fn take(&mut self, batch: &RecordBatch, stamp: i64) -> Result<Vec<History>, ArrowError> {
        let rows = Rows::new(batch)?;
        let mut complete = Vec::new();
        for row in 0..batch.num_rows() {
            let subject = rows.subject.value(row);
            // Nobody knows whether orders of unknown customers have anything to do with each other.
            if subject != self.open.subject || subject.is_empty() {
                let next = History { subject: subject.to_owned(), ..History::default() };
                complete.push(std::mem::replace(&mut self.open, next));
            }
            let purchase = self.purchase(&rows, row, stamp);
            self.open.add(rows.order_uid.value(row), purchase);
        }
        complete.retain(|history| !history.purchases.is_empty());
        Ok(complete)
    }

    /// The last history, once there are no more facts.
    pub(crate) fn finish(self) -> Option<History> {
        (!self.open.purchases.is_empty()).then_some(self.open)
    }

    fn purchase(&mut self, rows: &Rows, row: usize, stamp: i64) -> Purchase {
        Purchase {
            at: rows.ordered_at.value(row),
            known: rows.known_at.value(row).min(stamp),
            channel: match rows.channel.value(row) {
                "web" => Channel::Web,
                "marketplace" => Channel::Marketplace,
                "pos" => Channel::Pos,
                _ => Channel::Other,
            },
            location: self.number(rows.location_id.value(row)),
            customer: rows.is_customer_known.value(row).then(|| self.number(rows.golden_id.value(row))),
            currency: self.number(rows.currency.value(row)),
            lines: rows.lines.value(row),
            units: rows.units.value(row),
            amount_minor: rows.amount_minor.value(row),
            discount_minor: rows.discount_minor.value(row),
            largest_line_minor: rows.largest_line_minor.value(row),
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry_ref(name).or_insert(next)
    }
}

/// The columns of a batch of facts.
struct Rows {
    subject: StringArray,
    order_uid: StringArray,
    ordered_at: PrimitiveArray<TimestampMicrosecondType>,
    known_at: PrimitiveArray<TimestampMicrosecondType>,
    channel: StringArray,
    location_id: StringArray,
    golden_id: StringArray,
    is_customer_known: BooleanArray,
    currency: StringArray,
    lines: PrimitiveArray<Int64Type>,
    units: PrimitiveArray<Int64Type>,
    amount_minor: PrimitiveArray<Int64Type>,
    discount_minor: PrimitiveArray<Int64Type>,
    largest_line_minor: PrimitiveArray<Int64Type>,
}

impl Rows {
    fn new(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let text = |name| text(batch, name);
        Ok(Self {
            subject: text("subject")?,
            order_uid: text("order_uid")?,
            ordered_at: number(batch, "ordered_at")?,
            known_at: number(batch, "known_at")?,
            channel: text("channel")?,
            location_id: text("location_id")?,
            golden_id: text("golden_id")?,
            is_customer_known: column(batch, "is_customer_known")?
                .as_boolean_opt()
                .cloned()
                .ok_or_else(|| unlike("is_customer_known"))?,
            currency: text("currency")?,
            lines: number(batch, "lines")?,
            units: number(batch, "units")?,
            amount_minor: number(batch, "amount_minor")?,
            discount_minor: number(batch, "discount_minor")?,
            largest_line_minor: number(batch, "largest_line_minor")?,
        })
    }
}

fn unlike(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("facts have no whole column `{name}` of its type"))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).filter(|column| column.null_count() == 0).ok_or_else(|| unlike(name))
}

fn text(batch: &RecordBatch, name: &str) -> Result<StringArray, ArrowError> {
    column(batch, name)?.as_string_opt().cloned().ok_or_else(|| unlike(name))
}

fn number<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> Result<PrimitiveArray<T>, ArrowError> {
    column(batch, name)?.as_primitive_opt().cloned().ok_or_else(|| unlike(name))
}
