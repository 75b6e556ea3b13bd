//! The e-commerce database: one DDL and one way of loading it, in SQLite or PostgreSQL.

use std::{collections::BTreeSet, path::Path};

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection, Executor, any::AnyArguments, query::Query};

use crate::{
    Error, Site, Tally, World,
    chance::dice,
    dataset::Product,
    plan::{SecondSystem, ShopOrder, Twin},
    text_file::{Written, directory},
};

const TABLES: [&str; 6] = [
    "CREATE TABLE silo_build (marker TEXT NOT NULL)",
    "CREATE TABLE customers (
        customer_id TEXT PRIMARY KEY, email TEXT NOT NULL, given_name TEXT NOT NULL, family_name TEXT NOT NULL,
        phone TEXT, street TEXT, city TEXT, postcode TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        loyalty_card TEXT)",
    "CREATE TABLE products (
        product_id BIGINT PRIMARY KEY, manufacturer_id BIGINT NOT NULL, department TEXT, brand TEXT,
        product_category TEXT, product_type TEXT, package_size TEXT)",
    "CREATE TABLE orders (
        order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, placed_at TEXT NOT NULL, status TEXT NOT NULL,
        currency TEXT NOT NULL, total_minor BIGINT NOT NULL, store_id BIGINT NOT NULL, external_order_no TEXT,
        updated_at TEXT NOT NULL)",
    "CREATE TABLE order_lines (
        order_id TEXT NOT NULL, line_no BIGINT NOT NULL, product_id BIGINT NOT NULL, quantity BIGINT NOT NULL,
        amount_minor BIGINT NOT NULL, retail_discount_minor BIGINT NOT NULL, coupon_discount_minor BIGINT NOT NULL,
        coupon_match_discount_minor BIGINT NOT NULL, PRIMARY KEY (order_id, line_no))",
    "CREATE TABLE payments (
        payment_id TEXT PRIMARY KEY, order_id TEXT NOT NULL, psp_ref TEXT, method TEXT NOT NULL,
        amount_minor BIGINT NOT NULL, captured_at TEXT NOT NULL)",
];

/// Made when the tables are full, which is faster.
const INDICES: [&str; 6] = [
    "CREATE INDEX customers_updated_at ON customers (updated_at)",
    "CREATE INDEX orders_customer_id ON orders (customer_id)",
    "CREATE INDEX orders_placed_at ON orders (placed_at)",
    "CREATE INDEX orders_updated_at ON orders (updated_at)",
    "CREATE INDEX payments_order_id ON payments (order_id)",
    "CREATE INDEX payments_psp_ref ON payments (psp_ref)",
];

pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// `build_id` says what the database is filled from: a PostgreSQL database that has it already is left as it is.
pub(crate) async fn write(site: &Site, url: Option<&str>, build_id: &str) -> Result<Written, Error> {
    sqlx::any::install_default_drivers();
    let mut database = match url {
        Some(url) => AnyConnection::connect(url).await?,
        None => sqlite(&site.root).await?,
    };
    let world = &site.world;
    let before = filled_from(&mut database).await;
    if before.as_deref() != Some(build_id) {
        fill(&mut database, site, before.is_some(), build_id).await?;
    }
    database.close().await?;
    let mut tally = Tally { people: customers(world).len() as u64, ..Tally::default() };
    for order in &world.plan.shop {
        let basket = &world.dataset.baskets[order.basket];
        tally += Tally {
            records: 1,
            lines: world.dataset.lines(basket).len() as u64,
            sales_minor: world.dataset.total(basket).0.into(),
            ..Tally::default()
        };
    }
    Ok(Written { tally, junk: Vec::new() })
}

/// The file counts only once the whole directory is complete, so it needs no journal.
async fn sqlite(root: &Path) -> Result<AnyConnection, Error> {
    directory(root, "shop")?;
    let path = root.join("shop/shop.db").display().to_string();
    let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let mut database = AnyConnection::connect(&format!("sqlite://{path}?mode=rwc")).await?;
    database.execute("PRAGMA journal_mode = OFF").await?;
    database.execute("PRAGMA synchronous = OFF").await?;
    Ok(database)
}

/// `None` when there is no such table: the database is new.
async fn filled_from(database: &mut AnyConnection) -> Option<String> {
    sqlx::query_scalar("SELECT marker FROM silo_build").fetch_one(database).await.ok()
}

/// Replaces only tables that an earlier build made; others of these names are an error.
async fn fill(database: &mut AnyConnection, site: &Site, replace: bool, build_id: &str) -> Result<(), Error> {
    let mut transaction = database.begin().await?;
    if replace {
        for table in ["silo_build", "customers", "products", "orders", "order_lines", "payments"] {
            transaction.execute(AssertSqlSafe(format!("DROP TABLE {table}"))).await?;
        }
    }
    for table in TABLES {
        transaction.execute(table).await?;
    }
    insert(&mut transaction, "silo_build", [[Value::from(build_id)]].into_iter()).await?;
    load(&mut transaction, site).await?;
    for index in INDICES {
        transaction.execute(index).await?;
    }
    Ok(transaction.commit().await?)
}

