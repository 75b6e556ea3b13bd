//! A person is planted in every table, index, tag and branch; after the erasure nothing of them is left in any file, the
//! rest of the lake is as if they had never been there, and nothing brings them back.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use lake::{Config, Erasure, Root, TableSummary};
use lance::{
    dataset::{Dataset, builder::DatasetBuilder},
    index::DatasetIndexExt,
    session::Session,
};
use lance_index::{
    IndexType,
    scalar::{BuiltinIndexType, InvertedIndexParams, ScalarIndexParams},
};
use lance_io::object_store::{ObjectStore, ObjectStoreParams};
use omnimesh_proto::lake::v1::{EraseSubjectRequest, dataset_service_client::DatasetServiceClient};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    export::{files, mend},
    python,
    sandbox::{Sandbox, last},
    world::{self, PERSON, PERSONS_ORDERS},
};

const CHECK: &str = "../tests/python/erase_check.py";
const VICTIM: &str = "OMNIMESH_LAKE_ERASED";
const KILLS: usize = 6;
const CACHE_BYTES: usize = 1024 * 1024;
const EMAIL: &str = PERSON[3];

fn config(root: impl Into<Root>) -> Config {
    Config { root: root.into(), ..Config::default() }
}

async fn erase(root: impl Into<Root>) -> Result<Erasure, lake::Error> {
    lake::erase(&config(root), &[EMAIL.to_owned()], false, &|_| {}).await
}

async fn run(root: impl Into<Root>) {
    let manifest = lake::run(&config(root), &[], &|_| {}).await.unwrap();
    assert!(!manifest.has_failed(), "{manifest:?}");
}

async fn open(root: impl Into<Root>, table: &str) -> Dataset {
    let session = Session::new(CACHE_BYTES, CACHE_BYTES, lake::registry());
    let table = DatasetBuilder::from_uri(format!("{}/{table}.lance", root.into()));
    table.with_session(Arc::new(session)).load().await.unwrap()
}

async fn rows(dataset: &Dataset) -> Vec<RecordBatch> {
    dataset.scan().try_into_stream().await.unwrap().try_collect().await.unwrap()
}

/// Whether Python finds the person anywhere in the lake.
fn is_found(root: impl Into<Root>) -> bool {
    let root = root.into().to_string();
    let check =
        Command::new("python3").arg(CHECK).arg(root).args(PERSON).args(PERSONS_ORDERS).output().unwrap();
    let said = python::said(&check);
    assert!(check.status.success() || said.contains("FOUND"), "{said}");
    !check.status.success()
}

/// Every file of the lake that is not empty.
async fn contents(root: &Root) -> BTreeMap<String, Vec<u8>> {
    let (registry, root) = (lake::registry(), root.to_string());
    let opened = ObjectStore::from_uri_and_params(registry, &root, &ObjectStoreParams::default()).await;
    let (objects, path) = opened.unwrap();
    let mut files = objects.list(Some(path));
    let mut contents = BTreeMap::new();
    while let Some(file) = files.try_next().await.unwrap() {
        if file.size > 0 {
            let content = objects.read_one_all(&file.location).await.unwrap();
            contents.insert(file.location.to_string(), content.to_vec());
        }
    }
    contents
}

/// Files that hold any of the person's values as they are.
async fn spelled_out(root: &Root) -> Vec<String> {
    let holds = |content: &[u8]| {
        let mut values = PERSON.iter().chain(&PERSONS_ORDERS);
        values.any(|value| content.windows(value.len()).any(|window| window == value.as_bytes()))
    };
    let contents = contents(root).await.into_iter();
    contents.filter(|(_, content)| holds(content)).map(|(file, _)| file).collect()
}

/// What the lake holds but for features: those tell what was known when, and so of the time of each run.
async fn summary(root: impl Into<Root>) -> Vec<TableSummary> {
    let mut summaries = lake::summary(root).await.unwrap();
    summaries.retain(|summary| summary.layer != "features");
    summaries
}

