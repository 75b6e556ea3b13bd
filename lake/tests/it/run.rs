//! Tables that are computed from other tables: what they come to, and that nothing is computed twice.

use std::collections::BTreeSet;

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
    let sources = &output.lineage.columns["amount_minor"];
    assert_eq!(sources.iter().map(|source| source.field.as_str()).collect::<Vec<_>>(), ["lines"]);
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
    let tagged = lake::tag(&config, &table, &Version::Newest, "train-churn-2026", false).await.unwrap();
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

    let tag = async |tag: &str, force| lake::tag(&config, &table, &Version::Newest, tag, force).await;
    for (refused, reason) in [
        ("prod", "runs put and move it"),
        ("run-1", "runs put and move it"),
        ("2026", "it would be read as a version"),
        ("bad tag/..", "its name is letters, digits, "),
        ("v1..2", "single dots between them"),
        ("v1.lock", "without .lock at its end"),
        ("train-churn-2026", "`--force` moves it"),
    ] {
        let error = tag(refused, false).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(tag("train-churn-2026", true).await.unwrap() > tagged);

    for tag in ["none", "bad tag/.."] {
        let missing = lake::diff(&config, (&table, &Version::Tag(tag.to_owned())), (&table, &kept)).await;
        let error = missing.unwrap_err().to_string();
        assert!(error.contains(&format!("no table gold/fct_order_line at tag {tag}")), "{error}");
    }
    let unknown = lake::run(&config, &[name("gold/fct_nothing")], &|_| {}).await;
    assert!(unknown.unwrap_err().to_string().contains("those that runs make are "));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_once_go_on_from_each_other() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 4).await;
    sandbox.export().await;
    let config = config(&sandbox);
    let (one, other) = tokio::join!(run(&config), run(&config));
    let (first, second) = if one.started_at < other.started_at { (one, other) } else { (other, one) };
    let mut published = BTreeSet::new();
    for output in first.outputs.iter().filter(|output| output.version > 0) {
        assert_eq!(output.outcome, Outcome::Published, "{}", output.table);
        published.insert((&output.table, output.version));
    }
    for (output, outcome) in second.outputs.iter().zip(states(&second)) {
        assert_ne!(outcome.1, &Outcome::Published, "{}", output.table);
        assert!(
            output.version == 0 || published.contains(&(&output.table, output.version)),
            "{}",
            output.table
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_are_forgotten_but_what_they_made_is_known() {
    const RUNS: usize = 18;
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 5).await;
    sandbox.export().await;
    let config = config(&sandbox);
    let first = run(&config).await;
    for _ in 1..RUNS {
        lake::run(&config, &[name("gold/dim_date")], &|_| {}).await.unwrap();
    }
    let runs = lake::runs(&config).await.unwrap();
    assert!(runs.len() < RUNS, "{} runs", runs.len());
    assert!(runs.iter().any(|run| run.run_id == first.run_id), "what it made still stands");
    let files = |directory: &str, kind: &str| {
        let files = std::fs::read_dir(sandbox.root().join(directory)).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|k| k == kind)).count()
    };
    let kept = (files("_meta/runs", "json"), files("_meta/openlineage", "jsonl"));
    assert_eq!(kept, (runs.len(), runs.len()));
    let listed = sandbox.rows("_meta/exports", &["run_id", "outputs"]).await;
    let told = runs.iter().rev().zip(&listed).all(|(run, row)| row.starts_with(&run.run_id));
    assert!(told && listed.len() == runs.len(), "{listed:?}");
    assert!(!listed.iter().any(|row| row.contains("lineage")), "that is told of each run already");
    for (table, outcome) in states(&run(&config).await) {
        assert!(!matches!(outcome, Outcome::Published), "{table} was computed again");
    }
    let dates =
        lake::datasets(&config).await.unwrap().into_iter().find(|dataset| dataset.table == "dim_date");
    let tags = dates.unwrap().tags;
    assert!(tags.contains_key("prod") && !tags.contains_key(&first.tag()), "{tags:?}");
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
