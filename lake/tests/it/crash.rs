//! The process that exports, or computes, is killed at random moments and between any two steps of a commit; the lake
//! comes out as if nothing had happened, and meanwhile nobody reads a half of anything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lake::{Config, Error, Outcome, Root, TableName, Version};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use types::Timestamp;

use crate::{
    export::files,
    rpc_feature::{orders, publish},
    sandbox::Sandbox,
    world,
};

const KILLS: usize = 20;
const KILLS_OF_RUNS: usize = 6;
const VICTIM: &str = "OMNIMESH_LAKE_VICTIM";
/// What a victim leaves beside the lake that has got to its end.
const DONE: &str = "done";

/// Not a test by itself: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim_exports_until_it_is_killed() {
    let Some(directory) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let sandbox = Sandbox::open(&directory).await;
    sandbox.export_then(sandbox.root(), done(&directory)).await;
}

/// Not a test by itself either.
#[tokio::test(flavor = "multi_thread")]
async fn victim_computes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    Sandbox::open(&directory).await.run().await;
    done(&directory).await;
}

/// Waits to be killed.
async fn done(directory: &Path) {
    fs::write(directory.join(DONE), "").unwrap();
    std::future::pending().await
}

/// Runs a victim until the lake has so many files more, or everything.
fn kill_after(victim: &str, directory: &Path, more: usize) {
    let done = directory.join(DONE);
    fs::remove_file(&done).ok();
    let limit = files(&directory.join("lake")).len() + more;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([victim, "--exact"])
        .env(VICTIM, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while files(&directory.join("lake")).len() < limit && !done.exists() {
        assert!(victim.try_wait().unwrap().is_none(), "the victim died by itself");
        std::thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_the_lake_is_the_same() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 4).await;
    let undisturbed = directory.path().join("undisturbed");
    sandbox.export_then(&undisturbed, async {}).await;
    let whole = files(&undisturbed).len();

    // Together they get through about all of it.
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..KILLS {
        let more = random.random_range(1..2 * whole.div_ceil(KILLS));
        kill_after("crash::victim_exports_until_it_is_killed", directory.path(), more);
    }
    sandbox.export().await;
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    assert_eq!(summaries, lake::summary(&undisturbed).await.unwrap());
}

/// Who asks for no version of a table reads one that a run has named, and all of it; or finds none.
async fn assert_promised(config: &Config, tables: &[TableName]) {
    let runs = lake::runs(config).await.unwrap();
    for name in tables {
        let out = TempDir::new().unwrap();
        match lake::mirror(config, name, &Version::Published, Some(&Root::from(out.path()))).await {
            Ok(read) => {
                let mut outputs = runs.iter().flat_map(|run| &run.outputs);
                let is_named = outputs.any(|output| {
                    (&output.table, output.version, output.rows) == (&read.table, read.version, read.rows)
                });
                assert!(is_named, "{read:?}");
            }
            Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_computes_what_is_published_is_whole_and_then_the_same() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let config = Sandbox::config(sandbox.root());
    let undisturbed = directory.path().join("undisturbed");
    let mut random = ChaCha8Rng::seed_from_u64(41);
    // First all is computed, then what has changed.
    for seed in [41, 42] {
        world::publish(&sandbox, seed).await;
        sandbox.export().await;
        sandbox.export_then(&undisturbed, async {}).await;
        let before = files(&undisturbed);
        let outputs = lake::run(&Sandbox::config(&undisturbed), &[], &|_| {}).await.unwrap().outputs;
        let whole = files(&undisturbed).difference(&before).count();
        let tables = outputs.iter().filter(|output| output.version > 0);
        let tables: Vec<TableName> = tables.map(|output| output.table.parse().unwrap()).collect();
        for _ in 0..KILLS_OF_RUNS {
            let more = random.random_range(1..2 * whole.div_ceil(KILLS_OF_RUNS));
            kill_after("crash::victim_computes_until_it_is_killed", directory.path(), more);
            assert_promised(&config, &tables).await;
        }
        assert!(!sandbox.run().await.has_failed());
        assert_promised(&config, &tables).await;
        let gold = async |root: &Path| {
            let summaries = lake::summary(root).await.unwrap().into_iter();
            summaries.filter(|summary| summary.layer == "gold").collect::<Vec<_>>()
        };
        assert_eq!(gold(sandbox.root()).await, gold(&undisturbed).await);
        for dataset in lake::datasets(&config).await.unwrap().iter().filter(|table| table.layer == "gold") {
            assert_eq!(dataset.tags["prod"], dataset.version, "{}", dataset.table);
        }
    }
}

/// Takes a table back to where it was after its data files and before the manifest that names them.
fn uncommit(table: &Path) {
    // Lance counts manifests' names down, so that the newest comes first.
    fs::remove_file(files(&table.join("_versions")).first().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_data_and_commit_the_lake_is_the_same() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 6).await;
    sandbox.export().await;
    world::publish(&sandbox, 7).await;
    sandbox.export().await;
    let undisturbed = lake::summary(sandbox.root()).await.unwrap();
    // A round of an exporter writes its tables in the order of their names, so the last of them may lack its commit
    // alone; a silver table is alone in its round.
    let last_bronze = undisturbed.iter().rfind(|table| table.layer == "bronze");
    for table in last_bronze.into_iter().chain(undisturbed.iter().filter(|table| table.layer == "silver")) {
        uncommit(&sandbox.root().join(&table.layer).join(format!("{}.lance", table.table)));
    }
    assert_ne!(lake::summary(sandbox.root()).await.unwrap(), undisturbed);
    sandbox.export().await;
    assert_eq!(lake::summary(sandbox.root()).await.unwrap(), undisturbed);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_features_are_promised_nobody_is_to_have_known_them() {
    /// From a run to when its rows are known, at least.
    const ACTIVATION: i64 = 60_000_000;
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let name = "features/customer_daily";
    let columns = ["known_at", "golden_id", "event_time"];
    publish(&sandbox, &orders(13, 100)).await;
    sandbox.export().await;
    sandbox.run().await;
    let known = sandbox.rows(name, &columns).await;
    let tags = sandbox.root().join(format!("{name}.lance/_refs"));
    let before: Vec<_> = files(&tags).into_iter().map(|tag| (fs::read(&tag).unwrap(), tag)).collect();

    publish(&sandbox, &orders(14, 100)).await;
    sandbox.export().await;
    sandbox.run().await;
    assert_ne!(sandbox.rows(name, &columns).await, known);
    // As a process leaves it that is killed before its tags.
    files(&tags).into_iter().for_each(|tag| fs::remove_file(tag).unwrap());
    before.iter().for_each(|(text, tag)| fs::write(tag, text).unwrap());

    let begin = Timestamp::now().micros();
    let outputs = sandbox.run().await.outputs;
    let output = outputs.iter().find(|output| output.table == name).unwrap();
    assert_eq!(output.outcome, Outcome::Published);
    let rows = sandbox.rows(name, &columns).await;
    assert!(known.iter().all(|row| rows.contains(row)), "what was promised stays");
    assert!(rows.len() > known.len());
    for row in rows.iter().filter(|row| !known.contains(row)) {
        let known_at = Timestamp::parse(row.split('|').next().unwrap()).unwrap().micros();
        assert!(known_at >= begin + ACTIVATION, "{row} is known before anybody could tell");
    }
}
