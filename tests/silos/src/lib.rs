//! Builds the retailer's legacy systems (the README describes their files) from The Complete Journey, a year of real
//! baskets. The same seed and size give the same bytes, so that demo, tests and benchmarks ingest the same data.

mod chance;
mod clerk;
mod dataset;
mod error;
mod events;
mod loyalty;
mod marketplace;
mod money;
mod people;
mod plan;
mod pos;
mod shop;
mod stock;
mod summary;
mod text_file;
mod truth;
mod when;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::{JoinHandle, JoinSet, spawn_blocking},
};

use crate::{dataset::Dataset, people::Household, plan::Plan, text_file::Written};
pub use crate::{
    dataset::{DATASET_SHA256, WHEEL, locate_dataset},
    error::Error,
    summary::{Summary, Tally},
};

/// Written last: a directory that has it is complete.
const MARKER: &str = "silos.json";

#[derive(Debug, Clone)]
pub struct Config {
    /// The wheel that carries the Parquet files.
    pub wheel: PathBuf,
    /// The directory to build; its parent must be writable.
    pub output: PathBuf,
    pub size: Size,
    pub seed: u64,
    /// PostgreSQL URL for the shop; without it the shop is a SQLite file.
    pub shop_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// A tenth of the households, with all their baskets.
    Small,
    Full,
}

/// Where the builder tells how far it is. Stages follow one another.
pub trait Progress: Sync {
    fn start(&self, stage: &str, total: u64);
    fn advance(&self, steps: u64);
    fn finish(&self);
}

/// What a complete directory was built from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Recipe {
    seed: u64,
    size: Size,
    dataset_sha256: String,
    /// Digest of the URL, so that the marker holds no password.
    shop_url_sha256: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    recipe: Recipe,
    summary: Summary,
}

/// What the complete silos in `directory` hold; none if there are none.
pub fn summary(directory: &Path) -> Result<Option<Summary>, Error> {
    Ok(existing(directory)?.map(|marker| marker.summary))
}

/// All that the silos are written from.
struct World {
    seed: u64,
    dataset: Dataset,
    households: Vec<Household>,
    plan: Plan,
}

/// What the writer of one silo works with.
#[derive(Clone)]
struct Site {
    root: PathBuf,
    world: Arc<World>,
    steps: UnboundedSender<u64>,
}

impl Site {
    /// Nobody listening any more means that the build was given up, which the writer cannot mend.
    fn advance(&self, steps: u64) {
        self.steps.send(steps).ok();
    }
}

/// Builds `config.output`, or returns at once when it is already what `config` asks for.
///
/// The work is done in a directory beside it, which takes its place in the end: a killed build leaves nothing half done.
pub async fn build(config: &Config, progress: &dyn Progress) -> Result<Summary, Error> {
    if config.shop_url.as_deref().is_some_and(|url| !shop::is_postgres(url)) {
        return Err(Error::ShopUrl);
    }
    let recipe = Recipe {
        seed: config.seed,
        size: config.size,
        dataset_sha256: DATASET_SHA256.to_owned(),
        shop_url_sha256: config.shop_url.as_ref().map(|url| hex::encode(Sha256::digest(url))),
    };
    if let Some(marker) = existing(&config.output)?
        && marker.recipe == recipe
    {
        return Ok(marker.summary);
    }
    let root = beside(&config.output);
    clear(&root)?;
    fs::create_dir_all(&root).map_err(Error::io(&root))?;

    let world = prepare(config, progress).await?;
    let summary = write(config, &recipe, &root, world, progress).await?;

    let marker = serde_json::to_vec_pretty(&Marker { recipe, summary: summary.clone() })?;
    let path = root.join(MARKER);
    fs::write(&path, marker).map_err(Error::io(&path))?;
    clear(&config.output)?;
    fs::rename(&root, &config.output).map_err(Error::io(&config.output))?;
    Ok(summary)
}

/// The marker of a complete directory. A directory that holds anything else is not ours to replace.
fn existing(output: &Path) -> Result<Option<Marker>, Error> {
    let path = output.join(MARKER);
    if path.is_file() {
        let text = fs::read(&path).map_err(Error::io(&path))?;
        return Ok(Some(serde_json::from_slice(&text)?));
    }
    if fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Occupied { path: output.to_owned() });
    }
    Ok(None)
}

fn beside(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    output.with_file_name(name)
}

fn clear(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(Error::io(directory))?;
    }
    Ok(())
}

/// Reads the dataset, invents the people, and decides which system saw which basket.
async fn prepare(config: &Config, progress: &dyn Progress) -> Result<Arc<World>, Error> {
    let Config { wheel, seed, size, .. } = config.clone();
    progress.start("Reading the dataset", 2);
    let dataset = finished(spawn_blocking(move || Dataset::read(&wheel, seed, size))).await?;
    progress.advance(1);
    let world = finished(spawn_blocking(move || {
        let households = people::settle(seed, &dataset)?;
        let plan = Plan::draw(seed, &dataset, &households);
        Ok(World { seed, dataset, households, plan })
    }))
    .await?;
    progress.advance(1);
    progress.finish();
    Ok(Arc::new(world))
}

type Writer = fn(&Site) -> Result<Written, Error>;

const WRITERS: [(&str, Writer); 5] = [
    ("pos", pos::write),
    ("marketplace", marketplace::write),
    ("events", events::write),
    ("stock", stock::write),
    ("loyalty", loyalty::write),
];

async fn write(
    config: &Config,
    recipe: &Recipe,
    root: &Path,
    world: Arc<World>,
    progress: &dyn Progress,
) -> Result<Summary, Error> {
    progress.start("Building the silos", world.plan.sightings());
    let (steps, mut taken) = unbounded_channel();
    let site = Site { root: root.to_owned(), world, steps };
    let mut tasks = JoinSet::new();
    for (name, writer) in WRITERS {
        let site = site.clone();
        tasks.spawn_blocking(move || Ok::<_, Error>((name, writer(&site)?)));
    }
    let (shop_site, url, build_id) = (site.clone(), config.shop_url.clone(), serde_json::to_string(recipe)?);
    tasks.spawn(async move { Ok(("shop", shop::write(&shop_site, url.as_deref(), &build_id).await?)) });

    let Site { root, world, steps } = site;
    drop(steps);
    while let Some(steps) = taken.recv().await {
        progress.advance(steps);
    }
    let mut silos = Vec::new();
    while let Some(task) = tasks.join_next().await {
        silos.push(task.map_err(Error::Panicked)??);
    }
    progress.finish();
    finished(spawn_blocking(move || truth::write(&root, &world, silos))).await
}

async fn finished<T>(task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.map_err(Error::Panicked)?
}
