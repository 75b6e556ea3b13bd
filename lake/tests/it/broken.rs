//! A table that cannot be read or written stops no other: it is named with what is wrong with it, and goes on once it
//! can.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lake::{Config, Outcome, Output, Root, TableExtent};
use omnimesh_proto::ingest::v1::RecordsLanded;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::{
    export::files,
    sandbox::{Sandbox, until},
    world::{self, changed, records},
};

const VICTIM: &str = "OMNIMESH_LAKE_FULL";
/// Runs what follows so that no file grows beyond a mebibyte or two, whatever a block is to the shell: who writes on is
/// told so, as on a disk that is full.
const LIMITED: &str = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
/// More than that, however it is compressed.
const LARGE: usize = 4 * 1024 * 1024;

fn rows(extents: Vec<TableExtent>, but: &[&str]) -> BTreeMap<String, u64> {
    let extents = extents.into_iter().filter(|extent| extent.error.is_none());
    let extents = extents.filter(|extent| !but.contains(&extent.table.as_str()));
    extents.map(|extent| (extent.table, extent.rows)).collect()
}

/// Waits until every table but some has as many rows as in another lake.
async fn complete(root: &Path, other: &Path, but: &[&str]) {
    let expected = rows(lake::extents(other).await.unwrap(), but);
    let complete = async || rows(lake::extents(root).await.unwrap(), but) == expected;
    until(&format!("{but:?} stop others"), complete).await;
}

/// The lake as it is where nothing is broken.
async fn undisturbed(sandbox: &Sandbox, directory: &Path) -> PathBuf {
    let root = directory.join("undisturbed");
    sandbox.export_then(&root, async {}).await;
    root
}

async fn assert_same(root: &Path, other: &Path) {
    assert_eq!(lake::summary(root).await.unwrap(), lake::summary(other).await.unwrap());
}

