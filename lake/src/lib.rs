//! The lake: published events as Lance tables, each event exactly once, however often the process dies.
//!
//! In reading order: [`start`] runs one [exporter] for each [table] of events; a [dataset] is a table on disk; [`run`]
//! computes the tables that are made of other tables, by [sql] for the most part; a [card] says what a table is,
//! [openlineage] what it is made of; [`extents`] says how much is there, [`summary`] reads it back.

#[cfg(feature = "bench")]
pub mod bench;
mod card;
mod catalog;
mod columns;
mod config;
mod dataset;
mod deny;
mod diff;
mod digest;
mod erase;
mod error;
mod exporter;
mod feature;
mod flight;
mod grpc;
mod listed;
mod mirror;
mod name;
mod openlineage;
mod root;
mod run;
mod sql;
mod summary;
mod table;
mod vector;

use std::sync::Arc;

pub use catalog::{ColumnInfo, DatasetInfo};
pub use config::Config;
pub use dataset::Version;
pub use diff::{Diff, Keys};
pub use erase::{Erasure, Loss};
pub use error::Error;
pub use flight::FLIGHT;
pub use mirror::Mirror;
pub use name::{Layer, TableName};
pub use root::{Root, registry};
pub use summary::{TableExtent, TableSummary, exported, extents, summary};

use dataset::Store;
use exporter::Exporter;
use grpc::Grpc;
use lance::dataset::refs::check_valid_tag;
use mesh::MAX_MESSAGE_BYTES;
use omnimesh_proto::{
    feature::v1::vector_service_server::VectorServiceServer,
    lake::v1::dataset_service_server::DatasetServiceServer,
};
pub use run::{Input, Manifest, Outcome, Output, is_of_run};
pub use sql::{Lineage, Origin, Role};
use vector::{embedder, serve::Vectors};

/// Adds the lake's services to `server`, and exports beside them whatever the tables' domains publish.
pub fn start(
    config: &Config,
    peers: &mesh::Peers,
    server: &mut mesh::ServerBuilder,
) -> Result<Served, Error> {
    let store = Arc::new(Store::create(&config.root)?);
    for &table in table::ALL {
        let channel = peers.channel_to(table.source().domain, events::SERVICE);
        let exporter = Exporter::new(table, config, Arc::clone(&store), channel);
        events::run(server, exporter.position(), exporter.run());
    }
    let embedder = embedder::open(config.text_model.as_deref())?;
    let vectors = Arc::new(Vectors::new(Arc::clone(&store), Arc::clone(&embedder)));
    events::beside(server, Arc::clone(&vectors).follow());
    server.add(
        VectorServiceServer::new(vector::grpc::Grpc::new(vectors))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    let runner = Arc::new(run::Runner::new(config, Arc::clone(&store), table::of_texts(embedder))?);
    feature::register(&store, &runner.runtime(), server);
    if let Some(period) = config.refresh() {
        events::beside(server, Arc::clone(&runner).keep_fresh(period));
    }
    flight::serve(config, Arc::clone(&store), runner.runtime(), server)?;
    server.add(DatasetServiceServer::new(Grpc::new(store, Arc::clone(&runner))));
    Ok(Served { runner })
}

/// A lake that a process serves.
#[derive(Debug)]
pub struct Served {
    runner: Arc<run::Runner>,
}

impl Served {
    /// Waits until this process computes nothing; it does not again until what is returned is dropped. So whoever brings
    /// very much lets that be computed once, when it has come.
    pub async fn hold(&self) -> Held<'_> {
        Held { runner: &self.runner, turn: self.runner.turn().await }
    }
}

/// A lake of which nobody else in this process computes a table.
#[derive(Debug)]
pub struct Held<'a> {
    runner: &'a run::Runner,
    turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Held<'_> {
    /// Computes all as [`run`] does.
    pub async fn run(self, told: &(dyn Fn(&TableName) + Sync)) -> Result<Manifest, Error> {
        self.runner.run_all_in(self.turn, told).await
    }
}

