//! Intake of what the source systems hold: landed unaltered, mapped to the domains' commands, quarantined where bad.

mod config;
mod connector;
mod definition;
mod domain;
mod error;
mod event;
mod grpc;
mod landing;
mod mapping;
mod peer;
mod run;
mod service;
mod source;
mod store;
mod wire;

pub use config::{Config, demo_sources, read_sources};
pub use definition::Definition;
pub use error::Error;

use mesh::{MAX_MESSAGE_BYTES, Peers, ServerBuilder};
use omnimesh_proto::ingest::v1::ingest_service_server::IngestServiceServer;
use storage::Database;

/// Adds the service and its log to a server. A mistake in a source's definition is [`Error::Definition`].
pub async fn register(
    config: Config,
    storage: &storage::Config,
    peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let sources = source::compile(config.sources)?;
    let database = Database::open(storage, "ingest", &store::MIGRATIONS).await?;
    let log = events::Log::open("ingest", &database).await?;
    let domains = peer::Domains::new(peers);
    let service = service::Service::new(sources, store::Store::new(database), log.clone(), domains);
    server.add(
        IngestServiceServer::new(grpc::Grpc::new(service))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    Ok(())
}
