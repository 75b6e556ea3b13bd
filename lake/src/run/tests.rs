//! Runs of tables that are made as a test says.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    ops::Range,
    path::PathBuf,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use arrow::{array::AsArray, datatypes::Int64Type};
use async_trait::async_trait;
use datafusion::{execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter};
use futures::{poll, stream};
use tempfile::TempDir;

use super::*;
use crate::{
    Layer,
    card::Card,
    catalog::{self, DatasetInfo},
    columns::{batch, integer},
    dataset::Table,
    digest::Digest,
    sql::Lineage,
    table::Growth,
};

/// A table whose rows are as many as its definition has letters.
struct Made {
    name: TableName,
    inputs: Vec<TableName>,
    definition: AtomicUsize,
    is_bad: AtomicBool,
    computed: AtomicUsize,
    grows: bool,
    /// How many times more it grows by rows that nobody may begin to rely on any more.
    late: AtomicUsize,
    schedule: &'static str,
}

impl Made {
    fn new(name: &str, inputs: &[&Self]) -> Arc<Self> {
        Arc::new(Self {
            name: TableName::new(Layer::Gold, name).unwrap(),
            inputs: inputs.iter().map(|input| input.name.clone()).collect(),
            definition: AtomicUsize::new(1),
            is_bad: AtomicBool::new(false),
            computed: AtomicUsize::new(0),
            grows: false,
            late: AtomicUsize::new(0),
            schedule: "",
        })
    }

    /// One to whose rows others are added, up to eight.
    fn growing(name: &str) -> Arc<Self> {
        let made = Arc::into_inner(Self::new(name, &[])).unwrap();
        Arc::new(Self { grows: true, ..made })
    }

    /// One that waits for its time.
    fn scheduled(name: &str, schedule: &'static str) -> Arc<Self> {
        let made = Arc::into_inner(Self::new(name, &[])).unwrap();
        Arc::new(Self { schedule, ..made })
    }
}

fn rows(keys: Range<i64>) -> SendableRecordBatchStream {
    let rows = batch(vec![integer("key", keys)]).unwrap();
    Box::pin(RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)])))
}

#[async_trait]
impl Derived for Made {
    fn name(&self) -> Result<TableName, Error> {
        Ok(self.name.clone())
    }

    fn inputs(&self) -> Result<Vec<TableName>, Error> {
        Ok(self.inputs.clone())
    }

    fn card(&self) -> Card {
        Card { key: vec!["key".to_owned()], schedule: self.schedule.to_owned(), ..Card::default() }
    }

    fn definition(&self) -> &str {
        &"xxxxxxxx"[..self.definition.load(Relaxed)]
    }

    async fn compute(&self, _: &Snapshot, _: &Arc<RuntimeEnv>) -> Result<SendableRecordBatchStream, Error> {
        self.computed.fetch_add(1, Relaxed);
        Ok(rows(0..self.definition.load(Relaxed) as i64))
    }

    async fn extend(
        &self,
        _: &Snapshot,
        promised: &Arc<Dataset>,
        _: &Arc<RuntimeEnv>,
    ) -> Result<Option<Growth>, Error> {
        let promised = promised.count_rows(None).await.unwrap() as i64;
        let is_late = self.late.fetch_update(Relaxed, Relaxed, |late| late.checked_sub(1)).is_ok();
        let expires = types::Timestamp::from_micros(if is_late { 0 } else { i64::MAX });
        Ok(self.grows.then(|| Growth { rows: rows(promised..8), expires }))
    }

    async fn ready(&self, _: &mut Table) -> Result<BTreeMap<String, String>, Error> {
        match self.is_bad.load(Relaxed) {
            true => Err(Error::Definition { table: self.name.to_string(), reason: "it is bad".to_owned() }),
            false => Ok(BTreeMap::new()),
        }
    }

    async fn lineage(&self, _: &Snapshot, _: &Arc<RuntimeEnv>) -> Result<Lineage, Error> {
        Ok(Lineage::default())
    }
}

/// Runs `made` in a lake of their own.
struct Runs {
    directory: TempDir,
    wanted: Vec<TableName>,
    runner: Runner,
}

impl Runs {
    fn of(made: &[&Arc<Made>]) -> Self {
        Self::within(TempDir::new().unwrap(), made)
    }

    /// As another process that runs `made` in the same lake.
    fn anew(self, made: &[&Arc<Made>]) -> Self {
        Self::within(self.directory, made)
    }

