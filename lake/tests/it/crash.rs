//! The exporter's process is killed at random moments and between any two steps of a commit; the lake comes out as if
//! nothing had happened.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lake::Outcome;
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
const VICTIM: &str = "OMNIMESH_LAKE_VICTIM";

/// Not a test by itself: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim_exports_until_it_is_killed() {
    let Some(directory) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let sandbox = Sandbox::open(&directory).await;
    let caught_up = async {
        fs::write(directory.join("caught-up"), "").unwrap();
        std::future::pending::<()>().await;
    };
    sandbox.export_then(sandbox.root(), caught_up).await;
}

/// Runs a victim until the lake has so many files more, or everything.
fn kill_after(directory: &Path, more: usize) {
    let limit = files(&directory.join("lake")).len() + more;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["crash::victim_exports_until_it_is_killed", "--exact"])
        .env(VICTIM, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while files(&directory.join("lake")).len() < limit && !directory.join("caught-up").exists() {
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
        kill_after(directory.path(), random.random_range(1..2 * whole.div_ceil(KILLS)));
    }
    sandbox.export().await;
    let summaries = lake::summary(sandbox.root()).await.unwrap();
    assert_eq!(summaries, lake::summary(&undisturbed).await.unwrap());
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
