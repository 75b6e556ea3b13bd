//! Runs: computing the tables that are made of other tables, in the order in which they depend on each other.
//!
//! A run pins every input to one version, computes and checks each table whose inputs or definition changed, and tags
//! what it read and wrote. Each version is named in the run's [manifest] before it is `prod`: one without a manifest was
//! never promised.

mod manifest;
mod part;
mod plan;
mod schedule;

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use datafusion::execution::runtime_env::RuntimeEnv;
use events::Cursor;
use lance::dataset::Dataset;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::{
    Error, TableName, Version,
    card::Card,
    config::Config,
    dataset::{self, Published, Store, identity},
    digest::Digest,
    feature, openlineage,
    sql::{self, Snapshot},
    table::{self, Derived},
};

use manifest::Known;
pub use manifest::{Input, Manifest, Outcome, Output, is_of_run};
pub(crate) use manifest::{all as manifests, refusals};
use part::Part;

/// The tag on what was published last, and may be relied on.
pub(crate) const PROD: &str = "prod";
/// Times that a table's computation is tried in a run, and the pause between, which doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What the runs of one lake share.
pub(crate) struct Runner {
    store: Arc<Store>,
    runtime: Arc<RuntimeEnv>,
    /// Tables that depend on what is configured.
    configured: Vec<Arc<dyn Derived>>,
    /// One run at a time: each goes on from what the one before it says.
    turn: Mutex<()>,
}