/// The lake as it is where the person has never been.
async fn without_person(directory: &Path, seed: u64) -> Vec<TableSummary> {
    fs::create_dir(directory).unwrap();
    let sandbox = Sandbox::open(directory).await;
    world::publish(&sandbox, seed).await;
    world::publish_person(&sandbox, false).await;
    sandbox.export().await;
    run(sandbox.root()).await;
    summary(sandbox.root()).await
}

/// Lance makes branches only in stores that it knows by itself, as this binary's knows no bucket.
fn has_branches(root: &Root) -> bool {
    root.directory().is_some()
}

/// A lake with the person in every kind of place, and tags from before.
async fn with_person(sandbox: &Sandbox, root: &Root, seed: u64) {
    world::publish(sandbox, seed).await;
    sandbox.export_then(root, async {}).await;
    run(root).await;
    for table in ["silver/users_scd", "silver/orders_unified", "bronze/bronze_shop__customers"] {
        let dataset = open(root, table).await;
        dataset.tags().create("train-before", dataset.version_id()).await.unwrap();
    }
    world::publish_person(sandbox, true).await;
    sandbox.export_then(root, async {}).await;
    let mut users = open(root, "silver/users_scd").await;
    users.tags().create("train-after", users.version_id()).await.unwrap();
    if has_branches(root) {
        let newest = users.version_id();
        let branch = users.create_branch("trial", newest, None).await.unwrap();
        branch.tags().create("train-trial", ("trial", branch.version_id())).await.unwrap();
        users.create_branch("clean", "train-before", None).await.unwrap();
    }
    run(root).await;
    for kind in [BuiltinIndexType::BTree, BuiltinIndexType::Bitmap] {
        let column = if kind == BuiltinIndexType::BTree { "email" } else { "family_name" };
        let (params, name) =
            (ScalarIndexParams::for_builtin(kind.clone()), format!("{column}_{}", kind.as_str()));
        let kind = if kind == BuiltinIndexType::BTree { IndexType::BTree } else { IndexType::Bitmap };
        users.create_index(&[column], kind, Some(name), &params, true).await.unwrap();
    }
    let words = InvertedIndexParams::default();
    let mut landed = open(root, "bronze/bronze_shop__customers").await;
    for (dataset, column) in [(&mut users, "given_name"), (&mut landed, "_payload")] {
        let name = Some(format!("{column}_words"));
        dataset.create_index(&[column], IndexType::Inverted, name, &words, true).await.unwrap();
    }
}

fn loss<'e>(erasure: &'e Erasure, table: &str) -> (u64, Vec<&'e str>) {
    let loss = erasure.tables.get(table).unwrap_or_else(|| panic!("{table} has lost nothing: {erasure:?}"));
    let kept = |name: &&str| !name.starts_with("run-");
    (loss.rows, loss.references.iter().map(String::as_str).filter(kept).collect())
}

