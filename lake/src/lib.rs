//! The lake: published events as Lance tables, each event exactly once, however often the process dies.
//!
//! In reading order: [`start`] runs one [exporter] for each [table]; a [dataset] is a table on disk; [`extents`] says
//! how much is there, [`summary`] reads it back.

mod columns;
mod config;
mod dataset;
mod error;
mod exporter;
mod name;
mod summary;
mod table;

use std::sync::Arc;

pub use config::Config;
pub use error::Error;
pub use name::{Layer, TableName};
pub use summary::{TableExtent, TableSummary, extents, summary};

use dataset::Store;
use exporter::Exporter;

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
