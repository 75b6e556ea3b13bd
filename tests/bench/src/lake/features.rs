//! Online features of customers, products and orders, as a client asks for them.
//!
//! What the demo's customers bought is too long ago to count today, so that a deployment of its own gets recent orders.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use futures::{TryStreamExt, stream};
use hdrhistogram::Histogram;
use omnimesh_proto::{
    feature::v1::{Entity, GetOnlineFeaturesRequest, feature_service_client::FeatureServiceClient},
    identity::v1::{
        IdentityRecord, ImportIdentityRecordsRequest, identity_service_client::IdentityServiceClient,
    },
    lake::v1::{RunDatasetsRequest, dataset_service_client::DatasetServiceClient},
    order::v1::{
        Channel, ImportOrdersRequest, LookupOrderRequest, OrderLine, SourceOrder,
        order_service_client::OrderServiceClient,
    },
    r#type::v1::SourceRef,
};

use crate::{
    demo::until,
    node::{Client, Node},
    table::Row,
};

const VIEWS: [&str; 3] = ["customer_daily", "product_daily", "order_fraud"];
const CUSTOMERS: u32 = 2_500;
const PRODUCTS: u32 = 5_000;
const ORDERS: u32 = 50_000;
const LINES: u32 = 3;
/// Of all orders together, the newest an hour ago.
const PERIOD: Duration = Duration::from_secs(80 * 86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// Records of a message.
const PORTION: usize = 1_000;
/// Each a customer, a product and an order, of which one alone has fewer features than Feast's 250.
const ENTITIES: u32 = 3;
const CALLS: u32 = 2_000;
/// What Feast publishes of its server in Java over Redis, at best: 250 features of an entity, p99 in milliseconds.
const FEAST: f64 = 1.3;

pub(crate) async fn measure(binary: &Path, directory: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let data_dir = directory.join("features");
    let node = Node::up(binary, &data_dir, &[]).await?;
    let client = node.client().await?;
    import(&client).await?;
    let request = until("orders have their customers", async || asked(&client).await).await?;
    let root = data_dir.join("lake");
    until("orders are in the lake", async || {
        let tables = lake::extents(&root).await?;
        let orders = tables.iter().find(|table| table.table == "orders_unified");
        anyhow::Ok(orders.map(|orders| orders.rows).filter(|rows| *rows == u64::from(ORDERS)))
    })
    .await?;
    let values = until("features are served", async || served(&client, &request).await).await?;
    let mut client = FeatureServiceClient::new(client);
    let mut p50 = Row::new(format!("{values} online features through the edge: p50, ms"), "", "");
    let mut p99 = Row::new("the same: p99, ms", "Feast, as published", "≤ 1");
    for round in 0..=rounds {
        let mut times = Histogram::<u64>::new(3)?;
        for _ in 0..CALLS {
            let request = request.clone();
            let start = Instant::now();
            client.get_online_features(request).await?;
            times.record(start.elapsed().as_nanos().try_into()?)?;
        }
        // The first one warms up.
        if round > 0 {
            p50.ours.push(times.value_at_quantile(0.5) as f64 / 1e6);
            p99.ours.push(times.value_at_quantile(0.99) as f64 / 1e6);
            p99.theirs.push(FEAST);
        }
    }
    node.stop().await?;
    Ok(vec![p50, p99])
}

fn source(kind: &str, number: u32) -> Option<SourceRef> {
    Some(SourceRef { system: "bench".to_owned(), id: format!("{kind}{number}") })
}

fn sku(number: u32) -> String {
    format!("sku-{}", number % PRODUCTS)
}

async fn import(client: &Client) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let records: Vec<_> = (0..CUSTOMERS)
        .map(|number| IdentityRecord {
            source: source("customer", number),
            email: format!("customer{number}@example.com"),
            update_time: Some(now.into()),
            ..IdentityRecord::default()
        })
        .collect();
    let portions: Vec<_> = records
        .chunks(PORTION)
        .map(|records| ImportIdentityRecordsRequest { records: records.to_vec() })
        .collect();
    IdentityServiceClient::new(client.clone()).import_identity_records(stream::iter(portions)).await?;
    let orders: Vec<_> = (0..ORDERS).map(|number| order(number, now)).collect();
    let portions: Vec<_> =
        orders.chunks(PORTION).map(|orders| ImportOrdersRequest { orders: orders.to_vec() }).collect();
    OrderServiceClient::new(client.clone()).import_orders(stream::iter(portions)).await?;
    Ok(())
}

/// An order, the older the higher its number.
fn order(number: u32, now: SystemTime) -> SourceOrder {
    let lines = (0..LINES).map(|line| OrderLine {
        // Steps that are prime to the number of products visit all of them.
        sku: sku(7 * number + 13 * line),
        quantity: i64::from(1 + line),
        amount_minor: i64::from(100 + number % 900),
        discount_minor: i64::from(number % 50),
    });
    SourceOrder {
        source: source("order", number),
        version: 1,
        channel: Channel::Pos.into(),
        location_id: (number % 20).to_string(),
        order_time: Some((now - HOUR - number * (PERIOD / ORDERS)).into()),
        currency_code: "USD".to_owned(),
        lines: lines.collect(),
        customer: source("customer", number % CUSTOMERS),
        ..SourceOrder::default()
    }
}

/// Asks for everything about the newest orders, once it is known whose they are.
async fn asked(client: &Client) -> anyhow::Result<Option<GetOnlineFeaturesRequest>> {
    let mut orders = OrderServiceClient::new(client.clone());
    let mut entities = Vec::new();
    for number in 0..ENTITIES {
        let found = orders.lookup_order(LookupOrderRequest { source: source("order", number) }).await?;
        let order = found.into_inner().order.context("an order without content")?;
        if order.golden_id.is_empty() {
            return Ok(None);
        }
        let sku = order.lines.into_iter().next().context("an order without lines")?.sku;
        let ids = [("golden_id", order.golden_id), ("sku", sku), ("order_uid", order.order_uid)];
        entities.push(Entity { ids: HashMap::from(ids.map(|(column, id)| (column.to_owned(), id))) });
    }
    let features = VIEWS.map(|view| format!("{view}:*")).to_vec();
    Ok(Some(GetOnlineFeaturesRequest { features, entities }))
}

/// Computes whatever has to be, so that nothing else is at work afterwards; how many values there are, once each view tells of each entity.
async fn served(client: &Client, request: &GetOnlineFeaturesRequest) -> anyhow::Result<Option<usize>> {
    let run = DatasetServiceClient::new(client.clone()).run_datasets(RunDatasetsRequest::default()).await?;
    run.into_inner().try_collect::<Vec<_>>().await?;
    let answer = FeatureServiceClient::new(client.clone()).get_online_features(request.clone()).await;
    // What was computed is served within seconds, and may be known only a minute later.
    let Ok(answer) = answer else { return Ok(None) };
    let entities = answer.into_inner().entities;
    let is_whole = entities.iter().all(|entity| entity.event_times.len() == VIEWS.len());
    let values = entities.iter().flat_map(|entity| &entity.values);
    Ok(is_whole.then(|| values.filter(|value| value.value.is_some()).count()))
}
