//! RunSource over databases: tables in the order of their keys, from where the last run ended.

use ingest::{Definition, demo_sources};
use storage::sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, any::install_default_drivers};
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::Silo,
};

async fn execute(url: &str, sql: &str) {
    install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("a database");
    connection.execute(AssertSqlSafe(sql)).await.expect(sql);
    connection.close().await.expect("closed");
}

const SHOP: [&str; 9] = [
    "CREATE TABLE customers (customer_id TEXT PRIMARY KEY, email TEXT, given_name TEXT, family_name TEXT, phone TEXT, \
     street TEXT, city TEXT, postcode TEXT, created_at TEXT, updated_at TEXT, loyalty_card TEXT)",
    "CREATE TABLE products (product_id BIGINT PRIMARY KEY, manufacturer_id BIGINT, department TEXT, brand TEXT, \
     product_category TEXT, product_type TEXT, package_size TEXT)",
    "CREATE TABLE orders (order_id TEXT PRIMARY KEY, customer_id TEXT, placed_at TEXT, status TEXT, currency TEXT, \
     total_minor BIGINT, store_id BIGINT, external_order_no TEXT, updated_at TEXT)",
    "CREATE TABLE order_lines (order_id TEXT, line_no BIGINT, product_id BIGINT, quantity BIGINT, amount_minor BIGINT, \
     retail_discount_minor BIGINT, coupon_discount_minor BIGINT, coupon_match_discount_minor BIGINT)",
    "CREATE TABLE payments (payment_id TEXT, order_id TEXT, psp_ref TEXT, method TEXT, amount_minor BIGINT, captured_at TEXT)",
    "INSERT INTO customers VALUES ('C-1', 'a@b.c', 'Maria', 'Lopez', NULL, '12 \"Oak\" St', 'Dayton', '45402', \
     '2017-01-01T00:00:00Z', '2017-01-02T00:00:00Z', '601')",
    "INSERT INTO products VALUES (7, 69, 'GROCERY', 'National', NULL, 'COOKIES', '12 OZ')",
    "INSERT INTO payments VALUES ('P-1', 'S-0001', 'psp_9', 'card', 300, '2017-01-01T11:53:26Z')",
    "INSERT INTO order_lines VALUES ('S-0001', 2, 8, 1, 100, 0, 0, 0), ('S-0001', 1, 7, 2, 200, 10, 5, 0)",
];

/// A shop with 1203 orders, which is three pages; all but the first have one line.
async fn build_shop(url: &str) {
    install_default_drivers();
    let mut shop = AnyConnection::connect(url).await.expect("a database");
    for sql in SHOP {
        shop.execute(sql).await.expect(sql);
    }
    for number in 1..=1203 {
        // Far apart in time: nobody takes two of them for one.
        let placed = format!("2017-01-{:02}T{:02}:00:00Z", 1 + number % 28, number / 28 % 24);
        let reference = if number == 1 { "'114-1'" } else { "NULL" };
        let order = format!(
            "INSERT INTO orders VALUES ('S-{number:04}', 'C-1', '{placed}', 'delivered', 'USD', 300, 330, \
             {reference}, '2017-01-{:02}T00:00:00Z')",
            1 + number % 28,
        );
        shop.execute(AssertSqlSafe(order)).await.expect("an order");
        if number > 1 {
            let line = format!("INSERT INTO order_lines VALUES ('S-{number:04}', 1, 7, 1, 300, 0, 0, 0)");
            shop.execute(AssertSqlSafe(line)).await.expect("a line");
        }
    }
    shop.close().await.expect("closed");
}

