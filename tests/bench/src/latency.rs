//! How long callers wait.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use omnimesh_proto::{
    inventory::v1::{
        AdjustStockRequest, ListStocksRequest, WatchStockRequest,
        inventory_service_client::InventoryServiceClient,
    },
    order::v1::{GetOrderRequest, ListOrdersRequest, order_service_client::OrderServiceClient},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    Figure, load,
    node::{Client, Node},
};

const REQUESTS_PER_SECOND: u32 = 200;
const REQUESTS: u32 = 4_000;
const WRITES: u32 = 500;

pub(crate) async fn measure(binary: &Path, directory: &Path, runs: u32) -> anyhow::Result<Vec<Figure>> {
    let mut get = Figure::new("GetOrder through the edge at 200/s, p99", "ms", "< 5");
    let mut watch = Figure::new("acknowledged write to its event, p99", "ms", "< 100");
    let node: Node = load::loaded(binary, directory).await?;
    for _ in 0..runs {
        get.values.push(get_order(node.client().await?).await?);
        watch.values.push(watch_stock(node.client().await?).await?);
    }
    node.stop().await?;
    Ok(vec![get, watch])
}

fn p99(histogram: &Histogram<u64>) -> f64 {
    histogram.value_at_quantile(0.99) as f64 / 1000.0
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

/// An open loop: a request is sent when it is due, whatever became of those before, and its time counts from then.
async fn get_order(client: Client) -> anyhow::Result<f64> {
    let client = OrderServiceClient::new(client);
    let request = ListOrdersRequest { page_size: 1_000, ..ListOrdersRequest::default() };
    let orders = client.clone().list_orders(request).await?.into_inner().orders;
    anyhow::ensure!(!orders.is_empty(), "there are no orders");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for index in 0..REQUESTS as usize {
        let due = ticks.tick().await;
        let mut client = client.clone();
        // A step that is prime to the page's length visits every order.
        let name = orders[index * 7 % orders.len()].name.clone();
        calls.spawn(async move {
            client.get_order(GetOrderRequest { name }).await?;
            Ok::<_, tonic::Status>(due.elapsed())
        });
    }
    let mut histogram = Histogram::<u64>::new(3)?;
    while let Some(elapsed) = calls.join_next().await {
        histogram.record(micros(elapsed??))?;
    }
    Ok(p99(&histogram))
}

/// One write after another; each one's event is awaited.
async fn watch_stock(client: Client) -> anyhow::Result<f64> {
    let mut client = InventoryServiceClient::new(client);
    let request = ListStocksRequest { page_size: 1, ..ListStocksRequest::default() };
    let stock = client.list_stocks(request).await?.into_inner().stocks.pop().context("there is no stock")?;
    let mut events = client.watch_stock(WatchStockRequest::default()).await?.into_inner();
    // The bookmark that tells where the stream begins.
    events.message().await?;
    let mut histogram = Histogram::<u64>::new(3)?;
    for number in 0..WRITES {
        let quantity = if number % 2 == 0 { 1 } else { -1 };
        let request =
            AdjustStockRequest { name: stock.name.clone(), quantity, ..AdjustStockRequest::default() };
        let mut writer = client.clone();
        let write = async move {
            let answer = writer.adjust_stock(request).await?;
            Ok::<_, tonic::Status>((Instant::now(), answer.into_inner().stock.unwrap_or_default().etag))
        };
        let read = async {
            loop {
                let event = events.message().await?.context("the stream ended")?;
                if let Some(stock) = event.stock {
                    return anyhow::Ok((Instant::now(), stock.etag));
                }
            }
        };
        let (written, read) = tokio::join!(write, read);
        let ((acknowledged, etag), (heard, told)) = (written?, read?);
        anyhow::ensure!(etag == told, "another event came first");
        histogram.record(micros(heard.saturating_duration_since(acknowledged)))?;
    }
    Ok(p99(&histogram))
}