    fn within(directory: TempDir, made: &[&Arc<Made>]) -> Self {
        let config = Config { root: directory.path().into(), ..Config::default() };
        let store = Arc::new(Store::create(&config.root).unwrap());
        let configured = made.iter().map(|made| Arc::clone(made) as Arc<dyn Derived>).collect();
        let runner = Runner::new(&config, store, configured).unwrap();
        Self { directory, wanted: made.iter().map(|made| made.name.clone()).collect(), runner }
    }

    /// The files below a directory of the lake, the first of their names first.
    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.path().join(directory)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    /// What becomes of each table.
    async fn run(&self) -> Vec<Output> {
        self.runner.run(&self.wanted, &|_| {}).await.unwrap().outputs
    }

    /// The keys of a table's rows, in their order.
    async fn keys(&self, made: &Made) -> Vec<i64> {
        let dataset = self.runner.store.load(&made.name).await.unwrap().unwrap();
        let rows = dataset.scan().try_into_batch().await.unwrap();
        let mut keys = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        keys.sort_unstable();
        keys
    }

    /// Why a table's newest rows were refused, as the list of tables tells.
    async fn refusal(&self, made: &Made) -> Option<String> {
        let listed = catalog::list(&self.runner.store).await.unwrap();
        let [dataset]: [DatasetInfo; 1] = listed.try_into().unwrap();
        let found = catalog::get(&self.runner.store, &made.name).await.unwrap().unwrap();
        assert_eq!((&found.refusal, found.table.as_str()), (&dataset.refusal, made.name.as_str()));
        dataset.refusal
    }

