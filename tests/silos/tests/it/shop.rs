//! The shop in PostgreSQL is the shop in SQLite, and takes no database that is somebody else's.

use silos::{Config, Error};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use storage::testing::postgres_database;
use tempfile::TempDir;

use crate::world::{Quiet, built, config};

/// Each table with all its columns as text, in the order of its key.
const TABLES: [(&str, &str, &str); 5] = [
    (
        "customers",
        "customer_id || '|' || email || '|' || given_name || '|' || family_name || '|' || COALESCE(phone, '')
            || '|' || COALESCE(street, '') || '|' || COALESCE(city, '') || '|' || COALESCE(postcode, '')
            || '|' || created_at || '|' || updated_at || '|' || COALESCE(loyalty_card, '')",
        "customer_id",
    ),
    (
        "products",
        "product_id || '|' || manufacturer_id || '|' || COALESCE(department, '') || '|' || COALESCE(brand, '')
            || '|' || COALESCE(product_category, '') || '|' || COALESCE(product_type, '')
            || '|' || COALESCE(package_size, '')",
        "product_id",
    ),
    (
        "orders",
        "order_id || '|' || customer_id || '|' || placed_at || '|' || status || '|' || currency || '|' || total_minor
            || '|' || store_id || '|' || COALESCE(external_order_no, '') || '|' || updated_at",
        "order_id",
    ),
    (
        "order_lines",
        "order_id || '|' || line_no || '|' || product_id || '|' || quantity || '|' || amount_minor
            || '|' || retail_discount_minor || '|' || coupon_discount_minor || '|' || coupon_match_discount_minor",
        "order_id, line_no",
    ),
    (
        "payments",
        "payment_id || '|' || order_id || '|' || COALESCE(psp_ref, '') || '|' || method || '|' || amount_minor
            || '|' || captured_at",
        "payment_id",
    ),
];

async fn rows(database: &mut AnyConnection, (table, columns, key): (&str, &str, &str)) -> Vec<String> {
    let query = format!("SELECT {columns} FROM {table} ORDER BY {key}");
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(database).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn postgres_holds_the_same_shop_as_sqlite() {
    let directory = TempDir::new().unwrap();
    let url = postgres_database().await.url;
    let config = Config { shop_url: Some(url.clone()), ..config(directory.path().join("silos")) };
    let other_seed = Config { output: directory.path().join("other"), seed: 8, ..config.clone() };
    silos::build(&other_seed, &Quiet).await.unwrap();

    // What an earlier build made is replaced, unless it is the same; then another directory finds it filled.
    let summary = silos::build(&config, &Quiet).await.unwrap();
    assert_eq!(summary, built().await.summary);
    assert!(!config.output.join("shop").exists());
    silos::build(&Config { output: directory.path().join("again"), ..config }, &Quiet).await.unwrap();

    let mut postgres = AnyConnection::connect(&url).await.unwrap();
    let mut sqlite = built().await.shop().await;
    for table in TABLES {
        assert_eq!(rows(&mut postgres, table).await, rows(&mut sqlite, table).await, "{}", table.0);
    }
}

#[tokio::test]
async fn somebody_elses_tables_are_not_replaced() {
    let directory = TempDir::new().unwrap();
    let url = postgres_database().await.url;
    let mut postgres = AnyConnection::connect(&url).await.unwrap();
    postgres.execute("CREATE TABLE orders (precious TEXT)").await.unwrap();
    let config = Config { shop_url: Some(url), ..config(directory.path().join("silos")) };
    let error = silos::build(&config, &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error}");
    postgres.execute("SELECT precious FROM orders").await.unwrap();
}

#[tokio::test]
async fn other_urls_are_refused_before_anything_is_built() {
    let directory = TempDir::new().unwrap();
    let url = Some("mysql://localhost/shop".to_owned());
    let config = Config { shop_url: url, ..config(directory.path().join("silos")) };
    let error = silos::build(&config, &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::ShopUrl), "{error}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}
