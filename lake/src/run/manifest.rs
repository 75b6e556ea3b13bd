//! What a run has done: written once a table is there, and before anybody relies on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use arrow::{array::RecordBatch, error::ArrowError};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{future::try_join_all, stream};
use jiff::Timestamp;
use lance::dataset::Dataset;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Error, TableName,
    columns::{batch, integer, optional_text, text, time},
    dataset::{Published, Store},
    name::Layer,
    openlineage,
    sql::Lineage,
    table::own,
};

/// Where manifests are, below the lake's root.
const DIRECTORY: &str = "_meta/runs";
/// Runs that are remembered, with all that they read and wrote.
const RUNS: usize = 14;
/// How long a table that failed is left alone, at first and at most.
const REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(3_600);

/// What a run has read and written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The run's id; later runs have greater ones.
    pub run_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none while it goes on, or if it was cut short.
    pub finished_at: Option<Timestamp>,
    /// What wrote it.
    pub omnimesh_version: String,
    /// The format of the tables' files.
    pub format_version: String,
    /// Tables of events that it read.
    pub inputs: Vec<Input>,
    /// Tables that it computed, or tried to, in that order.
    pub outputs: Vec<Output>,
}

/// A table that was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// `<layer>/<name>`.
    pub table: String,
    /// Which version.
    pub version: u64,
    /// The event up to which it is complete.
    pub watermark: Option<String>,
}

/// What became of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// There is a new version.
    Published,
    /// It was, or would have become, what it is.
    #[default]
    Unchanged,
    /// An input does not exist yet.
    Skipped {
        /// Which one.
        reason: String,
    },
    /// It could not be computed; its last version stays.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// A table that was computed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Output {
    /// `<layer>/<name>`.
    pub table: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The version that stands; 0 if there is none.
    pub version: u64,
    /// Its rows.
    pub rows: u64,
    /// Bytes that were written for them.
    pub bytes: u64,
    /// Digest of its columns.
    pub schema: String,
    /// Digest of its rows in any order.
    pub content: String,
    /// Digest of what it is computed by.
    pub definition: String,
    /// The versions that it was computed from, by `<layer>/<name>`.
    pub inputs: BTreeMap<String, u64>,
    /// How many values of the column by which it has parts had changed; none if it was computed as a whole.
    pub changed_values: Option<u64>,
    /// What its columns and its rows are made of.
    pub lineage: Lineage,
    /// What was checked before it was published.
    pub checks: Vec<String>,
    /// When its computation began.
    pub began_at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took.
    pub millis: u64,
    /// Whether it failed for what its rows are, so that it is not computed of the same again.
    #[serde(default)]
    pub refused: bool,
}

impl Output {
    pub(super) fn new(table: &TableName) -> Self {
        Self { table: table.to_string(), ..Self::default() }
    }

    /// Whether it was computed from the same by the same.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.definition == other.definition && self.inputs == other.inputs
    }

    /// Whether a version of an input may be the one of its number that it was made of. One that came later is not: the
    /// table was torn or removed since, and counts its versions again.
    pub(super) fn knew(&self, input: &Dataset) -> bool {
        let committed = input.version().timestamp.timestamp_micros();
        self.began_at.is_none_or(|began| committed <= began.as_microsecond())
    }

    /// Whether it was computed, or was what it would have become: its version is of what else it says.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.outcome, Outcome::Published | Outcome::Unchanged)
    }

    /// What stands.
    pub(super) fn published(&self) -> Published {
        Published {
            version: self.version,
            rows: self.rows,
            bytes: self.bytes,
            schema: self.schema.clone(),
            content: self.content.clone(),
            is_new: false,
        }
    }

    pub(super) fn took(&mut self, published: Published) {
        self.outcome = if published.is_new { Outcome::Published } else { Outcome::Unchanged };
        self.version = published.version;
        self.rows = published.rows;
        self.bytes = published.bytes;
        self.schema = published.schema;
        self.content = published.content;
        self.checks = vec!["key is unique".to_owned(), "key is not null".to_owned()];
    }
}

impl Manifest {
    pub(super) fn begin() -> Self {
        Self {
            run_id: Uuid::now_v7().to_string(),
            started_at: Timestamp::now(),
            finished_at: None,
            omnimesh_version: env!("CARGO_PKG_VERSION").to_owned(),
            format_version: crate::dataset::VERSION.to_string(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The tag on every version that it names.
    pub fn tag(&self) -> String {
        tag(&self.run_id)
    }

    /// Whether a table could not be computed.
    pub fn has_failed(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output.outcome, Outcome::Failed { .. }))
    }

    /// Writes it down as far as it is.
    pub(super) async fn write(&self, store: &Store) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        store.write_file(&self.path(), text).await
    }

    /// Notes what became of a table, in place of what was noted before.
    pub(super) fn note(&mut self, output: Output) {
        self.outputs.retain(|noted| noted.table != output.table);
        self.outputs.push(output);
    }

    fn path(&self) -> String {
        format!("{DIRECTORY}/{}.json", self.run_id)
    }

    /// What became of each table, as JSON. Its lineage is told elsewhere, and would take more room than all else.
    fn outcomes(&self) -> String {
        let mut outputs = serde_json::to_value(&self.outputs).unwrap_or_default();
        for output in outputs.as_array_mut().into_iter().flatten() {
            if let Some(output) = output.as_object_mut() {
                output.remove("lineage");
            }
        }
        outputs.to_string()
    }
}

fn tag(run_id: &str) -> String {
    format!("run-{run_id}")
}

/// Whether a tag is one that runs put and take away.
pub fn is_of_run(tag: &str) -> bool {
    tag.starts_with("run-")
}

