//! Runs: computing the tables that are made of other tables, in the order in which they depend on each other.
//!
//! A run pins every input to one version, computes and checks each table whose inputs or definition changed, and tags
//! what it read and wrote. Each version is named in the run's [manifest] before it is tagged; one that a run
//! did not come to promise is made again.

mod make;
mod manifest;
mod part;
mod plan;
mod promise;
mod schedule;

use std::{collections::BTreeSet, convert::Infallible, fmt, sync::Arc, time::Duration};

use datafusion::execution::runtime_env::RuntimeEnv;
use events::Cursor;
use jiff::Timestamp;
use lance::dataset::Dataset;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    Error, TableName, Version,
    config::Config,
    dataset::{self, Store},
    feature, openlineage,
    sql::{self, Snapshot},
    table::{self, Derived},
};

use manifest::Known;
pub use manifest::{Input, Manifest, Outcome, Output, is_of_run};
pub(crate) use manifest::{all as manifests, refusals};

/// The tag on what was published last, and may be relied on.
pub(crate) const PROD: &str = "prod";
/// Times that a table's computation is tried in a run, and the pause between, which doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// A run that is under way.
struct Run {
    manifest: Manifest,
    /// The tags of the runs that are remembered, its own the last of them.
    remembered: BTreeSet<String>,
    /// What tables are made of: pinned as the run began, or promised by it since then.
    sources: Snapshot,
}

/// What the runs of one lake share.
pub(crate) struct Runner {
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
    /// Tables that depend on what is configured.
    configured: Vec<Arc<dyn Derived>>,
    /// Words for persons that erasures are to know.
    persons: Vec<String>,
    /// One run at a time: each goes on from what the one before it says.
    turn: Mutex<()>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    /// Computes the tables of `configured` beside those that are always there.
    pub(crate) fn new(
        config: &Config,
        store: Arc<Store>,
        configured: Vec<Arc<dyn Derived>>,
    ) -> Result<Self, Error> {
        let runtime = sql::runtime(config.query_bytes())?;
        Ok(Self { store, runtime, configured, persons: config.person_words.clone(), turn: Mutex::default() })
    }

