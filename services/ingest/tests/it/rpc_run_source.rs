//! RunSource: what becomes of records, good and bad.

use omnimesh_proto::{
    order::v1::{Channel, OrderStatus},
    r#type::v1::SourceRef,
};
use storage::sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, any::install_default_drivers};
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::{POS_HEADER, Silo, document, row},
};

fn source_ref(system: &str, id: &str) -> SourceRef {
    SourceRef { system: system.to_owned(), id: id.to_owned() }
}

fn seconds(text: &str) -> prost_types::Timestamp {
    types::Timestamp::parse(text).expect("a time").into()
}

#[tokio::test]
async fn run_source_makes_orders_of_grouped_rows() {
    let silo = Silo::new();
    silo.pos("pos/330/2017-01-01.csv", &[row("3-1", 1, "7", 2, "1.50"), row("3-1", 2, "8", 0, "-0.5"), row("3-2", 1, "7", 1, "1")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let end = sandbox.run("pos").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count, end.object_count, end.object_total), (3, 0, 1, 1));
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 3, 0, 1]);

    let held = sandbox.domains.held();
    assert_eq!(held.orders.keys().collect::<Vec<_>>(), ["pos:330/3-1", "pos:330/3-2"]);
    let order = &held.orders["pos:330/3-1"];
    assert_eq!(order.channel, i32::from(Channel::Pos));
    assert_eq!(order.location_id, "330");
    assert_eq!(order.order_time, Some(seconds("2017-01-01T11:53:26Z")));
    assert_eq!(order.status, i32::from(OrderStatus::Completed));
    assert_eq!(order.currency_code, "USD");
    assert_eq!(order.customer, Some(source_ref("loyalty", "601")));
    assert_eq!(order.references, [source_ref("shop", "S-1")]);
    let lines: Vec<_> =
        order.lines.iter().map(|line| (line.sku.as_str(), line.quantity, line.amount_minor, line.discount_minor)).collect();
    assert_eq!(lines, [("7", 2, 150, 15), ("8", 0, -50, 15)]);
    let [payment] = order.payments.as_slice() else { panic!("one payment") };
    assert_eq!((payment.psp_ref.as_str(), payment.method.as_str(), payment.amount_minor), ("psp_9", "card", 100));
}