/// The manifests of a lake, the newest first.
pub(crate) async fn all(store: &Store) -> Result<Vec<Manifest>, Error> {
    let mut names = store.files(DIRECTORY).await?;
    names.retain(|name| name.ends_with(".json"));
    names.sort_by(|a, b| b.cmp(a));
    let paths: Vec<_> = names.iter().map(|name| format!("{DIRECTORY}/{name}")).collect();
    let texts = try_join_all(paths.iter().map(|path| store.read_file(path))).await?;
    let mut manifests = Vec::with_capacity(names.len());
    for (name, text) in names.iter().zip(texts) {
        match serde_json::from_slice(&text) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => {
                tracing::warn!(name, %error, "a manifest cannot be read; its run counts as not done")
            }
        }
    }
    Ok(manifests)
}

/// What runs have made of a table.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What stands.
    pub(super) standing: Option<Output>,
    /// What was computed since then, and refused.
    pub(super) refused: Option<Output>,
    /// How often it has failed since then, and when it was last tried.
    failures: u32,
    tried_at: Option<Timestamp>,
}

impl Known {
    /// What was computed last.
    pub(super) fn latest(&self) -> Option<&Output> {
        self.refused.as_ref().or(self.standing.as_ref())
    }

    /// Whether it is too early to try again what has failed.
    pub(super) fn rests(&self, now: Timestamp) -> bool {
        let rest =
            REST.saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1))).min(LONGEST_REST);
        self.tried_at.is_some_and(|tried| now.duration_since(tried).unsigned_abs() < rest)
    }
}

/// What `manifests` tell of each table.
pub(super) fn known(manifests: &[Manifest]) -> BTreeMap<String, Known> {
    let mut tables: BTreeMap<_, Known> = BTreeMap::new();
    for output in manifests.iter().flat_map(|manifest| &manifest.outputs) {
        let known = tables.entry(output.table.clone()).or_default();
        let has_failed = matches!(output.outcome, Outcome::Failed { .. }) && !output.refused;
        if known.standing.is_none() && has_failed {
            known.failures += 1;
            known.tried_at = known.tried_at.or(output.began_at);
        }
        if known.standing.is_none() && output.refused {
            known.refused.get_or_insert_with(|| output.clone());
        } else if output.is_made() {
            known.standing.get_or_insert_with(|| output.clone());
        }
    }
    tables
}

/// Why the tables were refused whose newest rows were.
pub(crate) async fn refusals(store: &Store) -> Result<BTreeMap<TableName, String>, Error> {
    let reason = |refused: Output| match refused.outcome {
        Outcome::Failed { reason } => Some(reason),
        _ => None,
    };
    let tables = known(&all(store).await?).into_iter();
    Ok(tables
        .filter_map(|(table, known)| Some((table.parse().ok()?, known.refused.and_then(reason)?)))
        .collect())
}

/// The tags of the runs that are remembered beside `run`, and its own, which is the last.
pub(super) fn tags(run: &Manifest, known: &[Manifest]) -> BTreeSet<String> {
    std::iter::once(run).chain(known).take(RUNS).map(Manifest::tag).collect()
}

/// Removes what is written of `runs`, the newest first, but of those that are remembered and those that made what
/// stands: these are left, and returned.
pub(super) async fn forget(store: &Store, runs: Vec<Manifest>) -> Result<Vec<Manifest>, Error> {
    let mut seen = BTreeSet::new();
    let mut left = Vec::new();
    for (age, run) in runs.into_iter().enumerate() {
        let tables = run.outputs.iter().filter(|output| output.is_made() || output.refused);
        let tells = tables.filter(|output| seen.insert((output.table.clone(), output.refused))).count() > 0;
        if age < RUNS || tells {
            left.push(run);
            continue;
        }
        store.remove_file(&run.path()).await?;
        store.remove_file(&openlineage::path(&run)).await?;
    }
    Ok(left)
}

/// Makes the table of runs say what their manifests do, for whoever queries.
pub(super) async fn list(store: &Store, runs: &[Manifest]) -> Result<(), Error> {
    let name = TableName::new(Layer::Meta, "exports")?;
    let rows = rows(runs)?;
    let rows = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
    let turn = store.turn().await?;
    let mut table = turn.open(name.clone()).await?;
    table.replace(&turn, Box::pin(rows), &own::card(&name), HashMap::new(), None).await?;
    Ok(())
}

/// A row of each run that has ended.
fn rows(runs: &[Manifest]) -> Result<RecordBatch, ArrowError> {
    let runs: Vec<_> = runs.iter().filter(|run| run.finished_at.is_some()).collect();
    let at = |time: Timestamp| prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    };
    let counted = |run: &&Manifest| run.outputs.iter().map(|output| output.rows as i64).sum::<i64>();
    let inputs: Vec<_> =
        runs.iter().map(|run| serde_json::to_string(&run.inputs).unwrap_or_default()).collect();
    let outputs: Vec<_> = runs.iter().map(|run| run.outcomes()).collect();
    batch(vec![
        text("run_id", runs.iter().map(|run| run.run_id.as_str())).key(1),
        time("started_at", runs.iter().map(|run| Some(at(run.started_at)))),
        time("finished_at", runs.iter().map(|run| run.finished_at.map(at))),
        text("state", runs.iter().map(|run| if run.has_failed() { "failed" } else { "succeeded" })),
        text("omnimesh_version", runs.iter().map(|run| run.omnimesh_version.as_str())),
        text("format_version", runs.iter().map(|run| run.format_version.as_str())),
        integer("tables", runs.iter().map(|run| run.outputs.len() as i64)),
        integer("rows", runs.iter().map(counted)),
        optional_text("inputs", inputs.iter().map(String::as_str)),
        optional_text("outputs", outputs.iter().map(String::as_str)),
    ])
}