async fn check_shop(url: &str, definition: ingest::Definition) {
    let sandbox = Sandbox::new(vec![definition]).await;
    sandbox.run("shop").await.expect("a run");
    for (entity, counts) in
        [("customers", [1, 1, 0, 1]), ("products", [1, 1, 0, 1]), ("orders", [1203, 1203, 0, 1])]
    {
        assert_eq!(sandbox.counts("shop", entity).await, counts, "{entity}");
    }
    let orders = sandbox.all_orders().await;
    assert_eq!(orders.len(), 1203);
    let order = &orders["shop:S-0001"];
    let lines: Vec<_> =
        order.lines.iter().map(|line| (line.sku.as_str(), line.amount_minor, line.discount_minor)).collect();
    assert_eq!(lines, [("7", 200, 15), ("8", 100, 0)]);
    assert_eq!(order.payments[0].psp_ref, "psp_9");
    assert_eq!(orders["shop:S-0002"].payments, []);
    let address = sandbox.person("shop", "C-1").await.address.expect("an address");
    assert_eq!(address.street, "12 \"Oak\" St");
    let product = sandbox.product("7").await;
    assert_eq!((product.title.as_str(), product.manufacturer_id.as_str()), ("COOKIES", "69"));

    // Nothing new, then a changed order.
    let events = sandbox.events("ingest").await.len();
    sandbox.run("shop").await.expect("a run");
    assert_eq!(sandbox.events("ingest").await.len(), events);
    execute(
        url,
        "UPDATE orders SET status = 'lost', updated_at = '2017-02-01T00:00:00Z' WHERE order_id = 'S-0005'",
    )
    .await;
    assert_eq!(sandbox.run("shop").await.expect("a run").quarantined_count, 1);
    execute(
        url,
        "UPDATE orders SET status = 'gone', updated_at = '2017-02-02T00:00:00Z' WHERE order_id = 'S-0005'",
    )
    .await;
    assert_eq!(sandbox.run("shop").await.expect("a run").quarantined_count, 1);
    execute(url, "UPDATE orders SET status = 'collected', updated_at = '2017-02-03T00:00:00Z' WHERE order_id = 'S-0005'").await;
    assert_eq!(sandbox.run("shop").await.expect("a run").record_count, 1);
    assert_eq!(sandbox.counts("shop", "orders").await, [1206, 1204, 2, 1]);
    let positions: Vec<_> = sandbox.quarantined().await.into_iter().map(|(position, ..)| position).collect();
    assert_eq!(positions, ["orders:2017-02-01T00:00:00Z/S-0005", "orders:2017-02-02T00:00:00Z/S-0005"]);
}

#[tokio::test]
async fn run_source_reads_tables_of_sqlite() {
    let silo = Silo::new();
    let url = format!("sqlite://{}?mode=rwc", silo.path("shop/shop.db").display());
    build_shop(&url).await;
    check_shop(&url, silo.source("shop").remove(0)).await;
}

#[tokio::test]
async fn run_source_reads_tables_of_postgres() {
    let url = storage::testing::postgres_database().await.url;
    build_shop(&url).await;
    let definition = demo_sources(std::path::Path::new("."), Some(&url)).expect("definitions").remove(0);
    check_shop(&url, definition).await;
}

/// A system with a table of two full pages, and one that the definition has another column of.
async fn build_erp(url: &str) -> Definition {
    execute(url, "CREATE TABLE stores (store_id BIGINT PRIMARY KEY, name TEXT)").await;
    execute(url, "CREATE TABLE products (product_id BIGINT PRIMARY KEY, size BIGINT, name TEXT)").await;
    let rows: Vec<_> = (1..=1000).map(|number| format!("({number}, 'Store {number}')")).collect();
    execute(url, &format!("INSERT INTO stores VALUES {}", rows.join(", "))).await;
    execute(url, "INSERT INTO products VALUES (0, 1, 'Nothing'), (-1, 2, 'Less'), (7, NULL, 'Cookies')")
        .await;
    let text = format!(
        r#"
        system = "erp"
        [sql]
        url = "{url}"
        [[entity]]
        name = "customers"
        table = "customers"
        key = ["customer_id"]
        expect = [["customer_id", "text"]]
        [[entity]]
        name = "prices"
        table = "products"
        key = ["product_id"]
        expect = [["product_id", "integer"], ["price", "text"]]
        [[entity]]
        name = "stores"
        table = "stores"
        key = ["store_id"]
        expect = [["store_id", "integer"], ["name", "text"]]
        [[entity]]
        name = "products"
        table = "products"
        key = ["product_id"]
        expect = [["product_id", "integer"], ["size", "integer"], ["name", "text"]]
        map.product = {{ sku = "{{product_id}}", title = "{{name}}" }}
        "#
    );
    Definition::parse(&text, "erp.toml").expect("a definition")
}

#[tokio::test]
async fn run_source_reads_on_beside_tables_that_it_cannot_read() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("erp.db");
    let sqlite = format!("sqlite:{}", file.display());
    std::fs::write(&file, "").expect("a file");
    for url in [sqlite, storage::testing::postgres_database().await.url] {
        let sandbox = Sandbox::new(vec![build_erp(&url).await]).await;
        for _ in 0..2 {
            let status = sandbox.run("erp").await.expect_err("unreadable");
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::FailedPrecondition, "SOURCE_UNREADABLE")
            );
            assert!(status.message().contains("table `customers`"), "{}", status.message());
            assert_eq!(sandbox.counts("erp", "prices").await, [0, 0, 0, 0]);
            assert_eq!(sandbox.counts("erp", "stores").await, [1000, 1000, 0, 1]);
            assert_eq!(sandbox.counts("erp", "products").await, [3, 2, 1, 1]);
        }
        let [(position, reason, payload)] = sandbox.quarantined().await.try_into().expect("one record");
        assert_eq!((position.as_str(), reason.as_str()), ("products:7", "size: is missing"));
        assert_eq!(payload, r#"{"product_id":7,"size":null,"name":"Cookies"}"#);
        let name = sandbox.records("").await.remove(0).name;
        let edited = r#"{"product_id":7,"size":3,"name":"Cookies"}"#;
        assert_eq!(sandbox.replay(&name, edited, "").await.expect("taken"), 1);
        assert_eq!(sandbox.product("7").await.title, "Cookies");
    }
}

