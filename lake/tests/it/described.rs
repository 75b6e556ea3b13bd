//! Every table says what it is and how fresh it is, every column what it holds and what that says of a person.

use std::collections::BTreeSet;

use arrow::{
    datatypes::DataType,
    util::display::{ArrayFormatter, FormatOptions},
};
use lake::{DatasetInfo, Layer};
use lance::Dataset;
use omnimesh_proto::ingest::v1::RecordsLanded;
use tempfile::TempDir;

use crate::{
    landed,
    sandbox::Sandbox,
    world::{self, PERSON, at, changed, records},
};

/// Columns that name an order, which is one person's, or what it was paid with.
const ORDERS: [&str; 5] = ["order_uid", "order_id", "source_id", "source_refs", "payments"];

/// A lake with a table of every kind, and with a person in all that say anything of persons.
async fn lake(directory: &TempDir) -> (Sandbox, Vec<DatasetInfo>) {
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 9).await;
    world::publish_person(&sandbox, true).await;
    landed::publish(&sandbox, None).await;
    let [.., card, account] = PERSON;
    let landings = [
        ("loyalty", "campaigns", format!("26,{card}")),
        ("loyalty", "redemptions", format!("{card},501,26,2017-01-07")),
        ("loyalty", "demographics", format!("{card},45-54,50-74K,Homeowner,Unmarried,1,1 Adult No Kids,0")),
        (
            "events",
            "views",
            format!(
                r#"{{"event_id":"late","occurred_at":"2017-03-02T01:00:00.5Z","session_id":"s","device_id":"d","#
            ) + &format!(r#""customer_id":"{account}","product_id":"1"}}"#),
        ),
    ];
    let landings = landings.map(|(system, entity, payload)| {
        let payload = RecordsLanded {
            system: system.to_owned(),
            entity: entity.to_owned(),
            object: "late".to_owned(),
            record_count: 1,
            read_time: at(9_000),
            records: records(&[("1".to_owned(), payload)]).into(),
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{system}"), &payload)
    });
    sandbox.publish("ingest", &landings, 4).await;
    sandbox.export().await;
    sandbox.run().await;
    let datasets = lake::datasets(&Sandbox::config(sandbox.root())).await.unwrap();
    let layers: BTreeSet<_> = datasets.iter().map(|dataset| dataset.layer.as_str()).collect();
    assert_eq!(layers, Layer::ALL.map(Layer::as_str).into());
    (sandbox, datasets)
}

async fn open(sandbox: &Sandbox, layer: &str, table: &str) -> Dataset {
    let path = sandbox.root().join(format!("{layer}/{table}.lance"));
    Dataset::open(path.to_str().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_every_column_is_described() {
    let directory = TempDir::new().unwrap();
    let (sandbox, datasets) = lake(&directory).await;
    for DatasetInfo { layer, table, card, columns, .. } in &datasets {
        for said in ["description", "grain", "key", "owner", "freshness"] {
            assert!(card.get(said).is_some_and(|said| !said.is_empty()), "{layer}/{table} has no {said}");
        }
        for column in columns {
            assert!(!column.description.is_empty(), "{layer}/{table}.{} says nothing", column.name);
        }
    }
    let keys = ["unheard@example.com".to_owned()];
    lake::erase(&Sandbox::config(sandbox.root()), &keys, false, &|_| {}).await.unwrap();
    for table in ["exports", "erasures"] {
        let dataset = open(&sandbox, "_meta", table).await;
        for said in ["description", "grain", "key", "owner", "freshness"] {
            assert!(
                dataset.metadata().contains_key(&format!("omnimesh.card.{said}")),
                "{table} has no {said}"
            );
        }
        for field in &dataset.schema().fields {
            assert!(field.metadata.contains_key("description"), "{table}.{} says nothing", field.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_that_tells_of_a_person_says_so() {
    let directory = TempDir::new().unwrap();
    let (sandbox, datasets) = lake(&directory).await;
    let person = PERSON.map(str::to_lowercase);
    let mut telling = BTreeSet::new();
    for DatasetInfo { layer, table, columns, .. } in &datasets {
        let rows = open(&sandbox, layer, table).await.scan().try_into_batch().await.unwrap();
        let is_of_persons = columns.iter().any(|column| column.pii == "direct");
        for (column, values) in columns.iter().zip(rows.columns()) {
            // What is made of a person's values stands for them, though it does not show them.
            let is_digest = ["hash", "sha256"].iter().any(|word| column.name.contains(word));
            let is_text =
                matches!(values.data_type(), DataType::Utf8 | DataType::List(_) | DataType::Struct(_));
            let options = FormatOptions::default();
            let texts = ArrayFormatter::try_new(values, &options).unwrap();
            let shows_person = |row| {
                let text = texts.value(row).to_string().to_lowercase();
                person.iter().any(|value| text.contains(value.as_str()))
            };
            let stands_for_person = ORDERS.contains(&&*column.name) || (is_digest && is_of_persons);
            if stands_for_person || (is_text && (0..rows.num_rows()).any(shows_person)) {
                telling.insert(format!("{layer}/{table}.{}", column.name));
                assert_ne!(column.pii, "none", "{layer}/{table}.{}", column.name);
            }
        }
    }
    for known in [
        "bronze/bronze_shop__customers._payload",
        "bronze/bronze_shop__customers._payload_sha256",
        "silver/users_scd.email",
        "silver/users_scd.source_refs",
        "silver/users_scd.hash_diff",
        "silver/identity_links.link_id",
        "silver/orders_unified.order_uid",
        "silver/orders_unified.payments",
        "silver/stock_ledger.source_id",
        "silver/redemptions.card_number",
        "silver/events_sessionized.customer_id",
        "gold/dim_customer.given_name",
        "gold/fct_order_line.golden_id",
        "gold/fct_order_line.order_uid",
        "features/customer_daily.golden_id",
        "features/order_fraud.order_uid",
        "embeddings/customers__svd64.entity_id",
    ] {
        assert!(telling.contains(known), "{known} is not among {telling:?}");
    }
}