impl Runner {
    /// Computes the tables of `configured` beside those that are always there.
    pub(crate) fn new(
        config: &Config,
        store: Arc<Store>,
        configured: Vec<Arc<dyn Derived>>,
    ) -> Result<Self, Error> {
        Ok(Self { store, runtime: sql::runtime(config.query_bytes())?, configured, turn: Mutex::default() })
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

    /// The same, of the lake as `store` knows it.
    pub(crate) fn of(&self, store: Arc<Store>) -> Self {
        Self {
            store,
            runtime: Arc::clone(&self.runtime),
            configured: self.configured.clone(),
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
        let (_ours, others) = (self.turn.lock().await, self.store.running().await?);
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
        let mut runs = manifest::all(&self.store).await?;
        let mut known = manifest::known(&runs);
        let mut manifest = Manifest::begin();
        let remembered = manifest::tags(&manifest, &runs);
        let mut sources = self.pin(&plan).await?;
        manifest.inputs = self.inputs(&sources).await?;
        for input in &manifest.inputs {
            self.keep(&input.table.parse()?, input.version, &remembered).await?;
        }
        for derived in plan {
            let name = derived.name()?;
            told(&name);
            let known = known.remove(&name.to_string()).unwrap_or_default();
            let output = self.compute(derived, &name, &mut sources, &known).await;
            manifest.outputs.push(output);
            self.promise(&name, &manifest, &remembered).await?;
        }
        manifest.finish(&self.store).await?;
        openlineage::write(&self.store, &manifest).await?;
        runs.insert(0, manifest.clone());
        manifest::forget(&self.store, &runs).await?;
        Ok(manifest)
    }

    /// Computes whatever is due, every `period`.
    pub(crate) async fn keep_fresh(self: Arc<Self>, period: Duration) -> Infallible {
        loop {
            tokio::time::sleep(period).await;
            let run = async {
                let due = self.due().await?;
                if due.is_empty() { Ok(()) } else { self.run(&due, &|_| {}).await.map(drop) }
            };
            if let Err(error) = run.await {
                tracing::warn!(%error, "the lake's tables were not computed; trying again");
            }
        }
    }

    /// Tables that would change: something that they are made of has changed, and it is their time.
    async fn due(&self) -> Result<Vec<TableName>, Error> {
        let known = manifest::known(&manifest::all(&self.store).await?);
        let mut changed = BTreeSet::new();
        let mut due = Vec::new();
        for derived in plan::order(self.tables(), &[])? {
            let name = derived.name()?;
            let known = known.get(&name.to_string());
            let last = known.and_then(Known::latest);
            let mut is_due = last.is_none_or(|last| last.definition != definition(derived));
            let mut is_possible = true;
            for input in derived.inputs()? {
                // What cannot be read now may be at another time.
                let Ok(found) = self.input(&input).await else {
                    is_possible = false;
                    continue;
                };
                let version = found.map(|dataset| dataset.version().version);
                is_possible &= version.is_some() || changed.contains(&input) || derived.can_lack(&input)?;
                let used = last.and_then(|last| last.inputs.get(&input.to_string()));
                is_due |= version.as_ref() != used || changed.contains(&input);
            }
            let began = last.and_then(|last| last.began_at);
            let rests = known.is_some_and(|known| known.rests(jiff::Timestamp::now()));
            let stands = known.and_then(|known| known.standing.as_ref());
            // A run that was cut short may not have come to promise what it made.
            if let (Some(stands), Ok(Some(promised))) = (stands, self.input(&name).await) {
                is_due |= promised.version().version != stands.version;
            }
            if is_due && is_possible && !rests && schedule::has_come(&derived.card().schedule, began)? {
                changed.insert(name.clone());
                due.push(name);
            }
        }
        Ok(due)
    }

    /// Everything that is read, as far as it can be.
    async fn pin(&self, plan: &[&dyn Derived]) -> Result<Snapshot, Error> {
        let mut snapshot = Snapshot::default();
        for derived in plan {
            for input in derived.inputs()? {
                match self.input(&input).await {
                    Ok(Some(dataset)) => snapshot.insert(input, dataset),
                    Ok(None) => {}
                    Err(error) => snapshot.lose(input, error),
                }
            }
        }
        Ok(snapshot)
    }

    /// A table as others are made of it: its newest version, but of a computed one what was published last, as a newer
    /// version may have been refused.
    async fn input(&self, name: &TableName) -> Result<Option<Dataset>, Error> {
        let is_computed = self.tables().any(|derived| derived.name().is_ok_and(|computed| computed == *name));
        let version = if is_computed { Version::Tag(PROD.to_owned()) } else { Version::Newest };
        self.store.at(name, &version).await
    }

    /// Computes a table into `sources`, or says why not.
    async fn compute(
        &self,
        derived: &dyn Derived,
        name: &TableName,
        sources: &mut Snapshot,
        known: &Known,
    ) -> Output {
        let begun = jiff::Timestamp::now();
        let mut output = Output::new(name);
        output.began_at = Some(begun);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let outcome = self.attempt(derived, name, sources, known, &mut output).await;
            let Err(error) = outcome else { break };
            output.attempts = attempt;
            // These would be the same again.
            output.refused = matches!(error, Error::Definition { .. });
            let is_skipped = matches!(error, Error::Missing { .. } | Error::Input(_));
            let is_final = attempt == ATTEMPTS || output.refused || is_skipped;
            let reason = error.to_string();
            output.outcome =
                if is_skipped { Outcome::Skipped { reason } } else { Outcome::Failed { reason } };
            if is_final {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        if let Outcome::Failed { reason } = &output.outcome {
            tracing::warn!(table = %name, reason, "a table was not computed; its last version stays");
        }
        output.millis = jiff::Timestamp::now().duration_since(begun).as_millis() as u64;
        output
    }

    async fn attempt(
        &self,
        derived: &dyn Derived,
        name: &TableName,
        sources: &mut Snapshot,
        known: &Known,
        output: &mut Output,
    ) -> Result<(), Error> {
        let mut inputs = Snapshot::default();
        output.inputs.clear();
        for input in derived.inputs()? {
            let dataset = match sources.dataset(&input) {
                Err(Error::Missing { .. }) if derived.can_lack(&input)? => continue,
                dataset => Arc::clone(dataset?),
            };
            output.inputs.insert(input.to_string(), dataset.version().version);
            inputs.share(input, &dataset);
        }
        output.definition = definition(derived);
        if let Some(refused) = known.refused.as_ref().filter(|refused| refused.is_of(output)) {
            *output = Output { began_at: output.began_at, ..refused.clone() };
            return Ok(());
        }
        let mut table = self.store.open(name.clone()).await?;
        let is_newest = |last: &&Output| table.dataset().is_some_and(|d| d.version().version == last.version);
        let stands = known.standing.as_ref().filter(is_newest);
        if let Some(last) = stands.filter(|last| last.is_of(output)) {
            *output = Output { outcome: Outcome::Unchanged, began_at: output.began_at, ..last.clone() };
        } else {
            if let Some(stands) = table.dataset() {
                inputs.insert(name.clone(), stands.clone());
            }
            let mut card = derived.card();
            let published = self.publish(derived, &inputs, &mut table, &card, stands, output).await?;
            let is_new = published.is_new;
            if is_new {
                card.more.extend(derived.ready(&mut table).await?);
                table.describe(&card).await?;
            }
            // Not before: what is not ready must not count as what stands.
            output.took(published);
            if let Some(dataset) = table.dataset().filter(|_| is_new) {
                output.version = dataset.version().version;
            }
            output.lineage = derived.lineage(&inputs, &self.runtime).await?;
        }
        if let Some(dataset) = table.dataset() {
            sources.insert(name.clone(), dataset.clone());
        }
        Ok(())
    }

    /// Computes the rows to add to those that stand, or the part that has changed, or else everything.
    async fn publish(
        &self,
        derived: &dyn Derived,
        inputs: &Snapshot,
        table: &mut dataset::Table,
        card: &Card,
        stands: Option<&Output>,
        output: &mut Output,
    ) -> Result<Published, Error> {
        let properties = HashMap::from([("omnimesh.definition".to_owned(), output.definition.clone())]);
        if let Some(standing) = table.dataset().cloned() {
            let standing = Arc::new(standing);
            if let Some(rows) = derived.extend(inputs, &standing, &self.runtime).await? {
                let told = stands.and_then(|last| Digest::known(last.rows, &last.content));
                let standing = match told {
                    Some(digest) => digest,
                    None => dataset::digest(&derived.name()?, &standing).await?,
                };
                let turn = self.store.turn().await?;
                return table.extend(&turn, rows, card, properties, standing).await;
            }
        }
        if let Some(last) = stands
            && let Some(Part { input, values }) =
                part::changed(&self.store, derived, inputs, last, output).await?
        {
            let rows = derived.compute(&inputs.narrowed(&input, &values), &self.runtime).await?;
            let turn = self.store.turn().await?;
            let last = last.published();
            let published = table.replace_part(&turn, rows, &values, card, properties.clone(), last).await?;
            if let Some(published) = published {
                output.changed_values = Some(values.num_rows() as u64);
                return Ok(published);
            }
        }
        let rows = derived.compute(inputs, &self.runtime).await?;
        let turn = self.store.turn().await?;
        let known = stands.map(|last| identity(&last.schema, &last.content));
        table.replace(&turn, rows, card, properties, known.as_deref()).await
    }

    /// What was read that no run has made, and up to where it knows its events.
    async fn inputs(&self, sources: &Snapshot) -> Result<Vec<Input>, Error> {
        let mut inputs = Vec::new();
        for (name, dataset) in sources.tables() {
            let made_of = table::ALL.iter().find(|table| table.owns(name)).map(|table| table.source());
            let watermark = match made_of {
                Some(source) => dataset::progress(name, dataset, source.domain).await?.cursor,
                None => continue,
            };
            let watermark = (watermark != Cursor::START).then(|| watermark.to_string());
            inputs.push(Input { table: name.to_string(), version: dataset.version().version, watermark });
        }
        Ok(inputs)
    }

    /// Lets others rely on what was computed last: its version is kept, then named, and only then is it `prod`. So a
    /// process that dies leaves nothing as `prod` that no manifest names.
    async fn promise(
        &self,
        name: &TableName,
        manifest: &Manifest,
        remembered: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let Some(output) = manifest.outputs.last().filter(|output| output.version > 0) else { return Ok(()) };
        let mut table = self.keep(name, output.version, remembered).await?;
        if output.outcome == Outcome::Published {
            manifest.write(&self.store).await?;
        }
        table.tag(PROD, output.version).await
    }

    /// Lets a version be read for as long as its run is remembered, and those of forgotten runs go.
    async fn keep(
        &self,
        name: &TableName,
        version: u64,
        remembered: &BTreeSet<String>,
    ) -> Result<dataset::Table, Error> {
        let mut table = self.store.open(name.clone()).await?;
        if let Some(run) = remembered.last() {
            table.tag(run, version).await?;
        }
        table.untag(|tag| is_of_run(tag) && !remembered.contains(tag)).await?;
        Ok(table)
    }
}

/// The digest of what a table is computed by.
fn definition(derived: &dyn Derived) -> String {
    format!("{:032x}", crate::digest::half(&Sha256::digest(derived.definition())))
}

#[cfg(test)]
mod tests;
