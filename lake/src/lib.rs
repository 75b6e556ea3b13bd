//! The lake: published events as Lance tables, each event exactly once, however often the process dies.
//!
//! In reading order: [`start`] runs one [exporter] for each [table] of events; a [dataset] is a table on disk; [`run`]
//! computes the tables that are made of other tables, by [sql] for the most part; a [card] says what a table is;
//! [`extents`] says how much is there, [`summary`] reads it back.

mod card;
mod columns;
mod config;
mod dataset;
mod digest;
mod error;
mod exporter;
mod name;
mod run;
mod sql;
mod summary;
mod table;

use std::sync::Arc;

pub use config::Config;
pub use dataset::Version;
pub use error::Error;
pub use name::{Layer, TableName};
pub use summary::{TableExtent, TableSummary, extents, summary};

use dataset::Store;
use exporter::Exporter;
pub use run::{Input, Manifest, Outcome, Output};

/// Exports whatever the tables' domains publish, beside the services of `server`.
pub fn start(config: &Config, peers: &mesh::Peers, server: &mut mesh::ServerBuilder) -> Result<(), Error> {
    let store = Arc::new(Store::create(&config.root)?);
    for &table in table::ALL {
        let channel = peers.channel_to(table.source().domain, events::SERVICE);
        let exporter = Exporter::new(table, config, Arc::clone(&store), channel);
        events::run(server, exporter.position(), exporter.run());
    }
    Ok(())
}

/// Computes the tables of `wanted`, or all that are made of other tables, as far as something has changed. `told` hears
/// of each table before it is computed.
pub async fn run(
    config: &Config,
    wanted: &[TableName],
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Manifest, Error> {
    let store = Arc::new(Store::create(&config.root)?);
    run::Runner::new(config, store)?.run(wanted, told).await
}

/// The runs of the lake in `config`, the newest first.
pub async fn runs(config: &Config) -> Result<Vec<Manifest>, Error> {
    run::manifests(&Store::existing(&config.root)).await
}