#[tokio::test]
async fn run_source_makes_an_order_and_a_person_of_a_document() {
    let silo = Silo::new();
    silo.write("marketplace/orders-2017-01.jsonl", &(document("114-1", "SHIPPED", "0.50") + "\n"));
    let sandbox = Sandbox::new(silo.source("marketplace")).await;
    sandbox.run("marketplace").await.expect("a run");
    assert_eq!(sandbox.counts("marketplace", "orders").await, [1, 1, 0, 1]);

    let held = sandbox.domains.held();
    let order = &held.orders["marketplace:114-1"];
    assert_eq!(order.version, types::Timestamp::parse("2017-01-02T08:10:00Z").expect("a time").micros());
    assert_eq!(order.status, i32::from(OrderStatus::Completed));
    assert_eq!((order.lines[0].amount_minor, order.lines[0].discount_minor), (50, 25));
    assert_eq!(order.customer, Some(source_ref("marketplace", "B1")));
    let person = &held.identities["marketplace:B1"];
    assert_eq!((person.given_name.as_str(), person.family_name.as_str()), ("MARIA", "LOPEZ"));
    assert_eq!((person.email.as_str(), person.phone.as_str()), ("m@example.com", ""));
    assert_eq!(person.address, None);
    assert_eq!(person.update_time, Some(seconds("2017-01-01T11:53:26Z")));
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
        let order = format!(
            "INSERT INTO orders VALUES ('S-{number:04}', 'C-1', '2017-01-01T11:53:26Z', 'delivered', 'USD', 300, 330, \
             '114-1', '2017-01-{:02}T00:00:00Z')",
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
    for (entity, counts) in [("customers", [1, 1, 0, 1]), ("products", [1, 1, 0, 1]), ("orders", [1203, 1203, 0, 1])] {
        assert_eq!(sandbox.counts("shop", entity).await, counts, "{entity}");
    }
    let held = sandbox.domains.held();
    assert_eq!(held.orders.len(), 1203);
    let order = &held.orders["shop:S-0001"];
    let lines: Vec<_> = order.lines.iter().map(|line| (line.sku.as_str(), line.amount_minor, line.discount_minor)).collect();
    assert_eq!(lines, [("7", 200, 15), ("8", 100, 0)]);
    assert_eq!(order.payments[0].psp_ref, "psp_9");
    assert_eq!(order.references, [source_ref("marketplace", "114-1")]);
    assert_eq!(held.orders["shop:S-0002"].payments, []);
    assert_eq!(held.identities["shop:C-1"].address.as_ref().map(|address| address.street.as_str()), Some("12 \"Oak\" St"));
    // The path ends where the source knows no more.
    assert_eq!(held.products["7"].category_path, ["GROCERY"]);
    assert_eq!(held.products["7"].manufacturer_id, "69");

    // Nothing new, then a changed order and a new one.
    let calls = sandbox.domains.calls();
    sandbox.run("shop").await.expect("a run");
    assert_eq!(sandbox.domains.calls(), calls);
    let mut shop = AnyConnection::connect(url).await.expect("a database");
    shop.execute("UPDATE orders SET total_minor = 1, updated_at = '2017-02-01T00:00:00Z' WHERE order_id = 'S-0005'")
        .await
        .expect("an update");
    shop.close().await.expect("closed");
    let end = sandbox.run("shop").await.expect("a run");
    assert_eq!(end.record_count, 1);
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
    let definition = ingest::demo_sources(std::path::Path::new("."), Some(&url)).expect("definitions").remove(0);
    check_shop(&url, definition).await;
}

#[tokio::test]
async fn run_source_takes_members_and_stock() {
    let silo = Silo::new();
    silo.write(
        "loyalty/members.csv",
        "card_number,name,email,phone,street,city,postcode,enrolled_at,updated_at\n\
         601,\"LOPEZ, MARIA\",,614,,,,2016-05-17,\n",
    );
    silo.write("loyalty/coupons.csv", "coupon_upc,product_id,campaign_id\n1,2,3\n");
    silo.write("stock/opening_counts.csv", "reference,store_id,product_id,quantity,counted_at\nO-1,330,7,12,2017-01-01T00:00:00Z\n");
    silo.write("stock/deliveries.csv", "reference,store_id,product_id,quantity,delivered_at\nD-1,330,7,5,2017-01-02T00:00:00Z\n");
    let sandbox = Sandbox::new(silo.sources()).await;
    sandbox.run("loyalty").await.expect("a run");
    sandbox.run("stock").await.expect("a run");
    let held = sandbox.domains.held();
    let member = &held.identities["loyalty:601"];
    assert_eq!((member.given_name.as_str(), member.loyalty_card.as_str()), ("MARIA", "601"));
    assert_eq!(member.update_time, Some(seconds("2016-05-17T00:00:00Z")));
    assert_eq!(sandbox.counts("loyalty", "coupons").await, [1, 1, 0, 1]);
    let movements: Vec<_> = held.movements.iter().map(|(key, movement)| (key.as_str(), movement.kind, movement.quantity)).collect();
    assert_eq!(movements, [("stock:deliveries/D-1", 2, 5), ("stock:opening_counts/O-1", 1, 12)]);
}

#[tokio::test]
async fn run_source_quarantines_bad_records_alone() {
    let good = row("3-1", 1, "7", 2, "1.50");
    let fields = |receipt: &str| format!("330,{receipt},91,2017-01-01 12:00:00,,1,7,1");
    let pos = [
        (row("91-1", 1, "7", 1, "1.O9"), "amount: `1.O9` is no decimal number"),
        (row("91-1", 1, "7", 1, "1.005"), "amount: `1.005` has more than 2 decimals"),
        (row("91-1", 1, "", 1, "1.00"), "product_id: is missing"),
        (fields("91-2"), "the row has 8 columns, 16 are due"),
        (good.replace("11:53:26", "25:61:00"), "sold_at: `2017-01-01 25:61:00` is no datetime such as 2017-01-31 09:30:00"),
        (good.replace(",601,", ",\"601,"), "a quote is not closed"),
        (good.replace("601", "6\u{fffd}1"), "the text is not UTF-8"),
        ("330,3-1".to_owned(), "the row has 2 columns, 16 are due"),
    ];
    for (bad, reason) in pos {
        let silo = Silo::new();
        // Within a receipt, whose own rows must stay whole.
        silo.pos("pos/330/a.csv", &[good.clone(), bad.clone(), row("3-1", 2, "8", 1, "1.00")]);
        let sandbox = Sandbox::new(silo.source("pos")).await;
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [3, 2, 1, 1], "{bad}");
        assert_eq!(sandbox.domains.held().orders["pos:330/3-1"].lines.len(), 2, "{bad}");
        assert_eq!(sandbox.quarantined().await, [("330/a.csv:3".to_owned(), reason.to_owned(), bad)]);
    }
    let documents = [
        (document("9", "LOST", "0.50"), "`LOST` is no status that the mapping knows"),
        (document("9", "SHIPPED", "one"), "items[].amount: `one` is no decimal number"),
        (document("9", "SHIPPED", "0.50").replace("\"orderNo\":\"9\",", ""), "orderNo: is missing"),
        (document("9", "SHIPPED", "0.50").replace(r#"[{"line"#, r#"{"a":1,"b":[{"line"#).replace("}}],", "}}]},"), "items: is no array"),
        ("[1]".to_owned(), "the line is no JSON object"),
        (r#"{"orderNo":"9"#.to_owned(), "the line is no JSON: EOF while parsing a string at line 1 column 13"),
    ];
    for (bad, reason) in documents {
        let silo = Silo::new();
        // Last, as a file that was cut off ends.
        silo.write("marketplace/a.jsonl", &format!("{}\n{bad}", document("1", "SHIPPED", "0.50")));
        let sandbox = Sandbox::new(silo.source("marketplace")).await;
        sandbox.run("marketplace").await.expect("a run");
        assert_eq!(sandbox.counts("marketplace", "orders").await, [2, 1, 1, 1], "{bad}");
        assert_eq!(sandbox.quarantined().await, [("a.jsonl:2".to_owned(), reason.to_owned(), bad)]);
    }
}

#[tokio::test]
async fn run_source_quarantines_a_file_of_another_kind_as_one() {
    let silo = Silo::new();
    silo.write("pos/330/x.export.csv", "Bon;Kasse\n1;2\n");
    silo.write("pos/330/y.csv", "");
    silo.pos("pos/330/z.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let end = sandbox.run("pos").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count, end.object_count), (1, 2, 3));
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 1, 2, 3]);
    let expect = |file: &str, found: &str, payload: &str| {
        (file.to_owned(), format!("the header should be `{POS_HEADER}`, it is `{found}`"), payload.to_owned())
    };
    let quarantined = sandbox.quarantined().await;
    assert_eq!(
        quarantined,
        [expect("330/x.export.csv", "Bon;Kasse", "Bon;Kasse\n1;2\n"), expect("330/y.csv", "", "")]
    );
    // The file is put right: what was said of it is forgotten.
    silo.pos("pos/330/x.export.csv", &[row("3-9", 1, "7", 2, "1.50")]);
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 2, 1, 3]);
}

