//! What is exported, that doing it again changes nothing, and that a torn table mends itself.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, BinaryArray, RecordBatch, StringArray},
    ipc::writer::StreamWriter,
};
use lake::{Config, Root, TableSummary, Version};
use omnimesh_proto::{
    ingest::v1::RecordsLanded,
    order::v1::{Order, OrderLine},
};
use tempfile::TempDir;

use crate::{
    history, python,
    sandbox::{Sandbox, until},
    world::{self, at, changed, order_changed},
};

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
    mend(&sandbox).await;
    assert_eq!(lake::summary(sandbox.root()).await.unwrap(), summaries);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_aside_with_its_version_and_names_no_other_rows() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let config = Config { root: sandbox.root().into(), ..Config::default() };
    let name = "bronze/bronze_shop__customers".parse().unwrap();
    for (seed, tag) in [(5, "train-before"), (6, "train-final")] {
        world::publish(&sandbox, seed).await;
        sandbox.export().await;
        lake::tag(&config, &name, &Version::Newest, tag, false).await.unwrap();
    }
    let table = sandbox.root().join(format!("{name}.lance"));
    let manifests = files(&table.join("_versions"));
    fs::write(manifests.iter().find(|path| path.ends_with(".manifest")).unwrap(), "").unwrap();
    world::publish(&sandbox, 7).await;
    sandbox.export().await;
    let tags = files(&table.join("_refs/tags"));
    assert!(tags.len() == 1 && tags.iter().all(|tag| tag.ends_with("train-before.json")), "{tags:?}");
}

/// Exports until no table is marked any more as one that lacks what it has lost.
pub(crate) async fn mend(sandbox: &Sandbox) {
    let marks = ["bronze", "silver"].map(|layer| sandbox.root().join("_quarantine").join(layer));
    let is_marked =
        || marks.iter().any(|layer| fs::read_dir(layer).is_ok_and(|mut tables| tables.next().is_some()));
    sandbox.export_until(until("tables still lack rows", async || !is_marked())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_of_a_torn_table_knows_what_came_instead() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let placed = async |number: i64| {
        let line = OrderLine { sku: "1".to_owned(), quantity: 1, ..OrderLine::default() };
        let order = Order {
            order_uid: format!("order-{number}"),
            order_time: at(number),
            lines: vec![line],
            ..Order::default()
        };
        sandbox.publish("order", &[order_changed(&order)], 1).await;
    };
    let sold = async || {
        sandbox.run().await;
        sandbox.rows("gold/fct_order_line", &["order_uid"]).await
    };
    for number in 1..=2 {
        placed(number).await;
        sandbox.export().await;
    }
    assert_eq!(sold().await, ["order-1", "order-2"]);
    let versions = sandbox.root().join("silver/orders_unified.lance/_versions");
    let manifests = files(&versions);
    fs::write(manifests.iter().find(|path| path.ends_with(".manifest")).unwrap(), "").unwrap();
    placed(3).await;
    sandbox.export().await;
    mend(&sandbox).await;
    // The version that was torn, and the one that has its number now, are of other rows.
    assert_eq!(files(&versions), manifests);
    assert_eq!(sold().await, ["order-1", "order-2", "order-3"]);
    placed(4).await;
    sandbox.export().await;
    assert_eq!(sold().await, ["order-1", "order-2", "order-3", "order-4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_torn_table_lost_comes_again_if_who_set_it_aside_was_killed() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    for seed in [3, 4] {
        world::publish(&sandbox, seed).await;
        sandbox.export().await;
    }
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    let [lost, whole] = ["bronze_shop__customers", "bronze_pos__transactions"];
    let quarantine = sandbox.root().join("_quarantine/bronze");
    for table in [lost, whole] {
        fs::create_dir_all(quarantine.join(table)).unwrap();
    }
    let manifests = files(&sandbox.root().join(format!("bronze/{lost}.lance/_versions")));
    let newest = Path::new(manifests.iter().find(|path| path.ends_with(".manifest")).unwrap());
    fs::rename(newest, quarantine.join(lost).join(newest.file_name().unwrap())).unwrap();
    assert_ne!(lake::summary(sandbox.root()).await.unwrap(), summaries);
    mend(&sandbox).await;
    assert_eq!(lake::summary(sandbox.root()).await.unwrap(), summaries);
}

/// Exports to an empty place, of which `remove` then takes tables away.
pub(crate) async fn fills_again_what_was_removed(root: &Root, remove: impl AsyncFn(String)) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 8).await;
    sandbox.export_then(root, async {}).await;
    let summaries = lake::summary(root).await.unwrap();
    let removed = ["bronze/bronze_shop__customers", "silver/orders_unified"];
    for table in removed {
        remove(format!("{table}.lance")).await;
    }
    assert_eq!(lake::summary(root).await.unwrap().len(), summaries.len() - removed.len());
    sandbox.export_then(root, async {}).await;
    assert_eq!(lake::summary(root).await.unwrap(), summaries);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_removed_is_filled_again() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("lake");
    let remove = async |table: String| fs::remove_dir_all(root.join(table)).unwrap();
    fills_again_what_was_removed(&Root::from(&root), remove).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_not_utf8_have_their_bytes_beside_them() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let texts = |texts: [&str; 2]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let own: [Option<&[u8]>; 2] = [Some(b"Jos\xe9,jose.q7zk@example.com"), None];
    let columns = [
        ("position", texts(["1", "2"])),
        ("payload", texts(["Jos\u{fffd},jose.q7zk@example.com", "Ren\u{e9}"])),
        ("bytes", Arc::new(BinaryArray::from_iter(own)) as ArrayRef),
    ];
    // With the bytes, and as earlier builds landed them.
    for columns in [&columns[..], &columns[..2]] {
        let batch = RecordBatch::try_from_iter(columns.to_vec()).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let payload = RecordsLanded {
            system: "pos".to_owned(),
            entity: "members".to_owned(),
            object: "members.csv".to_owned(),
            record_count: 2,
            read_time: at(1),
            records: writer.into_inner().unwrap().into(),
            ..RecordsLanded::default()
        };
        let landed = changed("omnimesh.ingest.v1.RecordsLanded", "sources/pos".to_owned(), &payload);
        sandbox.publish("ingest", &[landed], 1).await;
    }
    sandbox.export().await;
    let rows = async || sandbox.rows("bronze/bronze_pos__members", &["_payload", "_payload_bytes"]).await;
    let latin = "Jos\u{fffd},jose.q7zk@example.com|";
    let with_bytes = format!("{latin}{}", hex::encode(own[0].unwrap()));
    assert_eq!(rows().await, [latin, &with_bytes, "Ren\u{e9}|", "Ren\u{e9}|"]);
    let verdict = python::judge(sandbox.root(), &lake::summary(sandbox.root()).await.unwrap());
    assert!(verdict.status.success(), "{}", python::said(&verdict));

    let config = Config { root: sandbox.root().into(), ..Config::default() };
    let key = ["jose.q7zk@example.com".to_owned()];
    let erasure = lake::erase(&config, &key, false, &|_| {}).await.unwrap();
    assert!(erasure.verified, "{erasure:?}");
    assert_eq!(rows().await, ["Ren\u{e9}|", "Ren\u{e9}|"]);
}
