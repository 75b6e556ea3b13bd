//! The demo from one end to the other: what the edge and the lake give out is what the sources hold, to the cent.

use std::os::unix::fs::PermissionsExt;

use omnimesh_proto::order::v1::{
    GetOrderRequest, ListOrdersRequest, ListOrdersResponse, order_service_client::OrderServiceClient,
};
use serde_json::{Value, json};
use tokio::process::Command;
use tonic::Code;

use crate::{
    client::{grpc, grpc_web},
    deployment::{DEMO, Deployment, admin_key_file},
    report::{differences, keys, table},
};

/// The baskets of a tenth of the households, as they can be counted in the dataset's Parquet files.
const BASKETS: Totals = Totals { orders: 16_907, lines: 153_294, total_minor: 47_806_733 };
/// Tables of the lake that keep what no longer stands.
const HISTORIES: [&str; 4] = ["identity_links", "products_scd", "stock_ledger", "users_scd"];
const LIST_ORDERS: &str = "omnimesh.order.v1.OrderService/ListOrders";

/// What orders add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    orders: usize,
    lines: usize,
    total_minor: i64,
}

/// Reads all orders, page by page.
async fn totals(mut list: impl AsyncFnMut(ListOrdersRequest) -> ListOrdersResponse) -> Totals {
    let mut totals = Totals::default();
    let mut request = ListOrdersRequest { page_size: 1_000, ..ListOrdersRequest::default() };
    loop {
        let page = list(request.clone()).await;
        totals.orders += page.orders.len();
        totals.lines += page.orders.iter().map(|order| order.lines.len()).sum::<usize>();
        totals.total_minor += page.orders.iter().map(|order| order.total_minor).sum::<i64>();
        if page.next_page_token.is_empty() {
            return totals;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn what_went_in_comes_out_everywhere_and_stays() {
    let deployment = Deployment::embedded();
    deployment.load().await;
    let loaded = deployment.verify().await;
    lake_holds_the_baskets(&loaded);

    // The second process finds nothing new, and serves what the first has left.
    let mut process = deployment.up(&DEMO);
    process.ready().await;
    edge_gives_out_the_baskets(&deployment).await;
    edge_refuses_strangers(&deployment).await;
    edge_answers_sql(&deployment).await;
    let mode =
        std::fs::metadata(admin_key_file(deployment.path())).expect("the key's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner reads the administrator's key");
    json_keeps_its_keys(&deployment, &loaded).await;
    assert_eq!(differences(&deployment.verify().await, &loaded), [""; 0], "while it runs");

    let ended = process.stop("TERM").await;
    assert_eq!((ended.code, ended.stderr.contains("WARN")), (Some(0), false), "{}", ended.stderr);
    assert_eq!(differences(&deployment.verify().await, &loaded), [""; 0], "after it ran");
}

fn lake_holds_the_baskets(report: &Value) {
    let orders = table(report, "orders_unified");
    assert_eq!(orders["rows"], BASKETS.orders);
    assert_eq!(orders["sums"]["lines"], BASKETS.lines);
    assert_eq!(orders["sums"]["total_minor"], BASKETS.total_minor);
    assert_eq!(orders["sums"]["lines.amount_minor"], BASKETS.total_minor);
}

async fn edge_gives_out_the_baskets(deployment: &Deployment) {
    let (edge, key) = (deployment.address(), deployment.key());
    let client = OrderServiceClient::new(grpc(edge, Some(key.clone())).await);
    let mut client = client.max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
    let over_grpc =
        totals(async |request| client.list_orders(request).await.expect("a page").into_inner()).await;
    assert_eq!(over_grpc, BASKETS);
    let over_web =
        totals(async |request| grpc_web(edge, &key, LIST_ORDERS, &request).await.expect("a page")).await;
    assert_eq!(over_web, BASKETS);
}

async fn edge_answers_sql(deployment: &Deployment) {
    // Tests start in their crate's directory.
    let answered = Command::new("python3")
        .args(["../../tests/python/flight_check.py", &format!("grpc://{}", deployment.address()), "totals"])
        .arg(format!("x-api-key={}", deployment.key()))
        .output()
        .await
        .expect("python3 is needed by the tests: `make test` installs it");
    let said = String::from_utf8_lossy(&answered.stdout);
    let expected = format!("{} {} {}", BASKETS.orders, BASKETS.lines, BASKETS.total_minor);
    assert_eq!(said.trim(), expected, "{}", String::from_utf8_lossy(&answered.stderr));
}

async fn edge_refuses_strangers(deployment: &Deployment) {
    let (edge, key) = (deployment.address(), deployment.key());
    let (last, rest) = key.chars().next_back().zip(key.get(..key.len() - 1)).expect("a key");
    let garbled = format!("{rest}{}", if last == 'x' { 'y' } else { 'x' });
    for wrong in [None, Some(garbled.clone()), Some("nonsense".to_owned())] {
        let mut client = OrderServiceClient::new(grpc(edge, wrong.clone()).await);
        let refused = client.list_orders(ListOrdersRequest::default()).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated, "with the key {wrong:?}");
    }
    let everything = ListOrdersRequest::default();
    let refused = grpc_web::<ListOrdersResponse>(edge, &garbled, LIST_ORDERS, &everything).await;
    assert_eq!(refused, Err(Code::Unauthenticated));
    let mut client = OrderServiceClient::new(grpc(edge, Some(key)).await);
    let absent = client.get_order(GetOrderRequest { name: "orders/none".to_owned() }).await;
    assert_ne!(absent.expect_err("there is no such order").code(), Code::Unauthenticated);
}

/// Every table of the lake with its rows.
fn sizes(report: &Value) -> Vec<(&Value, &Value)> {
    let tables = report["lake"].as_array().expect("a list of tables").iter();
    tables.map(|table| (&table["table"], &table["rows"])).collect()
}

/// Programs read these: a key that goes or is called something else breaks them.
async fn json_keeps_its_keys(deployment: &Deployment, verified: &Value) {
    const LAKE: [&str; 5] = ["lake.digest", "lake.layer", "lake.rows", "lake.sums", "lake.table"];
    assert_eq!(
        keys(verified),
        [&["checks.finding", "checks.holds", "checks.name"], &LAKE[..], &["sound"]].concat()
    );

    // The demo's junk waits in quarantine, which is worth an exit code.
    let ended = deployment.start("status", &["--json"]).ended().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let status: Value = serde_json::from_str(&ended.stdout).expect("status prints JSON");
    let quarantine = [
        "quarantine.entity",
        "quarantine.name",
        "quarantine.position",
        "quarantine.reason",
        "quarantine.system",
    ];
    let running = ["running.admin", "running.listen", "running.pid", "running.roles"];
    let sources =
        ["sources.applied", "sources.entity", "sources.landed", "sources.quarantined", "sources.system"];
    let lake = ["lake.layer", "lake.rows", "lake.table", "lake.version"];
    assert_eq!(keys(&status), [&lake[..], &quarantine, &running, &sources].concat());
    // Of histories, `status` counts the superseded rows as well, `verify` what stands.
    let is_history = |table: &Value| HISTORIES.iter().any(|history| table == history);
    let size_of_others =
        |report| sizes(report).into_iter().filter(|(table, _)| !is_history(table)).collect::<Vec<_>>();
    // It counts computed tables, too.
    let sizes = size_of_others(&status);
    for size in size_of_others(verified) {
        assert!(sizes.contains(&size), "{size:?} is not among {sizes:?}");
    }
    assert_eq!(status["running"]["listen"], json!(deployment.address()));
}
