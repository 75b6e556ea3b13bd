//! Tables as Parquet: the same rows for every reader, written once.

use std::{fs::File, pin::pin, process::Command, time::Duration};

use lake::{Mirror, Root, TableName, Version};
use lance::Dataset;
use tempfile::TempDir;

use crate::{export::files, python::said, sandbox::Sandbox, world};

/// Tests start in their crate's directory.
const CHECK: &str = "../tests/python/mirror_check.py";

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_has_the_tables_rows_and_is_written_once() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 12).await;
    sandbox.export().await;
    let config = Sandbox::config(sandbox.root());
    lake::run(&config, &[], &|_| {}).await.unwrap();
    let out = directory.path().join("out");
    for table in ["silver/orders_unified", "silver/users_scd", "gold/fct_order_line"] {
        let name: TableName = table.parse().unwrap();
        let version = lake::tag(&config, &name, &Version::Newest, "train-1", false).await.unwrap();
        let tag = Version::Tag("train-1".to_owned());
        let first = lake::mirror(&config, &name, &tag, Some(&Root::from(&out))).await.unwrap();
        assert_eq!((first.version, first.tag.as_deref()), (version, Some("train-1")));
        let check = Command::new("python3")
            .args([CHECK, &sandbox.root().join(format!("{table}.lance")).display().to_string(), "train-1"])
            .arg(out.join(format!("parquet/{table}/v={version}")))
            .output()
            .unwrap();
        assert!(check.status.success(), "{}", said(&check));

        let before = modified(&out);
        assert_eq!(lake::mirror(&config, &name, &tag, Some(&Root::from(&out))).await.unwrap(), first);
        assert_eq!(modified(&out), before, "nothing is written again");
        let untagged = Version::Number(version);
        let again = lake::mirror(&config, &name, &untagged, Some(&Root::from(&out))).await.unwrap();
        assert_eq!((again.tag, again.parts, again.rows), (None, first.parts, first.rows));
    }
    let beside = lake::mirror(&config, &"gold/fct_order_line".parse().unwrap(), &Version::Newest, None).await;
    let beside = beside.unwrap();
    let place = format!("/lake/mirror/parquet/gold/fct_order_line/v={}", beside.version);
    assert!(beside.uri.ends_with(&place), "{}", beside.uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_place_opens_it() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish_stock(&sandbox, 2).await;
    let root = directory.path().join("a 50% lake");
    sandbox.export_then(&root, async {}).await;
    let config = Sandbox::config(&root);
    let datasets = lake::datasets(&config).await.unwrap();
    for dataset in &datasets {
        let opened = Dataset::open(&dataset.uri).await.unwrap();
        assert_eq!(opened.version().version, dataset.version, "{}", dataset.uri);
    }
    assert!(!datasets.is_empty());
    let name: TableName = "silver/inventory_snapshots".parse().unwrap();
    let mirrored = async || lake::mirror(&config, &name, &Version::Newest, None).await.unwrap();
    let before = mirrored().await;
    let place: Root = before.uri.parse().unwrap();
    let success = place.directory().unwrap().join("_SUCCESS.json");
    let elsewhere = Mirror { uri: "file://a 50% lake".to_owned(), ..before.clone() };
    std::fs::write(&success, serde_json::to_vec(&elsewhere).unwrap()).unwrap();
    assert_eq!(mirrored().await, before, "it is told where it is, not where it was");
    assert_eq!(serde_json::from_slice::<Mirror>(&std::fs::read(&success).unwrap()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_waits_for_an_erasure() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish_stock(&sandbox, 1).await;
    sandbox.export().await;
    let config = Sandbox::config(sandbox.root());
    let erasure = File::options().append(true).open(sandbox.root().join("_meta/lock")).unwrap();
    erasure.lock().unwrap();
    let name = "silver/inventory_snapshots".parse().unwrap();
    let mut mirror = pin!(lake::mirror(&config, &name, &Version::Newest, None));
    let waits = tokio::time::timeout(Duration::from_secs(1), &mut mirror).await;
    assert!(waits.is_err() && files(&sandbox.root().join("mirror")).is_empty(), "{waits:?}");
    drop(erasure);
    assert_eq!(mirror.await.unwrap().rows, 2);
}

/// Every file, and when it was written.
fn modified(directory: &std::path::Path) -> Vec<(String, std::time::SystemTime)> {
    let time = |file: &String| std::fs::metadata(file).unwrap().modified().unwrap();
    files(directory).into_iter().map(|file| (file.clone(), time(&file))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_mirrored() {
    let directory = TempDir::new().unwrap();
    let config = Sandbox::config(directory.path());
    let missing = lake::mirror(&config, &"gold/dim_nothing".parse().unwrap(), &Version::Newest, None).await;
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("gold/dim_nothing"), "{error}");
    assert_eq!(files(directory.path()).len(), 0);
}