#[tokio::test]
async fn run_source_quarantines_what_a_domain_refuses() {
    for names_violations in [true, false] {
        let silo = Silo::new();
        let rows: Vec<_> = (0..40).flat_map(|n| [row(&format!("3-{n}"), 1, "7", 1, "1"), row(&format!("3-{n}"), 2, "8", 1, "1")]).collect();
        silo.pos("pos/330/a.csv", &rows);
        let sandbox = Sandbox::new(silo.source("pos")).await;
        sandbox.domains.refuse(&["330/3-7", "330/3-31"], names_violations);
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [80, 76, 4, 1]);
        assert_eq!(sandbox.domains.held().orders.len(), 38);
        let reason = if names_violations { "lines: are not to our taste" } else { "something is wrong" };
        let quarantined = sandbox.quarantined().await;
        let found: Vec<_> = quarantined.iter().map(|(position, reason, _)| (position.as_str(), reason.as_str())).collect();
        assert_eq!(
            found,
            [16, 17, 64, 65].map(|line| format!("330/a.csv:{line}")).each_ref().map(|position| (position.as_str(), reason))
        );
    }
}

#[tokio::test]
async fn run_source_names_what_it_cannot_read() {
    let silo = Silo::new();
    std::fs::remove_dir(silo.path("pos")).expect("removed");
    let sandbox = Sandbox::new(silo.sources()).await;
    for (system, place) in [("pos", silo.path("pos")), ("shop", silo.path("shop/shop.db"))] {
        let status = sandbox.run(system).await.expect_err("unreadable");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SOURCE_UNREADABLE"));
        assert!(status.message().contains(&place.display().to_string()), "{}", status.message());
    }
    assert!(!silo.path("shop/shop.db").exists());
}

#[tokio::test]
async fn run_source_refuses_unknown_sources_and_bad_names() {
    let sandbox = Sandbox::new(Silo::new().sources()).await;
    let status = sandbox.run("erp").await.expect_err("unknown");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SOURCE_NOT_FOUND"));
    let status = sandbox.run("").await.expect_err("no name");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
}

#[tokio::test]
async fn run_source_reads_parquet() {
    use arrow::{array::{ArrayRef, Int64Array, RecordBatch, StringArray}, datatypes::Schema};
    let silo = Silo::new();
    let columns: [(&str, ArrayRef); 3] = [
        ("sku", std::sync::Arc::new(StringArray::from(vec!["7", "8"]))),
        ("size", std::sync::Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("extra", std::sync::Arc::new(StringArray::from(vec!["a", "b"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let schema: std::sync::Arc<Schema> = batch.schema();
    let file = std::fs::File::create(silo.path("stock/products.parquet")).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    silo.write("stock/torn.parquet", "PAR1");
    let definition = r#"
        system = "erp"
        [files]
        root = "stock"
        format = "parquet"
        [[entity]]
        name = "products"
        files = "*.parquet"
        expect = [["sku", "text"], ["size", "integer"]]
        map.product = { sku = "{sku}", package_size = "{size} OZ" }
    "#;
    let definition = ingest::Definition::parse(definition, "erp.toml").expect("a definition").below(&silo.path(""));
    let sandbox = Sandbox::new(vec![definition]).await;
    for _ in 0..2 {
        sandbox.run("erp").await.expect("a run");
        assert_eq!(sandbox.counts("erp", "products").await, [3, 1, 2, 2]);
    }
    assert_eq!(sandbox.domains.held().products["7"].package_size, "1 OZ");
    let quarantined = sandbox.quarantined().await;
    assert_eq!(quarantined[0].1, "size: is missing");
    assert!(quarantined[1].1.starts_with("the file is no Parquet: "), "{quarantined:?}");
}
