//! A source that numbers its customers as it numbers everything else: whoever is erased takes nothing along that only has
//! the same number.

use std::collections::BTreeMap;

use events::NewEvent;
use lake::Config;
use omnimesh_proto::{
    customer::v1::Customer,
    ingest::v1::RecordsLanded,
    order::v1::{Channel, Order, OrderLine, OrderSource},
};
use tempfile::TempDir;

use crate::{
    sandbox::Sandbox,
    world::{self, at, changed, customer_changed, linked, order_changed, records, source},
};

/// The customer of the shop who goes. It is also an order of the shop, a product, a quantity, a receipt, and a customer
/// of the marketplace.
const NUMBER: usize = 1_082_185;
/// By golden id, the system and the number that they are known by.
const GOES: (&str, &str, usize) = ("golden-ada-k3x9", "shop", NUMBER);
const STAYS: [(&str, &str, usize); 2] =
    [("golden-bob-p7w2", "shop", 2_082_185), ("golden-cid-m5v8", "marketplace", NUMBER)];

/// By entity and columns: a record of who goes, if there is one, and one of who stays.
const RECORDS: [(&str, &str, &str, Option<&str>, &str); 5] = [
    ("shop", "customers", "", Some(r#"{"id":1082185,"city":"Ulm"}"#), r#"{"id":2082185,"city":"Ulm"}"#),
    (
        "shop",
        "orders",
        "",
        Some(r#"{"order_id":1,"customer_id":1082185,"lines":[{"product_id":5,"quantity":1}]}"#),
        r#"{"order_id":1082185,"customer_id":2082185,"lines":[{"product_id":1082185,"quantity":1082185}]}"#,
    ),
    ("shop", "returns", "return_no,customer_id,product_id", Some("2,1082185,5"), "1082185,2082185,1082185"),
    ("pos", "receipts", "receipt_no,product_id,quantity", None, "1082185,1082185,1082185"),
    ("marketplace", "orders", "", None, r#"{"orderNo":"M-1","buyer":{"id":1082185}}"#),
];

fn landings() -> Vec<NewEvent> {
    let landing = |(system, entity, columns, goes, stays): (&str, &str, &str, Option<&str>, &str)| {
        let landed = goes.into_iter().chain([stays]).enumerate();
        let landed: Vec<_> = landed.map(|(at, payload)| (at.to_string(), payload.to_owned())).collect();
        let payload = RecordsLanded {
            system: system.to_owned(),
            entity: entity.to_owned(),
            object: entity.to_owned(),
            record_count: landed.len() as i64,
            read_time: at(1),
            records: records(&landed).into(),
            columns: columns.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{system}"), &payload)
    };
    RECORDS.into_iter().map(landing).collect()
}

fn customer((golden_id, system, number): (&str, &str, usize)) -> NewEvent {
    customer_changed(Customer {
        golden_id: golden_id.to_owned(),
        source_refs: source(system, number).into_iter().collect(),
        ..Customer::default()
    })
}

fn link((golden_id, system, number): (&str, &str, usize)) -> NewEvent {
    linked(golden_id, source(system, number))
}

/// Order `number` of the shop, of a product of the number `sku`, as many of it.
fn order(golden_id: &str, number: usize, sku: usize) -> NewEvent {
    let line =
        OrderLine { sku: sku.to_string(), quantity: sku as i64, amount_minor: sku as i64, discount_minor: 0 };
    order_changed(&Order {
        order_uid: format!("order-{number}"),
        golden_id: golden_id.to_owned(),
        channel: Channel::Web.into(),
        order_time: at(3),
        currency_code: "USD".to_owned(),
        total_minor: sku as i64,
        lines: vec![line],
        sources: vec![OrderSource {
            source: source("shop", number),
            role: "ORIGIN".to_owned(),
            ..OrderSource::default()
        }],
        ..Order::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_takes_nothing_along_that_has_the_same_number() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let people = [GOES, STAYS[0], STAYS[1]];
    sandbox.publish("ingest", &landings(), 1).await;
    sandbox.publish("customer", &people.map(customer), 3).await;
    sandbox.publish("identity", &people.map(link), 3).await;
    let orders = [order(GOES.0, 1, 5), order(STAYS[0].0, NUMBER, NUMBER)];
    sandbox.publish("order", &orders, 2).await;
    world::publish_stock(&sandbox, NUMBER as i64).await;
    sandbox.export().await;

    let config = Config { root: sandbox.root().into(), ..Config::default() };
    let erase = async |key: &str| lake::erase(&config, &[key.to_owned()], false, &|_| {}).await;
    let ambiguous = erase(&NUMBER.to_string()).await.unwrap_err().to_string();
    assert!(ambiguous.contains("<system>/<id>"), "{ambiguous}");
    let erasure = erase(&format!("shop/{NUMBER}")).await.unwrap();
    let lost: BTreeMap<_, _> =
        erasure.tables.iter().map(|(table, loss)| (table.as_str(), loss.rows)).collect();
    let bronze = ["customers", "orders", "returns"].map(|entity| format!("bronze/bronze_shop__{entity}"));
    let silver = ["identity_links", "orders_unified", "users_scd"].map(|table| format!("silver/{table}"));
    let expected: BTreeMap<_, _> = bronze.iter().chain(&silver).map(|table| (table.as_str(), 1)).collect();
    assert!(erasure.verified, "{erasure:?}");
    assert_eq!(expected, lost);

    // Whatever has the number may come again; who is erased may not.
    sandbox.publish("ingest", &landings(), 1).await;
    sandbox.publish("customer", &people.map(customer), 3).await;
    sandbox.publish("order", &orders, 2).await;
    sandbox.export().await;
    for (system, entity, _, _, stays) in RECORDS {
        let table = format!("bronze/bronze_{system}__{entity}");
        assert_eq!(sandbox.rows(&table, &["_payload"]).await, [stays, stays], "{table}");
    }
    let bob = STAYS[0].0;
    assert_eq!(sandbox.rows("silver/orders_unified", &["golden_id"]).await, [bob]);
    assert_eq!(sandbox.rows("silver/users_scd", &["golden_id"]).await, STAYS.map(|(person, _, _)| person));
    let stocks = sandbox.rows("silver/inventory_snapshots", &["sku"]).await;
    assert_eq!(stocks, ["0".to_owned(), NUMBER.to_string()]);
}
