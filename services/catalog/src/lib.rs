//! Catalog: what is sold, and the tree of categories that it is found in.

mod config;
mod domain;
mod error;
mod event;
mod grpc;
mod service;
mod store;
mod wire;

pub use config::Config;
pub use error::Error;

use mesh::{MAX_MESSAGE_BYTES, Peers, ServerBuilder};
use omnimesh_proto::catalog::v1::catalog_service_server::CatalogServiceServer;
use storage::Database;

use crate::{grpc::Grpc, service::Service};

/// Adds the catalog service and its events to `server`. It asks nothing of its peers.
pub async fn register(
    config: Config,
    storage: &storage::Config,
    _peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let Config {} = config;
    let database = Database::open(storage, "catalog", &store::MIGRATIONS).await?;
    let log = events::Log::open("catalog", &database).await?;
    server.add(
        CatalogServiceServer::new(Grpc::new(Service::new(database, log.clone())))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    Ok(())
}