/// Erases the person from a lake that is made in the empty place `root`.
pub(crate) async fn leaves_nothing(root: &Root) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    with_person(&sandbox, root, 21).await;
    let tagged = async || {
        rows(&open(root, "silver/users_scd").await.checkout_version("train-before").await.unwrap()).await
    };
    let before = tagged().await;
    assert!(is_found(root), "Python must find who is there");
    let preview = lake::erase(&config(root), &[EMAIL.to_owned()], true, &|_| {}).await.unwrap();
    assert!(!preview.verified && is_found(root), "{preview:?}");

    let erasure = erase(root).await.unwrap();
    assert!(erasure.verified, "{erasure:?}");
    let lost: &[&str] =
        if has_branches(root) { &["train-after", "train-trial", "trial"] } else { &["train-after"] };
    assert_eq!(loss(&erasure, "silver/users_scd"), (1, lost.to_vec()));
    assert_eq!(loss(&erasure, "silver/orders_unified").0, 2);
    assert_eq!(loss(&erasure, "features/order_fraud").0, 2);
    assert_eq!(
        loss(&erasure, "silver/stock_ledger").0,
        0,
        "what was sold is gone from the stock all the same"
    );
    for table in ["shop__customers", "shop__orders", "pos__transactions"] {
        assert_eq!(loss(&erasure, &format!("bronze/bronze_{table}")), (1, vec![]), "{table}");
    }
    for (table, loss) in preview.tables {
        let computed = ["gold/", "features/", "embeddings/"].iter().any(|layer| table.starts_with(layer));
        assert!(computed || erasure.tables[&table] == loss, "{table} was to lose {loss:?}");
    }
    assert_eq!(spelled_out(root).await, Vec::<String>::new());
    assert!(!is_found(root));
    assert_eq!(summary(root).await, without_person(&directory.path().join("other"), 21).await);

    let users = open(root, "silver/users_scd").await;
    assert_eq!(tagged().await, before, "a tag without the person stays as it is");
    if has_branches(root) {
        assert!(
            users.checkout_branch("clean").await.is_ok() && users.checkout_branch("trial").await.is_err()
        );
    }
    let indices = users.describe_indices(None).await.unwrap();
    let mut names: Vec<_> = indices.iter().map(|index| index.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["email_btree", "family_name_bitmap", "given_name_words"]);

    let before = contents(root).await;
    let again = erase(root).await.unwrap();
    assert!(again.verified && again.tables.is_empty(), "{again:?}");
    let after = contents(root).await;
    let is_lost = |file: &&String| file.contains(".lance/data/") && !after.contains_key(*file);
    assert_eq!(before.keys().find(is_lost), None);
    let record = open(root, "_meta/erasures").await.count_rows(None).await.unwrap();
    assert_eq!(record, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_person_is_left_and_nothing_else_is_lost() {
    let directory = TempDir::new().unwrap();
    leaves_nothing(&Root::from(&directory.path().join("lake"))).await;
}

/// Erases the person from a lake that is made in the empty place `root`, and tells of them again.
pub(crate) async fn stays_out(sandbox: &Sandbox, root: &Root) {
    with_person(sandbox, root, 22).await;
    // While exporters are at work, which go on with it.
    let while_exporting = async {
        assert!(erase(root).await.unwrap().verified);
        world::publish_person(sandbox, true).await;
        world::publish_stock(sandbox, 1).await;
    };
    sandbox.export_then(root, while_exporting).await;
    sandbox.export_then(root, async {}).await;
    run(root).await;
    assert!(!is_found(root));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_again_bring_nobody_back() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    stays_out(&sandbox, &root.into()).await;

    // Everything from the start.
    for layer in ["bronze", "silver"] {
        fs::remove_dir_all(root.join(layer)).unwrap();
    }
    sandbox.export().await;
    run(root).await;
    assert!(!is_found(root));
    let users = |summaries: Vec<TableSummary>| {
        summaries.into_iter().find(|summary| summary.table == "users_scd").unwrap()
    };
    let others = without_person(&directory.path().join("other"), 22).await;
    assert_eq!(users(summary(root).await), users(others));
}

/// Not a test by itself: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim_erases_until_it_is_killed() {
    let Some(root) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    erase(&root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_an_erasure_is_finished_by_the_next() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    with_person(&sandbox, &root.into(), 23).await;
    let before = files(root);
    // Each is killed a little later than the one before it.
    for kill in 1..=KILLS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["erase::victim_erases_until_it_is_killed", "--exact"])
            .env(VICTIM, root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while files(root).symmetric_difference(&before).count() < kill * 20 {
            if victim.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    sandbox.export().await;
    let erasure = erase(root).await.unwrap();
    assert!(erasure.verified && !is_found(root), "{erasure:?}");
    assert_eq!(summary(root).await, without_person(&directory.path().join("other"), 23).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_gets_what_it_lost_though_what_was_set_aside_held_the_person() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let (root, table) = (sandbox.root(), "bronze/bronze_shop__customers");
    world::publish(&sandbox, 25).await;
    sandbox.export().await;
    world::publish_person(&sandbox, true).await;
    sandbox.export().await;
    let manifests = files(&root.join(format!("{table}.lance/_versions")));
    let newest = Path::new(manifests.iter().find(|path| path.ends_with(".manifest")).unwrap());
    let quarantine = root.join("_quarantine").join(table);
    fs::create_dir_all(&quarantine).unwrap();
    fs::remove_file(newest).unwrap();
    fs::write(quarantine.join(newest.file_name().unwrap()), EMAIL).unwrap();

    assert!(erase(root).await.unwrap().verified);
    assert!(fs::read_dir(&quarantine).unwrap().next().is_some(), "nobody knows that the table lacks rows");
    mend(&sandbox).await;
    run(root).await;
    assert!(!is_found(root));
    assert_eq!(summary(root).await, without_person(&directory.path().join("other"), 25).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_anywhere_is_found_and_named() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let root = sandbox.root();
    with_person(&sandbox, &root.into(), 24).await;
    let stray = root.join("export.lance");
    let users = open(root, "silver/users_scd").await;
    let copied = rows(&users).await;
    let schema = copied[0].schema();
    let reader = arrow::array::RecordBatchIterator::new(copied.into_iter().map(Ok), schema);
    Dataset::write(reader, stray.to_str().unwrap(), None).await.unwrap();
    let note = root.join("_meta/note.json");
    fs::write(&note, format!("{{\"who\": \"{EMAIL}\"}}")).unwrap();
    let told = AtomicUsize::new(0);
    let count = |_: &lake::TableName| _ = told.fetch_add(1, Ordering::Relaxed);
    let refused = lake::erase(&config(root), &[PERSON[0].to_owned()], false, &count).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("2 files still hold") && !refused.contains("golden"), "{refused}");
    assert!(told.load(Ordering::Relaxed) > 0);

    fs::remove_dir_all(&stray).unwrap();
    assert!(erase(root).await.unwrap_err().to_string().contains("note.json"));
    fs::remove_file(&note).unwrap();
    assert!(erase(root).await.unwrap().verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_subject_answers_when_nothing_is_left() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    with_person(&sandbox, &sandbox.root().into(), 25).await;
    let check = async |channel| {
        let mut client = DatasetServiceClient::new(channel);
        let ask =
            |key: &str, validate_only| EraseSubjectRequest { keys: vec![key.to_owned()], validate_only };
        let short = last(client.erase_subject(ask("99999", false))).await.unwrap_err();
        assert_eq!(short.code(), Code::InvalidArgument);
        for is_preview in [true, false] {
            let erased = last(client.erase_subject(ask(PERSON[6], is_preview))).await.unwrap();
            let erasure = erased.erasure.unwrap();
            assert_eq!(erasure.verified, !is_preview);
            let users = erasure.datasets.iter().find(|table| table.dataset == "datasets/silver.users_scd");
            assert_eq!(users.unwrap().row_count, 1);
        }
    };
    sandbox.serve_then(sandbox.root(), check).await;
    assert!(!is_found(sandbox.root()));
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_subject_goes_on_when_nobody_reads() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    with_person(&sandbox, &sandbox.root().into(), 26).await;
    let check = async |channel| {
        let mut client = DatasetServiceClient::new(channel);
        let request = EraseSubjectRequest { keys: vec![EMAIL.to_owned()], validate_only: false };
        let mut unread = client.erase_subject(request.clone()).await.unwrap().into_inner();
        let progress = unread.message().await.unwrap().unwrap();
        assert!(progress.dataset.starts_with("datasets/") && progress.erasure.is_none(), "{progress:?}");
        drop(unread);
        // Waits for the one before, which leaves it nothing to take away.
        let erasure = last(client.erase_subject(request)).await.unwrap().erasure.unwrap();
        assert!(erasure.verified && erasure.datasets.is_empty(), "{erasure:?}");
    };
    sandbox.serve_then(sandbox.root(), check).await;
    assert!(!is_found(sandbox.root()));
}