    async fn is_due(&self, made: &Made) -> bool {
        self.runner.due().await.unwrap().contains(&made.name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_computed_once_of_the_same() {
    let made = Made::new("dim_made", &[]);
    let runs = Runs::of(&[&made]);
    let stands = runs.run().await.remove(0);
    assert_eq!((&stands.outcome, runs.is_due(&made).await), (&Outcome::Published, false));

    made.definition.store(2, Relaxed);
    made.is_bad.store(true, Relaxed);
    assert!(runs.is_due(&made).await, "it is defined otherwise");
    for _ in 0..2 {
        let refused = runs.run().await.remove(0);
        let reason = "lake table gold/dim_made is not published: it is bad".to_owned();
        assert_eq!(refused.outcome, Outcome::Failed { reason: reason.clone() });
        assert_eq!((refused.version, refused.rows), (stands.version, stands.rows));
        assert_eq!(made.computed.load(Relaxed), 2);
        assert!(!runs.is_due(&made).await, "nothing has changed");
        assert_eq!(runs.refusal(&made).await, Some(reason));
    }

    made.definition.store(3, Relaxed);
    made.is_bad.store(false, Relaxed);
    assert!(runs.is_due(&made).await);
    let published = runs.run().await.remove(0);
    assert_eq!((published.outcome, published.rows), (Outcome::Published, 3));
    assert!(!runs.is_due(&made).await && runs.refusal(&made).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_first_rows_were_refused_is_listed() {
    let made = Made::new("dim_made", &[]);
    made.is_bad.store(true, Relaxed);
    let runs = Runs::of(&[&made]);
    runs.run().await;
    // As where they had not even been written to their end.
    fs::remove_dir_all(runs.directory.path().join("gold/dim_made.lance")).unwrap();
    let told = runs.refusal(&made).await;
    assert_eq!(told.as_deref(), Some("lake table gold/dim_made is not published: it is bad"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_no_input_of_others() {
    let made = Made::new("dim_made", &[]);
    let other = Made::new("dim_other", &[&made]);
    let runs = Runs::of(&[&made, &other]);
    let version = runs.run().await[0].version;

    made.is_bad.store(true, Relaxed);
    for definition in [2, 3] {
        made.definition.store(definition, Relaxed);
        other.definition.store(definition, Relaxed);
        let [refused, published]: [Output; 2] = runs.run().await.try_into().unwrap();
        assert!(refused.refused, "{refused:?}");
        assert_eq!((published.outcome, &published.inputs["gold/dim_made"]), (Outcome::Published, &version));
    }
    let newest = runs.runner.store.load(&made.name).await.unwrap().unwrap().version().version;
    assert!(newest > version, "there is a newer version, and it was refused");
    assert!(!runs.is_due(&other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_promised_is_read_by_nobody_who_asks_for_no_version() {
    let made = Made::new("dim_made", &[]);
    let runs = Runs::of(&[&made]);
    let config = Config { root: runs.directory.path().into(), ..Config::default() };
    let read = async || crate::mirror(&config, &made.name, &Version::default(), None).await;
    made.is_bad.store(true, Relaxed);
    assert!(runs.run().await[0].refused);
    assert_eq!(runs.keys(&made).await, [0], "there is a version");
    assert!(matches!(read().await, Err(Error::NotFound { .. })));

    for (definition, is_bad) in [(2, false), (3, true)] {
        made.definition.store(definition, Relaxed);
        made.is_bad.store(is_bad, Relaxed);
        assert_eq!(runs.run().await[0].refused, is_bad);
        assert_eq!(runs.keys(&made).await.len(), definition);
        assert_eq!(read().await.unwrap().rows, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_none_keeps_no_other_table_waiting() {
    let made = Made::scheduled("dim_made", "every day");
    let other = Made::new("dim_other", &[]);
    let runs = Runs::of(&[&made, &other]);
    runs.run().await;
    made.definition.store(2, Relaxed);
    other.definition.store(2, Relaxed);
    assert!(!runs.is_due(&made).await && runs.is_due(&other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_lake_computes_it_before_those_who_wait() {
    let made = Made::new("dim_made", &[]);
    let runs = Runs::of(&[&made]);
    let turn = runs.runner.turn().await;
    let mut waiting = pin!(runs.run());
    assert!(poll!(&mut waiting).is_pending());
    let plan = plan::order(runs.runner.tables(), &runs.wanted).unwrap();
    let first = runs.runner.run_in(turn, plan, &|_| {}).await.unwrap();
    let outcomes = [&first.outputs[0].outcome, &waiting.await[0].outcome].map(Clone::clone);
    assert_eq!(outcomes, [Outcome::Published, Outcome::Unchanged]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_that_add_the_same_rows_at_once_add_them_once() {
    let made = Made::growing("dim_made");
    let runs = Runs::of(&[&made]);
    assert_eq!(runs.run().await[0].rows, 1);

    made.definition.store(2, Relaxed);
    let store = Store::existing(&runs.directory.path().into());
    let other = runs.runner.of(Arc::new(store));
    let told = |_: &TableName| {};
    let (one, other) = tokio::join!(runs.run(), other.run(&runs.wanted, &told));
    let outcomes = [&one[0].outcome, &other.unwrap().outputs[0].outcome].map(Clone::clone);
    assert!(outcomes.contains(&Outcome::Published) && outcomes.contains(&Outcome::Unchanged), "{outcomes:?}");
    assert_eq!(runs.keys(&made).await, (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_add_to_the_same_version_one_is_told() {
    let made = Made::growing("dim_made");
    let runs = Runs::of(&[&made]);
    runs.run().await;
    let store = &runs.runner.store;
    // As where there are no locks: both have read the same version.
    let mut tables =
        [store.open(made.name.clone()).await.unwrap(), store.open(made.name.clone()).await.unwrap()];
    for (number, table) in tables.iter_mut().enumerate() {
        let turn = store.turn().await.unwrap();
        let added = table.extend(&turn, rows(1..8), &made.card(), HashMap::new(), Digest::default()).await;
        assert_eq!(added.is_ok(), number == 0, "{added:?}");
    }
    assert_eq!(runs.keys(&made).await, (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_cannot_be_read_stops_nothing_else() {
    let broken = Made::new("dim_broken", &[]);
    let made = Made::new("dim_made", &[&broken]);
    let other = Made::new("dim_other", &[]);
    let runs = Runs::of(&[&broken]);
    runs.run().await;
    for version in runs.files("gold/dim_broken.lance/_versions") {
        fs::write(version, "torn").unwrap();
    }
    let runs = runs.anew(&[&made, &other]);
    assert!(runs.is_due(&other).await);
    let [skipped, published]: [Output; 2] = runs.run().await.try_into().unwrap();
    assert_eq!(published.outcome, Outcome::Published);
    let Outcome::Skipped { reason } = &skipped.outcome else { panic!("{skipped:?}") };
    assert!(reason.contains("gold/dim_broken"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_never_promised_are_made_again() {
    let made = Made::growing("dim_made");
    let mut runs = Runs::of(&[&made]);
    runs.run().await;
    made.definition.store(2, Relaxed);
    let tags = "gold/dim_made.lance/_refs/tags";
    let before: Vec<_> = runs.files(tags).into_iter().map(|tag| (fs::read(&tag).unwrap(), tag)).collect();
    for is_named in [false, true] {
        let version = runs.run().await[0].version;
        // As a process leaves it that is killed before its tags, or before its manifest too.
        runs.files(tags).into_iter().for_each(|tag| fs::remove_file(tag).unwrap());
        before.iter().for_each(|(text, tag)| fs::write(tag, text).unwrap());
        if !is_named {
            fs::remove_file(runs.files("_meta/runs").pop().unwrap()).unwrap();
        }
        runs = runs.anew(&[&made]);
        assert!(runs.is_due(&made).await);
        let again = runs.run().await.remove(0);
        assert_eq!((again.outcome, again.rows), (Outcome::Published, 8));
        assert!(again.version > version);
        assert_eq!(runs.keys(&made).await, (0..8).collect::<Vec<_>>());
        let promised = runs.runner.input(&made.name).await.unwrap().unwrap();
        assert_eq!(promised.version().version, again.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_ready_too_late_are_made_again() {
    let made = Made::growing("dim_made");
    let runs = Runs::of(&[&made]);
    runs.run().await;
    made.definition.store(2, Relaxed);
    made.late.store(1, Relaxed);
    let published = runs.run().await.remove(0);
    assert_eq!((published.outcome, published.attempts, published.rows), (Outcome::Published, 1, 8));
    assert_eq!(runs.keys(&made).await, (0..8).collect::<Vec<_>>());

    made.definition.store(3, Relaxed);
    made.late.store(1, Relaxed);
    assert_eq!(runs.run().await[0].outcome, Outcome::Unchanged, "it has no new rows");
}

/// A manifest of which only the end is right, so that it is not torn: its message is longer than it is itself. Lance
/// panics over it.
const CORRUPT: &[u8] = b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0LANC";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_over_which_lance_panics_stops_nothing_else() {
    let broken = Made::new("dim_broken", &[]);
    let made = Made::new("dim_made", &[&broken]);
    let other = Made::new("dim_other", &[]);
    let runs = Runs::of(&[&broken]);
    runs.run().await;
    fs::write(&runs.files("gold/dim_broken.lance/_versions")[0], CORRUPT).unwrap();
    let runs = runs.anew(&[&broken, &made, &other]);
    assert!(runs.is_due(&other).await);
    let [failed, published, skipped]: [Output; 3] = runs.run().await.try_into().unwrap();
    assert_eq!(published.outcome, Outcome::Published);
    let Outcome::Failed { reason } = &failed.outcome else { panic!("{failed:?}") };
    for part in ["gold/dim_broken", "check that its files are whole"] {
        assert!(reason.contains(part), "{reason}");
    }
    let Outcome::Skipped { reason } = &skipped.outcome else { panic!("{skipped:?}") };
    assert!(reason.contains("gold/dim_broken"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_tags_cannot_be_used_stops_nothing_else() {
    let made = Made::new("dim_made", &[]);
    let other = Made::new("dim_other", &[&made]);
    let mut runs = Runs::of(&[&made, &other]);
    let mut stands = runs.run().await[0].version;
    let references = runs.directory.path().join("gold/dim_made.lance/_refs");
    let aside = references.with_extension("aside");
    let prod = references.join("tags/prod.json");
    let whole = fs::read(&prod).unwrap();
    for is_one in [true, false] {
        let definition = made.definition.fetch_add(1, Relaxed) + 1;
        other.definition.store(definition, Relaxed);
        match is_one {
            true => fs::write(&prod, "").unwrap(),
            false => {
                fs::rename(&references, &aside).unwrap();
                // Nobody may write into a file as into a directory, not even root.
                fs::write(&references, "").unwrap();
            }
        }
        runs = runs.anew(&[&made, &other]);
        let [failed, after]: [Output; 2] = runs.run().await.try_into().unwrap();
        let Outcome::Failed { reason } = &failed.outcome else { panic!("{failed:?}") };
        assert!(reason.contains("gold/dim_made"), "{reason}");
        assert_eq!(failed.version, stands, "the new one is not relied on");
        assert!(!matches!(after.outcome, Outcome::Failed { .. }), "{after:?}");

        match is_one {
            true => fs::write(&prod, &whole).unwrap(),
            false => {
                fs::remove_file(&references).unwrap();
                fs::rename(&aside, &references).unwrap();
            }
        }
        let [made, other]: [Output; 2] = runs.run().await.try_into().unwrap();
        assert_eq!((made.outcome, made.rows as usize), (Outcome::Published, definition));
        assert_eq!(other.inputs["gold/dim_made"], made.version);
        stands = made.version;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_done_and_others_forgotten_without_the_table_of_runs() {
    let made = Made::new("dim_made", &[]);
    let runs = Runs::of(&[&made]);
    runs.run().await;
    fs::write(&runs.files("_meta/exports.lance/_versions")[0], CORRUPT).unwrap();
    let runs = runs.anew(&[&made]);
    assert_eq!(runs.run().await[0].outcome, Outcome::Unchanged);
    let told = ["_meta/runs", "_meta/openlineage"].map(|directory| runs.files(directory).len());
    assert_eq!(told, [2, 2]);
}