async fn load(database: &mut AnyConnection, site: &Site) -> Result<(), Error> {
    let world = &*site.world;
    insert(database, "customers", customers(world).into_iter().map(|who| customer_row(world, who))).await?;
    insert(database, "products", world.dataset.products.iter().map(product_row)).await?;
    for orders in world.plan.shop.chunks(1_000) {
        insert(database, "orders", orders.iter().map(|order| order_row(world, order))).await?;
        insert(database, "order_lines", orders.iter().flat_map(|order| line_rows(world, order))).await?;
        insert(database, "payments", orders.iter().map(|order| payment_row(world, order))).await?;
        site.advance(orders.len() as u64);
    }
    Ok(())
}

/// Accounts that have orders, as indices of the household and of the account in it.
pub(crate) fn customers(world: &World) -> BTreeSet<(usize, usize)> {
    let account = |order: &ShopOrder| (world.dataset.baskets[order.basket].household, order.customer);
    world.plan.shop.iter().map(account).collect()
}

fn customer_row(world: &World, (household, customer): (usize, usize)) -> [Value; 11] {
    let customer = &world.households[household].customers[customer];
    let address = customer.address.as_ref();
    [
        customer.id.as_str().into(),
        Value::from(customer.contact.email.as_deref()),
        customer.given.as_str().into(),
        customer.family.as_str().into(),
        customer.contact.phone.as_deref().into(),
        address.map(|address| address.street.as_str()).into(),
        address.map(|address| address.city.as_str()).into(),
        address.map(|address| address.postcode.as_str()).into(),
        customer.created_at.into(),
        customer.updated_at.into(),
        customer.contact.card.as_deref().into(),
    ]
}

fn product_row(product: &Product) -> [Value; 7] {
    let [department, brand, category, kind, package] = &product.texts;
    [
        i64::from(product.id).into(),
        product.manufacturer.into(),
        department.as_deref().into(),
        brand.as_deref().into(),
        category.as_deref().into(),
        kind.as_deref().into(),
        package.as_deref().into(),
    ]
}

fn order_row(world: &World, order: &ShopOrder) -> [Value; 9] {
    let basket = &world.dataset.baskets[order.basket];
    let customer = &world.households[basket.household].customers[order.customer];
    let collected = matches!(order.twin, Some(Twin { system: SecondSystem::Till, .. }));
    let handled = dice(world.seed, "shop order", basket.id).random_range(3_600..72 * 3_600);
    [
        order.id().into(),
        customer.id.as_str().into(),
        basket.at.into(),
        if collected { "collected" } else { "delivered" }.into(),
        "USD".into(),
        i64::from(world.dataset.total(basket).0).into(),
        i64::from(basket.store).into(),
        order.external_order_no.as_deref().into(),
        (basket.at + SignedDuration::from_secs(handled)).into(),
    ]
}

fn line_rows(world: &World, order: &ShopOrder) -> impl Iterator<Item = [Value; 8]> {
    let basket = &world.dataset.baskets[order.basket];
    world.dataset.lines(basket).iter().zip(1_i64..).map(|(line, number)| {
        [
            order.id().into(),
            number.into(),
            i64::from(line.product).into(),
            i64::from(line.quantity).into(),
            i64::from(line.amount.0).into(),
            i64::from(line.retail_discount.0).into(),
            i64::from(line.coupon_discount.0).into(),
            i64::from(line.coupon_match_discount.0).into(),
        ]
    })
}

fn payment_row(world: &World, order: &ShopOrder) -> [Value; 6] {
    let basket = &world.dataset.baskets[order.basket];
    [
        format!("P-{}", 1_000_000 + order.number).into(),
        order.id().into(),
        order.psp_ref.map(|psp_ref| psp_ref.to_string()).into(),
        order.method.into(),
        i64::from(world.dataset.total(basket).0).into(),
        (basket.at + SignedDuration::from_secs(2)).into(),
    ]
}

enum Value {
    Integer(i64),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Text(Some(at.to_string()))
    }
}

/// Inserts many rows per statement, but not too many: SQLite looks up each numbered value by going through all.
async fn insert<const N: usize>(
    database: &mut AnyConnection,
    table: &str,
    mut rows: impl Iterator<Item = [Value; N]>,
) -> Result<(), Error> {
    loop {
        let rows: Vec<[Value; N]> = rows.by_ref().take(256 / N).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut statement = format!("INSERT INTO {table} VALUES ");
        for row in 0..rows.len() {
            let placeholders: Vec<String> = (1..=N).map(|column| format!("${}", row * N + column)).collect();
            let separator = if row == 0 { "" } else { ", " };
            statement.push_str(&format!("{separator}({})", placeholders.join(", ")));
        }
        let query = sqlx::query(AssertSqlSafe(statement));
        rows.into_iter().flatten().fold(query, bind).execute(&mut *database).await?;
    }
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, value: Value) -> Query<'q, Any, AnyArguments> {
    match value {
        Value::Integer(integer) => query.bind(integer),
        Value::Text(text) => query.bind(text),
    }
}