    /// Every table that it computes.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &dyn Derived> {
        let known = table::DERIVED.iter().copied().chain(feature::tables());
        let configured = self.configured.iter().map(|derived| &**derived as &dyn Derived);
        known.map(|derived| derived as &dyn Derived).chain(configured)
    }

    /// What bounds the memory of runs, for whoever shares it.
    pub(crate) fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// Words for persons in the names of fields, for whoever erases one.
    pub(crate) fn persons(&self) -> &[String] {
        &self.persons
    }

    /// The same, of the lake as `store` knows it.
    pub(crate) fn of(&self, store: Arc<Store>) -> Self {
        Self {
            store,
            runtime: Arc::clone(&self.runtime),
            configured: self.configured.clone(),
            persons: self.persons.clone(),
            turn: Mutex::default(),
        }
    }

    /// Computes the tables of `wanted`, or all, as far as their inputs exist and have changed. `told` hears of each
    /// table before it is computed. A table that fails keeps its version, and so does what depends on it.
    pub(crate) async fn run(
        &self,
        wanted: &[TableName],
        told: &(dyn Fn(&TableName) + Sync),
    ) -> Result<Manifest, Error> {
        let plan = plan::order(self.tables(), wanted)?;
        self.run_in(self.turn().await, plan, told).await
    }

    /// Waits for the caller's turn to compute.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Computes every table, in the caller's turn.
    pub(crate) async fn run_all_in(
        &self,
        turn: MutexGuard<'_, ()>,
        told: &(dyn Fn(&TableName) + Sync),
    ) -> Result<Manifest, Error> {
        self.run_in(turn, plan::order(self.tables(), &[])?, told).await
    }

    async fn run_in(
        &self,
        _turn: MutexGuard<'_, ()>,
        plan: Vec<&dyn Derived>,
        told: &(dyn Fn(&TableName) + Sync),
    ) -> Result<Manifest, Error> {
        let others = self.store.running().await?;
        let manifest = self.run_all(plan, told).await;
        if let Some(others) = others {
            others.release().await;
        }
        manifest
    }

    async fn run_all(
        &self,
        plan: Vec<&dyn Derived>,
        told: &(dyn Fn(&TableName) + Sync),
    ) -> Result<Manifest, Error> {
        let runs = manifest::all(&self.store).await?;
        let mut known = manifest::known(&runs);
        let mut run = self.begin(&plan, &runs).await?;
        for derived in plan {
            let name = derived.name()?;
            told(&name);
            let known = known.remove(&name.to_string()).unwrap_or_default();
            self.compute(derived, &name, &known, &mut run).await;
        }
        self.finish(run.manifest, runs).await
    }

    /// Pins what the tables of `plan` are made of, as far as it can be read and kept.
    async fn begin(&self, plan: &[&dyn Derived], runs: &[Manifest]) -> Result<Run, Error> {
        let manifest = Manifest::begin();
        let remembered = manifest::tags(&manifest, runs);
        let mut run = Run { manifest, remembered, sources: Snapshot::default() };
        let mut names = BTreeSet::new();
        for derived in plan {
            names.extend(derived.inputs()?);
        }
        for name in names {
            if let Err(error) = events::caught(self.pin(&name, &mut run)).await {
                run.sources.lose(name.clone(), error.of(&name));
            }
        }
        run.manifest.write(&self.store).await?;
        for input in std::mem::take(&mut run.manifest.inputs) {
            let name: TableName = input.table.parse()?;
            match events::caught(self.keep(&name, input.version, &run.remembered)).await {
                Ok(()) => run.manifest.inputs.push(input),
                Err(error) => run.sources.lose(name.clone(), error.of(&name)),
            }
        }
        Ok(run)
    }

    /// Notes a table as it is, and of one that no run has made up to where it knows its events.
    async fn pin(&self, name: &TableName, run: &mut Run) -> Result<(), Error> {
        let Some(dataset) = self.input(name).await? else { return Ok(()) };
        if let Some(table) = table::ALL.iter().find(|table| table.owns(name)) {
            if self.store.has_lost(name).await? {
                return Err(Error::Lost { table: name.clone() });
            }
            let watermark = dataset::progress(name, &dataset, table.source().domain).await?.cursor;
            let watermark = (watermark != Cursor::START).then(|| watermark.to_string());
            let (table, version) = (name.to_string(), dataset.version().version);
            run.manifest.inputs.push(Input { table, version, watermark });
        }
        run.sources.insert(name.clone(), dataset);
        Ok(())
    }

    /// Writes down what the run has done, and forgets what runs of long ago have.
    async fn finish(&self, mut manifest: Manifest, mut runs: Vec<Manifest>) -> Result<Manifest, Error> {
        manifest.finished_at = Some(Timestamp::now());
        manifest.write(&self.store).await?;
        openlineage::write(&self.store, &manifest).await?;
        runs.insert(0, manifest.clone());
        let runs = manifest::forget(&self.store, runs).await?;
        if let Err(error) = events::caught(manifest::list(&self.store, &runs)).await {
            tracing::warn!(%error, "the table of runs stays as it is until the next one");
        }
        Ok(manifest)
    }

    /// Computes whatever is due, every `period`.
    pub(crate) async fn keep_fresh(self: Arc<Self>, period: Duration) -> Infallible {
        loop {
            tokio::time::sleep(period).await;
            let run = async {
                // What is due is another thing once others have computed.
                let turn = self.turn().await;
                let due = self.due().await?;
                if due.is_empty() {
                    return Ok(());
                }
                self.run_in(turn, plan::order(self.tables(), &due)?, &|_| {}).await.map(drop)
            };
            if let Err(error) = run.await {
                tracing::warn!(%error, "the lake's tables were not computed; trying again");
            }
        }
    }

    /// A table as others are made of it: a version that is newer than what is published may have been refused.
    async fn input(&self, name: &TableName) -> Result<Option<Dataset>, Error> {
        self.store.at(name, &Version::Published).await
    }

    /// Computes a table and promises it, or says why not.
    async fn compute(&self, derived: &dyn Derived, name: &TableName, known: &Known, run: &mut Run) {
        let begun = Timestamp::now();
        let mut output = Output::new(name);
        output.began_at = Some(begun);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let outcome = events::caught(self.attempt(derived, name, known, run, &mut output)).await;
            let Err(error) = outcome else { break };
            output.attempts = attempt;
            // These would be the same again.
            output.refused = matches!(error, Error::Definition { .. });
            let is_skipped = matches!(error, Error::Missing { .. } | Error::Input(_));
            let is_final = attempt == ATTEMPTS || output.refused || is_skipped;
            let reason = error.of(name).to_string();
            output.outcome =
                if is_skipped { Outcome::Skipped { reason } } else { Outcome::Failed { reason } };
            if is_final {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        if let Some(standing) = known.standing.as_ref().filter(|_| !output.is_made()) {
            (output.version, output.rows) = (standing.version, standing.rows);
        }
        if let Outcome::Failed { reason } = &output.outcome {
            tracing::warn!(table = %name, reason, "a table was not computed; its last version stays");
        }
        output.millis = Timestamp::now().duration_since(begun).as_millis() as u64;
        run.manifest.note(output);
    }

    /// Computes a table and promises it. Of one that fails, `output` says no more than what it was to be made of.
    async fn attempt(
        &self,
        derived: &dyn Derived,
        name: &TableName,
        known: &Known,
        run: &mut Run,
        output: &mut Output,
    ) -> Result<(), Error> {
        if let Some(made) = self.make(derived, name, known, &run.sources, output).await? {
            *output = self.promise(made, run).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