/// Computes the tables of `wanted`, or all that are made of other tables, as far as something has changed. `told` hears
/// of each table before it is computed.
pub async fn run(
    config: &Config,
    wanted: &[TableName],
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Manifest, Error> {
    let store = Arc::new(Store::create(&config.root)?);
    let embedder = embedder::open(config.text_model.as_deref())?;
    run::Runner::new(config, store, table::of_texts(embedder))?.run(wanted, told).await
}

/// Erases the person whose `keys` are given from the lake, for good; or only tells what that would take away. `told` hears
/// of each table before it is looked into.
pub async fn erase(
    config: &Config,
    keys: &[String],
    dry_run: bool,
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Erasure, Error> {
    let store = Arc::new(Store::create(&config.root)?);
    let embedder = embedder::open(config.text_model.as_deref())?;
    let runner = run::Runner::new(config, Arc::clone(&store), table::of_texts(embedder))?;
    match dry_run {
        true => erase::preview(store, &runner, keys, told).await,
        false => erase::erase(&store, &runner, keys, told).await,
    }
}

/// Whether there is anything where `config` says that the lake is. Nothing is made by asking.
pub async fn exists(config: &Config) -> Result<bool, Error> {
    Ok(!Store::existing(&config.root).files("").await?.is_empty())
}

/// The runs of the lake in `config`, the newest first.
pub async fn runs(config: &Config) -> Result<Vec<Manifest>, Error> {
    run::manifests(&Store::existing(&config.root)).await
}

/// The tables of the lake in `config`: how large and fresh they are, what is said about them, and what is wrong.
pub async fn datasets(config: &Config) -> Result<Vec<DatasetInfo>, Error> {
    catalog::list(&Store::existing(&config.root)).await
}

/// What tells two versions of a table, or of two tables of one key, apart.
pub async fn diff(
    config: &Config,
    from: (&TableName, &Version),
    to: (&TableName, &Version),
) -> Result<Diff, Error> {
    diff::diff(&Store::existing(&config.root), from, to).await
}

/// Puts a tag on a version of a table: it can be read by that name for as long as the tag stays. Only `force` moves a
/// tag that is there.
pub async fn tag(
    config: &Config,
    name: &TableName,
    version: &Version,
    tag: &str,
    force: bool,
) -> Result<u64, Error> {
    let taken = |reason| Err(Error::Tag { tag: tag.to_owned(), reason });
    if tag == run::PROD || is_of_run(tag) {
        return taken("runs put and move it; choose another name, such as train-churn-2026-11");
    }
    if Version::from(tag) != Version::Tag(tag.to_owned()) {
        return taken("it would be read as a version; begin it with a letter");
    }
    if check_valid_tag(tag).is_err() {
        return taken(
            "its name is letters, digits, `-`, `_` and single dots between them, without .lock at its end, \
             such as train-churn-2026-11",
        );
    }
    let store = Store::existing(&config.root);
    let at = async |version: &Version| {
        let found = store.at(name, version).await?;
        Ok::<_, Error>(found.map(|dataset| dataset.version().version))
    };
    let number = at(version).await?;
    let number = number.ok_or_else(|| Error::NotFound { what: format!("table {name} at {version}") })?;
    match at(&Version::Tag(tag.to_owned())).await? {
        Some(standing) if standing != number && !force => {
            return taken("it is on another version already; `--force` moves it");
        }
        _ => {}
    }
    store.open(name.clone()).await?.tag(tag, number).await?;
    Ok(number)
}

/// Writes a version of a table as Parquet below `out`, by default beside the lake's layers, unless it is there.
pub async fn mirror(
    config: &Config,
    name: &TableName,
    version: &Version,
    out: Option<&Root>,
) -> Result<Mirror, Error> {
    let beside = config.root.at("mirror").parse()?;
    let out = Store::existing(out.unwrap_or(&beside));
    mirror::mirror(&Store::existing(&config.root), &out, name, version).await
}
