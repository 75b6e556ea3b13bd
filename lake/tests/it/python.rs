//! Python is the judge: an ML engineer's tools open what was exported and find in it what `lake::summary` says.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchIterator, StringArray, TimestampMicrosecondArray,
};
use lake::{Root, TableSummary};
use lance::Dataset;
use tempfile::TempDir;

use crate::{rpc_feature, sandbox::Sandbox, world};

/// Tests start in their crate's directory.
const CHECK: &str = "../tests/python/lake_check.py";
const QUERIES: &str = "../tests/python/flight_check.py";

pub(crate) fn judge(root: impl Into<Root>, summary: &[TableSummary]) -> Output {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("summary.json");
    fs::write(&file, serde_json::to_vec(summary).unwrap()).unwrap();
    let root = root.into().to_string();
    let check = Command::new("python3").arg(CHECK).arg(root).arg("--summary").arg(&file).output();
    check.unwrap_or_else(|error| {
        panic!("python3 does not start: {error}; `make test` installs what tests need")
    })
}

/// Lets Python query what serves the lake in `root`, as a consumer for whom the edge speaks.
pub(crate) async fn ask(root: &Path, what: &str) {
    let verdict = tokio::process::Command::new("python3")
        .args([QUERIES, &format!("grpc+unix://{}", Sandbox::socket(root).display()), what])
        .arg(format!("{}=analyst", mesh::CONSUMER_HEADER))
        .arg(format!("{}=lake.query", mesh::PERMISSIONS_HEADER))
        .output()
        .await
        .unwrap();
    assert!(verdict.status.success(), "{}", said(&verdict));
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_finds_in_every_table_what_the_summary_says() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let expected = world::publish(&sandbox, 5).await;
    sandbox.export().await;
    let mut summary = lake::summary(sandbox.root()).await.unwrap();
    assert_eq!(summary.len(), expected.len());

    let verdict = judge(sandbox.root(), &summary);
    assert!(verdict.status.success(), "{}", said(&verdict));

    summary[0].rows += 1;
    let verdict = judge(sandbox.root(), &summary);
    let fault = format!("FAILED {}/{}: rows is", summary[0].layer, summary[0].table);
    assert!(!verdict.status.success() && said(&verdict).contains(&fault), "{}", said(&verdict));
}

/// Lets the notebook make its frame of the lake in `root`, and compares that.
fn notebook(root: &Path, expected: &Path) -> Command {
    let mut check = Command::new("python3");
    check.args(["../tests/python/notebook_check.py", "notebooks/training_frame.ipynb"]).arg(expected);
    check.env("OMNIMESH_LAKE", root);
    check
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notebook_makes_the_frame_that_the_service_makes() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let expected = directory.path().join("expected.arrow");
    let mut orders = Vec::new();
    // Of the second half nothing was known when the first half was placed.
    for seed in 20..22 {
        let more = rpc_feature::orders(seed, 200);
        rpc_feature::publish(&sandbox, &more).await;
        orders.extend(more);
        let write = async |channel| fs::write(&expected, rpc_feature::frame(channel, &orders).await).unwrap();
        sandbox.serve_then(sandbox.root(), write).await;
    }
    let now = notebook(sandbox.root(), &expected).output().unwrap();
    assert!(now.status.success(), "{}", said(&now));

    for table in ["silver/orders_unified", "features/customer_daily"] {
        let path = sandbox.root().join(format!("{table}.lance"));
        let dataset = Dataset::open(path.to_str().unwrap()).await.unwrap();
        dataset.tags().create("train-r1", dataset.version().version).await.unwrap();
    }
    rpc_feature::publish(&sandbox, &rpc_feature::orders(22, 100)).await;
    sandbox.export().await;
    sandbox.run().await;
    let tagged = notebook(sandbox.root(), &expected).env("OMNIMESH_TAG", "train-r1").output().unwrap();
    assert!(tagged.status.success(), "{}", said(&tagged));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notebook_takes_what_became_known_last() {
    let text = |value: &str| Arc::new(StringArray::from_iter_values([value])) as ArrayRef;
    let numbers = |values: &[i64]| Arc::new(Int64Array::from_iter_values(values.iter().copied())) as ArrayRef;
    let days = |days: &[i64]| {
        let times = days.iter().map(|day| day * 24 * 60 * 60 * 1_000_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")) as ArrayRef
    };
    let order = [("order_uid", text("1")), ("golden_id", text("golden-1")), ("ordered_at", days(&[10]))];
    let found = |orders: &[i64], spend: &[i64], last: &[i64]| {
        [("orders_30d", numbers(orders)), ("spend_minor_90d", numbers(spend)), ("last_order_at", days(last))]
    };
    // Twice of the midnight to come, in a file that has the later word first.
    let twice = Arc::new(StringArray::from_iter_values(["golden-1"; 2])) as ArrayRef;
    let keys = [("golden_id", twice), ("event_time", days(&[8, 8])), ("known_at", days(&[7, 6]))];
    let features = keys.into_iter().chain(found(&[2, 1], &[200, 100], &[5, 4]));
    let spine = order.clone().into_iter().chain([("total_minor", numbers(&[100]))]);

    let directory = TempDir::new().unwrap();
    for (table, columns) in [
        ("silver/orders_unified", spine.collect::<Vec<_>>()),
        ("features/customer_daily", features.collect::<Vec<_>>()),
    ] {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let schema = rows.schema();
        let rows = RecordBatchIterator::new([Ok(rows)], schema);
        let path = directory.path().join(format!("{table}.lance"));
        let dataset = Dataset::write(rows, path.to_str().unwrap(), None).await.unwrap();
        dataset.tags().create("prod", dataset.version().version).await.unwrap();
    }
    let expected = directory.path().join("expected.arrow");
    // A customer's split is the same in every frame.
    let splits = [("split", text("train")), ("time_split", text("test"))];
    let frame = order.into_iter().chain(found(&[2], &[200], &[5])).chain(splits);
    fs::write(&expected, rpc_feature::encoded(&RecordBatch::try_from_iter(frame).unwrap())).unwrap();
    let verdict = notebook(directory.path(), &expected).output().unwrap();
    assert!(verdict.status.success(), "{}", said(&verdict));
}
