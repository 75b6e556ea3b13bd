//! What is exported, that doing it again changes nothing, and that a torn table mends itself.

use std::{collections::BTreeSet, fs, path::Path};

use lake::{Root, TableSummary};
use tempfile::TempDir;

use crate::{history, python, sandbox::Sandbox, world};

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { [path.display().to_string()].into() })
        .collect()
}

fn assert_holds(summaries: &[TableSummary], expected: &world::Expected) {
    let tables: Vec<_> = summaries.iter().map(|summary| summary.table.as_str()).collect();
    assert_eq!(tables.iter().copied().collect::<BTreeSet<_>>(), expected.keys().copied().collect());
    for summary in summaries {
        for (path, sum) in &expected[summary.table.as_str()] {
            let found = if path.is_empty() { summary.rows as i64 } else { summary.sums[*path] };
            assert_eq!(found, *sum, "{} {path}", summary.table);
        }
    }
}

/// Exports to two empty places; `files` tells what is in them.
pub(crate) async fn exports_every_event_once(
    root: &Root,
    other: &Root,
    files: impl AsyncFn() -> BTreeSet<String>,
) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let expected = world::publish(&sandbox, 1).await;
    sandbox.export_then(root, async {}).await;
    let summaries = lake::summary(root).await.unwrap();
    assert_holds(&summaries, &expected);
    let verdict = python::judge(root, &summaries);
    assert!(verdict.status.success(), "{}", python::said(&verdict));
    let extents = lake::extents(root).await.unwrap();
    let datasets = lake::datasets(&Sandbox::config(root)).await.unwrap();
    for ((extent, dataset), summary) in extents.iter().zip(&datasets).zip(&summaries) {
        let name = (&summary.layer, &summary.table);
        assert_eq!([(&extent.layer, &extent.table), (&dataset.layer, &dataset.table)], [name; 2]);
        // A bitemporal table has more rows than stand.
        let is_bitemporal = dataset.columns.iter().any(|column| column.name == "recorded_to");
        assert!(extent.rows == summary.rows || is_bitemporal && extent.rows > summary.rows, "{extent:?}");
    }
    assert_eq!([extents.len(), datasets.len()], [summaries.len(); 2]);

    let before = files().await;
    assert!(!before.is_empty());
    sandbox.export_then(root, async {}).await;
    assert_eq!(files().await, before);
    assert_eq!(lake::summary(root).await.unwrap(), summaries);

    sandbox.export_then(other, async {}).await;
    assert_eq!(lake::summary(other).await.unwrap(), summaries, "a lake made anew is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_in_its_table_once_and_again_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let [root, other] = ["lake", "other"].map(|name| Root::from(&directory.path().join(name)));
    exports_every_event_once(&root, &other, async || files(directory.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_later_are_exported_by_the_same_process() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = directory.path().join("early");
    sandbox.export_then(&root, async { drop(world::publish(&sandbox, 2).await) }).await;
    let expected = world::publish(&sandbox, 2).await;
    sandbox.export_then(&root, async {}).await;
    let summaries = lake::summary(&root).await.unwrap();
    let silver: Vec<_> = summaries.into_iter().filter(|summary| summary.layer == "silver").collect();
    let expected = expected.into_iter().filter(|(table, _)| !table.starts_with("bronze_")).collect();
    assert_holds(&silver, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_that_are_told_late_or_twice_make_the_same_tables() {
    for seed in 10..15 {
        let directory = TempDir::new().unwrap();
        let summaries = [false, true].map(async |shuffled| {
            let directory = directory.path().join(shuffled.to_string());
            fs::create_dir(&directory).unwrap();
            let sandbox = Sandbox::open(&directory).await;
            history::publish_histories(&sandbox, seed, shuffled).await;
            let summary = lake::summary(sandbox.root()).await.unwrap();
            // At no moment do periods overlap or leave a gap.
            let verdict = python::judge(sandbox.root(), &summary);
            assert!(verdict.status.success(), "{}", python::said(&verdict));
            summary
        });
        let [in_order, shuffled] = summaries;
        assert_eq!(shuffled.await, in_order.await, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_newest_manifest_is_set_aside_and_its_rows_come_again() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 3).await;
    sandbox.export().await;
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    for summary in &summaries {
        let table = sandbox.root().join(&summary.layer).join(format!("{}.lance", summary.table));
        let manifests = files(&table.join("_versions"));
        let newest = manifests.iter().find(|path| path.ends_with(".manifest")).unwrap();
        let whole = fs::read(newest).unwrap();
        let left = if summary.layer == "bronze" { 0 } else { whole.len() / 2 };
        fs::write(newest, &whole[..left]).unwrap();
    }
    sandbox.export().await;
    assert_eq!(lake::summary(sandbox.root()).await.unwrap(), summaries);
    assert_eq!(files(&sandbox.root().join("_quarantine")).len(), summaries.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_commits_are_put_together() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let commits = 70;
    for number in 1..=commits {
        world::publish_stock(&sandbox, number).await;
        sandbox.export().await;
    }
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    let on_hand = commits + (1..=commits).sum::<i64>();
    assert_eq!((summaries[0].rows as i64, summaries[0].sums["on_hand"]), (commits + 1, on_hand));
    let versions = files(&sandbox.root().join("silver/inventory_snapshots.lance/_versions"));
    assert!(versions.len() as i64 > commits + 1, "compaction commits as well");
    let before = files(sandbox.root());
    sandbox.export().await;
    assert_eq!(files(sandbox.root()), before, "the cursor outlives compaction");
}
