//! Tables that are computed from other tables: what they come to, and that nothing is computed twice.

use lake::{Config, Manifest, Outcome, Root, TableName, Version};
use tempfile::TempDir;

use crate::{sandbox::Sandbox, world};

fn config(sandbox: &Sandbox) -> Config {
    Config { root: sandbox.root().into(), ..Config::default() }
}

async fn run(config: &Config) -> Manifest {
    let manifest = lake::run(config, &[], &|_| {}).await.unwrap();
    for output in &manifest.outputs {
        assert!(!matches!(output.outcome, Outcome::Failed { .. }), "{}: {:?}", output.table, output.outcome);
    }
    manifest
}

fn states(manifest: &Manifest) -> Vec<(&str, &Outcome)> {
    manifest.outputs.iter().map(|output| (output.table.as_str(), &output.outcome)).collect()
}

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_computes_what_changed_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let expected = world::publish(&sandbox, 1).await;
    sandbox.export().await;
    let config = config(&sandbox);
    let first = run(&config).await;
    assert!(states(&first).contains(&("gold/fct_order_line", &Outcome::Published)));
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    let lines = summaries.iter().find(|summary| summary.table == "fct_order_line").unwrap();
    let orders = &expected["orders_unified"];
    assert_eq!(lines.rows as i64, orders["lines"]);
    for column in ["quantity", "amount_minor"] {
        assert_eq!(lines.sums[column], orders[format!("lines.{column}").as_str()], "{column}");
    }

    let again = run(&config).await;
    for (table, outcome) in states(&again) {
        assert!(!matches!(outcome, Outcome::Published), "{table} was computed again");
    }
    assert_eq!(lake::summary(sandbox.root()).await.unwrap(), summaries);

    let runs = lake::runs(&config).await.unwrap();
    assert_eq!(runs.iter().map(|run| &run.run_id).collect::<Vec<_>>(), [&again.run_id, &first.run_id]);
    let output = first.outputs.iter().find(|output| output.table == "gold/fct_order_line").unwrap();
    let source =
        |column: &str| output.lineage[column].iter().map(|(_, field)| field.as_str()).collect::<Vec<_>>();
    assert_eq!(source("amount_minor"), ["lines"]);
    assert_eq!(output.inputs.keys().collect::<Vec<_>>(), ["silver/orders_unified"]);
    for dataset in lake::datasets(&config).await.unwrap() {
        if dataset.layer == "gold" {
            assert_eq!(dataset.tags["prod"], dataset.version, "{}", dataset.table);
        }
        if dataset.table == "orders_unified" {
            assert_eq!(dataset.tags[&first.tag()], output.inputs["silver/orders_unified"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_keeps_a_version_and_diff_tells_what_came_after() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 2).await;
    sandbox.export().await;
    let config = config(&sandbox);
    run(&config).await;
    let table = name("gold/fct_order_line");
    let tagged = lake::tag(&config, &table, &Version::Newest, "train-churn-2026").await.unwrap();
    let rows = lake::summary(sandbox.root()).await.unwrap();
    let before = rows.iter().find(|summary| summary.table == "fct_order_line").unwrap().rows;

    world::publish(&sandbox, 3).await;
    sandbox.export().await;
    run(&config).await;
    let kept = Version::Tag("train-churn-2026".to_owned());
    let same = lake::diff(&config, (&table, &kept), (&table, &Version::Number(tagged))).await.unwrap();
    assert!(same.is_empty() && same.rows == (before, before), "{same:?}");
    let news = lake::diff(&config, (&table, &kept), (&table, &Version::Newest)).await.unwrap();
    assert!(news.added.count > 0, "{news:?}");
    assert_eq!(news.rows.1, before + news.added.count - news.removed.count);

    let missing = lake::diff(&config, (&table, &Version::Tag("none".to_owned())), (&table, &kept)).await;
    assert!(missing.unwrap_err().to_string().contains("no table gold/fct_order_line at tag none"));
    let unknown = lake::run(&config, &[name("gold/fct_nothing")], &|_| {}).await;
    assert!(unknown.unwrap_err().to_string().contains("those that runs make are "));
}

/// Exports to two empty places: by four exporters at once, and by one.
pub(crate) async fn four_exporters_make_no_row_twice(root: &Root, alone: &Root) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 8).await;
    sandbox.export_then(alone, async {}).await;
    let exports = (0..4).map(|_| sandbox.export_then(root, async {}));
    futures::future::join_all(exports).await;
    assert_eq!(lake::summary(root).await.unwrap(), lake::summary(alone).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn four_exporters_at_once_make_no_row_twice() {
    let directory = TempDir::new().unwrap();
    let [root, alone] = ["lake", "alone"].map(|name| Root::from(&directory.path().join(name)));
    four_exporters_make_no_row_twice(&root, &alone).await;
}