#[tokio::test]
async fn run_source_quarantines_what_is_no_number_in_sqlite() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("erp.db");
    std::fs::write(&file, "").expect("a file");
    let url = format!("sqlite:{}", file.display());
    let definition = build_erp(&url).await;
    execute(&url, "INSERT INTO products VALUES (8, 'many', 'Cake'), (9, 4.5, 'Pie')").await;
    let sandbox = Sandbox::new(vec![definition]).await;
    sandbox.run("erp").await.expect_err("two tables are amiss");
    let reasons: Vec<_> = sandbox.quarantined().await.into_iter().map(|(_, reason, _)| reason).collect();
    assert_eq!(reasons, ["size: is missing", "size: `many` is no integer", "size: `4.5` is no integer"]);
    assert_eq!(sandbox.counts("erp", "products").await, [5, 2, 3, 1]);
}

#[tokio::test]
async fn run_source_quarantines_rows_without_a_key() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("erp.db");
    std::fs::write(&file, "").expect("a file");
    for url in [format!("sqlite:{}", file.display()), storage::testing::postgres_database().await.url] {
        execute(&url, "CREATE TABLE stores (at TEXT, store_id BIGINT, name TEXT)").await;
        execute(&url, "CREATE TABLE tills (store_id BIGINT, till BIGINT)").await;
        execute(&url, "INSERT INTO tills VALUES (7, 1), (7, 2)").await;
        // More than a page before and after: neither engine's place for NULL hides them.
        for (from, to) in [(1001, 1600), (2001, 2600)] {
            let rows: Vec<_> = (from..=to).map(|number| format!("('2017', {number}, 'Store')")).collect();
            execute(&url, &format!("INSERT INTO stores VALUES {}", rows.join(", "))).await;
            execute(&url, "INSERT INTO stores VALUES ('2017', NULL, 'a'), (NULL, 7, 'b'), ('', 8, 'c')")
                .await;
        }
        let definition = format!(
            r#"
            system = "erp"
            sql = {{ url = "{url}" }}
            [[entity]]
            name = "stores"
            table = "stores"
            key = ["at", "store_id"]
            children = [{{ name = "tills", table = "tills", key = "store_id", order = "till" }}]
            expect = [["at", "text"], ["store_id", "integer"], ["name", "text"], ["tills[].till", "integer"]]
            "#
        );
        let definition = || vec![Definition::parse(&definition, "erp.toml").expect("a definition")];
        let sandbox = Sandbox::new(definition()).await;
        for _ in 0..2 {
            sandbox.run("erp").await.expect("a run");
            assert_eq!(sandbox.counts("erp", "stores").await, [1203, 1200, 3, 1]);
        }
        let mut found = sandbox.quarantined().await;
        assert!(found.iter().all(|(position, ..)| position.starts_with("stores#")), "{found:?}");
        found.sort_by(|a, b| a.2.cmp(&b.2));
        let found: Vec<_> = found.iter().map(|(_, reason, row)| (reason.as_str(), row.as_str())).collect();
        let expect = [
            ("at: is missing", r#"{"at":"","store_id":8,"name":"c","tills":[]}"#),
            ("store_id: is missing", r#"{"at":"2017","store_id":null,"name":"a","tills":[]}"#),
            ("at: is missing", r#"{"at":null,"store_id":7,"name":"b","tills":[{"till":1},{"till":2}]}"#),
        ];
        assert_eq!(found, expect);

        // A new one beside those that are known, one of which was taken in meanwhile.
        let name = sandbox.records("").await.remove(0).name;
        sandbox.replay(&name, r#"{"at":"2017","store_id":9,"name":"z"}"#, "").await.expect("taken");
        execute(&url, "INSERT INTO stores VALUES ('2018', NULL, 'd'), ('2018', 1, 'e')").await;
        sandbox.run("erp").await.expect("a run");
        assert_eq!(sandbox.counts("erp", "stores").await, [1205, 1202, 3, 1]);

        let rows: Vec<_> = (0..1000).map(|number| format!("('', {number}, '')")).collect();
        execute(&url, &format!("INSERT INTO stores VALUES {}, ('2019', 1, 'f')", rows.join(", "))).await;
        let status = sandbox.run("erp").await.expect_err("a bad key");
        assert!(status.message().contains("in more than 1000 rows: choose another"), "{}", status.message());
        assert_eq!(sandbox.counts("erp", "stores").await, [1206, 1203, 3, 1]);
    }
}
