//! `products_scd`: products through time, a row for each period in which one was so and was held to be so (a slowly
//! changing dimension of type 2, bitemporal).

use arrow::array::{BooleanArray, RecordBatch};
use omnimesh_proto::{
    catalog::v1::{Product, ProductChanged},
    event::v1::Event,
};
use prost_types::Timestamp;

use super::{Change, RECORDED_TO, Route, Source, Table, change_of_subject, decode, missing, once};
use crate::{
    Error, TableName,
    card::Card,
    columns::{Column, batch, list, optional_text, text, time},
};

const NAME: &str = "products_scd";

const CARD: &str = "\
Products through time: a row for each period in which one was so and was held to be so. No source tells since when a
product is as it says, so that a period begins when we learnt of it.
grain: one row per product, period and recording
key: product_sk
owner: catalog
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
column product_sk: The row: product, beginning of the period, time of recording. [from=product/previous.sku,
product/previous.update_time]
column sku: The product's stock-keeping unit. [from=product/previous.sku]
column valid_from: When the product became so. [from=product/previous.update_time]
column valid_to: When it became something else; null in the last period. [from=product.update_time]
column recorded_from: When the row was recorded. [from=product/previous.update_time]
column recorded_to: When something else was recorded in its place; null while it stands.
[from=product.update_time]
column is_current: Whether it is the product as it is now. [from=product.update_time]
column title: What it is called. [from=product/previous.title]
column manufacturer_id: Who makes it: the source's number. [from=product/previous.manufacturer_id]
column brand: Class of its brand, such as National or Private. [from=product/previous.brand]
column category_id: The category that it is in, such as grocery.cheese.shredded.
[from=product/previous.category]
column category_path: The same from the top of the tree down. [from=product/previous.category]
column package_size: Size of its package, as the source wrote it. [from=product/previous.package_size]
";

static SOURCE: Source = Source {
    consumer: "lake.products_scd<-catalog",
    domain: "catalog",
    event_type: "omnimesh.catalog.v1.ProductChanged",
};

pub(super) struct ProductsScd;

impl Table for ProductsScd {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        // At most: the product, and what stood before it as it was and as it ended.
        change_of_subject(NAME, event, 3)
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut rows = Vec::new();
        for event in &events {
            rows.extend(periods(event)?);
        }
        let rows = once(rows, |row| (row.product_sk(), row.recorded_to.is_none()));
        Ok(Change::Record(batch_of(&rows)?))
    }
}

/// A period of a product.
struct Row {
    product: Product,
    valid_from: Timestamp,
    valid_to: Option<Timestamp>,
    recorded_from: Timestamp,
    recorded_to: Option<Timestamp>,
}

impl Row {
    fn product_sk(&self) -> String {
        format!("{}:{}:{}", self.product.sku, self.valid_from, self.recorded_from)
    }

    fn is_current(&self) -> bool {
        self.valid_to.is_none() && self.recorded_to.is_none()
    }

    fn category_id(&self) -> &str {
        self.product.category.strip_prefix("categories/").unwrap_or_default()
    }
}

/// The product from its change on, and what stood until then: held to be without end, and now known to have ended.
fn periods(event: &Event) -> Result<Vec<Row>, Error> {
    let ProductChanged { product, previous } = decode(SOURCE.event_type, event)?;
    let product = product.ok_or_else(|| missing(event, "product"))?;
    let time = |product: &Product| product.update_time.ok_or_else(|| missing(event, "time of a product"));
    let changed = time(&product)?;
    let mut rows = Vec::new();
    if let Some(product) = previous {
        let valid_from = time(&product)?;
        rows.push(Row {
            product: product.clone(),
            valid_from,
            valid_to: None,
            recorded_from: valid_from,
            recorded_to: Some(changed),
        });
        let (valid_to, recorded_from) = (Some(changed), changed);
        rows.push(Row { product, valid_from, valid_to, recorded_from, recorded_to: None });
    }
    rows.push(Row {
        product,
        valid_from: changed,
        valid_to: None,
        recorded_from: changed,
        recorded_to: None,
    });
    Ok(rows)
}

fn batch_of(rows: &[Row]) -> Result<RecordBatch, Error> {
    let keys: Vec<_> = rows.iter().map(Row::product_sk).collect();
    let products = || rows.iter().map(|row| &row.product);
    let paths: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.category_id().split('.').filter(|label| !label.is_empty()).collect())
        .collect();
    Ok(batch(vec![
        text("product_sk", keys.iter().map(String::as_str)).key(1).volatile(),
        text("sku", products().map(|product| product.sku.as_str())),
        time("valid_from", rows.iter().map(|row| Some(row.valid_from))).volatile(),
        time("valid_to", rows.iter().map(|row| row.valid_to)).volatile(),
        time("recorded_from", rows.iter().map(|row| Some(row.recorded_from))).volatile(),
        time(RECORDED_TO, rows.iter().map(|row| row.recorded_to)).volatile(),
        Column::new("is_current", BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_current())))),
        optional_text("title", products().map(|product| product.title.as_str())),
        optional_text("manufacturer_id", products().map(|product| product.manufacturer_id.as_str())),
        optional_text("brand", products().map(|product| product.brand.as_str())),
        optional_text("category_id", rows.iter().map(Row::category_id)),
        list("category_path", paths.iter().map(Vec::len), text("item", paths.iter().flatten().copied())),
        optional_text("package_size", products().map(|product| product.package_size.as_str())),
    ])?)
}