fn is_for_users(error: &str, table: &str) -> bool {
    error.contains(table) && !error.contains(".rs:") && !error.contains("github.com")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_manifest_stops_no_other_table() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    world::publish(&sandbox, 31).await;
    sandbox.export().await;
    world::publish(&sandbox, 32).await;
    let other = undisturbed(&sandbox, directory.path()).await;

    let (table, name) = ("bronze_shop__customers", "bronze/bronze_shop__customers");
    let manifests = files(&root.join(format!("{name}.lance/_versions")));
    // Lance counts manifests' names down, so that the newest comes first.
    let newest = manifests.iter().find(|path| path.ends_with(".manifest")).unwrap();
    let whole = fs::read(newest).unwrap();
    let mut corrupt = whole.clone();
    // The end, which tells where the manifest's message begins, is as it should be: no torn write.
    let (body, end) = corrupt.split_at_mut(whole.len() - 16);
    let begin = u64::from_le_bytes(end[..8].try_into().unwrap()) as usize;
    body[begin + size_of::<u32>()..].fill(0xff);
    fs::write(newest, corrupt).unwrap();
    let broken = async {
        complete(root, &other, &[table]).await;
        let config = Config { root: Root::from(root), ..Config::default() };
        for dataset in lake::datasets(&config).await.unwrap() {
            let error = dataset.error.unwrap_or_default();
            assert_eq!(dataset.table == table, is_for_users(&error, name), "{}: {error}", dataset.table);
        }
        fs::write(newest, &whole).unwrap();
        complete(root, &other, &[]).await;
    };
    sandbox.export_until(broken).await;
    assert_same(root, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_data_file_is_named_by_who_reads_it() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    world::publish(&sandbox, 33).await;
    sandbox.export().await;
    let name = "bronze/bronze_shop__orders";
    let data = files(&root.join(format!("{name}.lance/data"))).pop_first().unwrap();
    let whole = fs::read(&data).unwrap();
    fs::write(&data, vec![0xff_u8; whole.len()]).unwrap();
    // New rows come all the same, of this table as well.
    world::publish(&sandbox, 34).await;
    sandbox.export().await;
    let error = lake::summary(root).await.unwrap_err().to_string();
    assert!(is_for_users(&error, name), "{error}");
    fs::write(&data, whole).unwrap();
    assert_same(root, &undisturbed(&sandbox, directory.path()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_a_run_cannot_keep_are_no_inputs_and_stop_no_others() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 38).await;
    sandbox.export().await;
    let before = sandbox.run().await.outputs;
    let name = "silver/products_scd";
    for tag in files(&sandbox.root().join(format!("{name}.lance/_refs/tags"))) {
        fs::write(tag, "").unwrap();
    }
    world::publish(&sandbox, 39).await;
    sandbox.export().await;
    let outputs = sandbox.run().await.outputs;
    let find = |outputs: &[Output], table: &str| {
        outputs.iter().find(|output| output.table == table).unwrap().clone()
    };
    assert_eq!(find(&outputs, "gold/fct_order_line").outcome, Outcome::Published);
    let [stands, skipped] = [&before, &outputs].map(|outputs| find(outputs, "gold/dim_product"));
    let Outcome::Skipped { reason } = &skipped.outcome else { panic!("{outputs:?}") };
    assert!(is_for_users(reason, name), "{reason}");
    assert_eq!((skipped.version, skipped.rows), (stands.version, stands.rows));
    assert!(!outputs.iter().any(|output| matches!(output.outcome, Outcome::Failed { .. })), "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_stops_no_other_table() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    world::publish(&sandbox, 35).await;
    let other = undisturbed(&sandbox, directory.path()).await;
    // Nobody may write into a file as into a directory, not even root.
    let table = root.join("bronze/bronze_pos__transactions.lance");
    fs::create_dir_all(&table).unwrap();
    let obstacle = table.join("data");
    fs::write(&obstacle, "").unwrap();
    let broken = async {
        complete(root, &other, &["bronze_pos__transactions"]).await;
        fs::remove_file(&obstacle).unwrap();
        complete(root, &other, &[]).await;
    };
    sandbox.export_until(broken).await;
    sandbox.export().await;
    assert_same(root, &other).await;
}

/// Records of a source's entity `large`.
fn large(payload: String) -> events::NewEvent {
    let payload = RecordsLanded {
        system: "shop".to_owned(),
        entity: "large".to_owned(),
        object: "large".to_owned(),
        record_count: 1,
        records: records(&[("1".to_owned(), payload)]).into(),
        ..RecordsLanded::default()
    };
    changed("omnimesh.ingest.v1.RecordsLanded", "sources/shop".to_owned(), &payload)
}

/// Not a test by itself: the process that the test below starts.
#[tokio::test(flavor = "multi_thread")]
async fn victim_exports_to_a_full_disk() {
    let Some(directory) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    Sandbox::open(&directory).await.export_until(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_table_that_has_space() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    let mut random = ChaCha8Rng::seed_from_u64(36);
    let payload = (0..LARGE).map(|_| char::from(random.random_range(b'0'..b'p'))).collect();
    sandbox.publish("ingest", &[large(payload)], 1).await;
    world::publish(&sandbox, 36).await;
    let other = undisturbed(&sandbox, directory.path()).await;
    let mut victim = Command::new("sh")
        .args(["-c", LIMITED])
        .arg(std::env::current_exe().unwrap())
        .args(["broken::victim_exports_to_a_full_disk", "--exact"])
        .env(VICTIM, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    complete(root, &other, &["bronze_shop__large"]).await;
    assert!(victim.try_wait().unwrap().is_none(), "the victim died by itself");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let extents = lake::extents(root).await.unwrap();
    assert!(extents.iter().all(|extent| extent.table != "bronze_shop__large"), "{extents:?}");
    sandbox.export().await;
    assert_same(root, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_no_rows_stops_no_other_table() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    world::publish(&sandbox, 37).await;
    let other = undisturbed(&sandbox, directory.path()).await;
    let payload = RecordsLanded {
        system: "shop".to_owned(),
        entity: "broken".to_owned(),
        record_count: 1,
        records: "no Arrow stream".into(),
        ..RecordsLanded::default()
    };
    let event = changed("omnimesh.ingest.v1.RecordsLanded", "sources/shop".to_owned(), &payload);
    sandbox.publish("ingest", &[event], 1).await;
    let nameless = RecordsLanded { system: "No Name".to_owned(), ..payload };
    let event = changed("omnimesh.ingest.v1.RecordsLanded", "sources/no".to_owned(), &nameless);
    sandbox.publish("ingest", &[event], 1).await;
    sandbox.export_until(complete(root, &other, &[])).await;
    assert_same(root, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_lack_an_event_that_cannot_be_read_waits_until_it_can() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    world::publish(&sandbox, 38).await;
    let other = undisturbed(&sandbox, directory.path()).await;
    // What landed first came from the shop.
    let waiting = [
        "bronze_shop__orders",
        "bronze_shop__customers",
        "identity_links",
        "users_scd",
        "products_scd",
        "inventory_snapshots",
        "stock_ledger",
    ];
    let mut whole = Vec::new();
    for domain in ["ingest", "identity", "customer", "catalog", "inventory"] {
        whole.push((domain, sandbox.replace_first(domain, vec![0xff]).await));
    }
    sandbox.export_until(complete(root, &other, &waiting)).await;
    let extents = lake::extents(root).await.unwrap();
    assert!(extents.iter().all(|extent| !waiting.contains(&extent.table.as_str())), "{extents:?}");

    // As another release would read it.
    for (domain, payload) in whole {
        sandbox.replace_first(domain, payload).await;
    }
    sandbox.export().await;
    assert_same(root, &other).await;
}
