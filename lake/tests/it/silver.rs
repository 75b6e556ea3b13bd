//! Silver tables that are computed from what landed: each record once, in whichever order and however often it came.

use lake::{Outcome, TableSummary};
use omnimesh_proto::{
    identity::v1::{IdentityChanged, IdentityLink},
    ingest::v1::RecordsLanded,
    order::v1::{Channel, Order, OrderSource},
};
use tempfile::TempDir;

use crate::{
    landed, python,
    sandbox::Sandbox,
    world::{self, at, changed, order_changed, records, source},
};

const COMPUTED: [&str; 6] =
    ["campaign_members", "campaigns", "coupons", "demographics", "events_sessionized", "redemptions"];

/// A lake of the world and of what landed, all at once or shuffled, with its computed tables.
async fn lake(directory: &TempDir, shuffle: Option<u64>) -> (Sandbox, Vec<TableSummary>) {
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 8).await;
    landed::publish(&sandbox, shuffle).await;
    sandbox.export().await;
    let manifest = sandbox.run().await;
    for output in &manifest.outputs {
        assert!(matches!(output.outcome, Outcome::Published), "{}: {:?}", output.table, output.outcome);
    }
    let summary = lake::summary(sandbox.root()).await.unwrap();
    (sandbox, summary)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_landed_is_each_record_once_as_it_was_said_last() {
    let directory = TempDir::new().unwrap();
    let (sandbox, summary) = lake(&directory, None).await;
    let visitor = [
        "event_id",
        "event_type",
        "session_id",
        "session_seq",
        "customer_id",
        "golden_id",
        "sku",
        "order_uid",
    ];
    let events = sandbox.rows("silver/events_sessionized", &visitor).await;
    assert_eq!(events.len(), 52, "junk is no event");
    let of = |visitor: &str| -> Vec<String> {
        events.iter().filter(|event| event.starts_with(visitor)).cloned().collect()
    };
    assert_eq!(
        of("e-03-"),
        [
            "e-03-1|view|d-3/2017-03-01T01:03:00.500|1|||1|",
            "e-03-2|view|d-3/2017-03-01T01:03:00.500|2|||2|",
            "e-03-3|search|d-3/2017-03-01T02:04:00.500|1|3|golden-4||",
            "e-03-4|basket|d-3/2017-03-01T02:04:00.500|2|3|golden-4|2|",
            "e-03-5|purchase|d-3/2017-03-01T02:04:00.500|3|3|golden-4||order-3",
        ],
        "30 minutes are no pause, 31 are"
    );
    assert_eq!(of("e-00-1"), ["e-00-1|view|d-0/2017-03-01T01:00:00.500|1|||7|"], "corrected by a late file");

    let rows = async |table: &str, columns: &[&str]| sandbox.rows(&format!("silver/{table}"), columns).await;
    assert_eq!(
        rows("coupons", &["coupon_upc", "sku", "campaign_id"]).await,
        ["501|1|26", "501|2|26", "502|1|27"]
    );
    assert_eq!(
        rows("campaigns", &["campaign_id", "campaign_type", "starts_on", "ends_on"]).await,
        ["26|Type A|2017-01-01|2017-02-28", "27|Type B, local|2017-03-01|2017-04-01"]
    );
    let members = rows("campaign_members", &["campaign_id", "card_number", "golden_id"]).await;
    assert_eq!(members, ["26|6001|", "26|6002|", "27|6001|"]);
    let redeemed = rows("redemptions", &["card_number", "coupon_upc", "campaign_id", "redeemed_on"]).await;
    assert_eq!(redeemed, ["6001|501|26|2017-01-07", "6001|501|26|2017-01-08"]);
    let households = rows("demographics", &["card_number", "age", "kids_count"]).await;
    assert_eq!(households, ["6001|45-54|0"]);

    let verdict = python::judge(sandbox.root(), &summary);
    assert!(verdict.status.success(), "{}", python::said(&verdict));
    let again = sandbox.run().await;
    assert!(again.outputs.iter().all(|output| output.outcome == Outcome::Unchanged), "{:?}", again.outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_of_customers_of_whichever_shop_there_is() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    landed::publish(&sandbox, None).await;
    let known = [("web_shop", 3), ("web_shop", 6), ("outlet", 6)];
    let orders = known.map(|(shop, number)| {
        let origin =
            OrderSource { source: source(shop, number), role: "ORIGIN".to_owned(), ..OrderSource::default() };
        order_changed(&Order {
            order_uid: format!("{shop}-order-{number}"),
            channel: Channel::Web.into(),
            order_time: at(1),
            sources: vec![origin],
            ..Order::default()
        })
    });
    sandbox.publish("order", &orders, 3).await;
    let links = known.map(|(shop, number)| {
        let golden_id = format!("{shop}-golden-{number}");
        let subject = format!("identities/{golden_id}");
        let link =
            IdentityLink { source: source(shop, number), golden_id, link_time: at(1), unlink_time: None };
        let link = IdentityChanged { linked: vec![link], ..IdentityChanged::default() };
        changed("omnimesh.identity.v1.IdentityChanged", subject, &link)
    });
    sandbox.publish("identity", &links, 3).await;
    sandbox.export().await;
    sandbox.run().await;
    let columns = ["event_type", "customer_id", "golden_id", "order_uid"];
    let events = sandbox.rows("silver/events_sessionized", &columns).await;
    let purchases: Vec<_> = events.iter().filter(|event| event.starts_with("purchase|")).collect();
    assert_eq!(
        purchases,
        ["purchase|0||", "purchase|3|web_shop-golden-3|web_shop-order-3", "purchase|6||", "purchase|9||"],
        "what two shops say is nobody's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_of_whom_nobody_is_known_have_sessions_of_what_is_told_of_them() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    landed::publish_clicks(&sandbox, &["views", "purchases"]).await;
    let origin =
        OrderSource { source: source("shop", 3), role: "ORIGIN".to_owned(), ..OrderSource::default() };
    let order = Order {
        order_uid: "order-3".to_owned(),
        channel: Channel::Web.into(),
        order_time: at(1),
        sources: vec![origin],
        ..Order::default()
    };
    sandbox.publish("order", &[order_changed(&order)], 1).await;
    sandbox.export().await;
    sandbox.run().await;
    let events = sandbox.rows("silver/events_sessionized", &["event_type", "golden_id", "order_uid"]).await;
    let count = |event: &str| events.iter().filter(|row| *row == event).count();
    assert_eq!(
        (count("view||"), count("purchase||"), count("purchase||order-3"), events.len()),
        (24, 3, 1, 28),
        "{events:?}"
    );
    // 30 minutes are no pause, 33 are.
    assert_eq!(sandbox.rows("gold/fct_session", &["session_id"]).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_no_clock_can_have_meant_stop_no_table() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let view = |(id, time): (&str, &str)| {
        let rest = r#""session_id":"s","device_id":"d","product_id":"1""#;
        format!(r#"{{"event_id":"{id}","occurred_at":"{time}",{rest}}}"#)
    };
    let views = [
        ("unset", "0001-01-01T00:00:00Z"),
        ("right", "2017-03-02T01:00:00Z"),
        ("far", "2999-12-31T00:00:00Z"),
    ];
    let landings = [
        ("events", "views", views.map(view).to_vec()),
        ("loyalty", "campaign_descriptions", vec!["1,TypeA,2017-01-02,9999-12-31".to_owned()]),
    ];
    let landings = landings.map(|(system, entity, payloads)| {
        let lines: Vec<_> = (1..).map(|line: u32| line.to_string()).zip(payloads).collect();
        let landed = RecordsLanded {
            system: system.to_owned(),
            entity: entity.to_owned(),
            object: "file".to_owned(),
            record_count: lines.len() as i64,
            read_time: at(9_000),
            records: records(&lines).into(),
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{system}"), &landed)
    });
    sandbox.publish("ingest", &landings, 2).await;
    let order = Order { order_uid: "order-1".to_owned(), order_time: at(1), ..Order::default() };
    sandbox.publish("order", &[order_changed(&order)], 1).await;
    sandbox.export().await;
    sandbox.run().await;
    assert_eq!(sandbox.rows("silver/events_sessionized", &["event_id"]).await, ["right"]);
    let days = sandbox.rows("gold/dim_date", &["business_date"]).await;
    assert_eq!((days.first().unwrap().as_str(), days.last().unwrap().as_str()), ("1970-01-01", "2199-12-31"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lands_in_any_order_and_again_makes_the_same_tables() {
    let computed = |summary: Vec<TableSummary>| -> Vec<TableSummary> {
        summary.into_iter().filter(|table| COMPUTED.contains(&table.table.as_str())).collect()
    };
    let directory = TempDir::new().unwrap();
    let in_order = computed(lake(&directory, None).await.1);
    assert_eq!(in_order.len(), COMPUTED.len());
    for seed in 20..25 {
        let directory = TempDir::new().unwrap();
        assert_eq!(computed(lake(&directory, Some(seed)).await.1), in_order, "seed {seed}");
    }
}
