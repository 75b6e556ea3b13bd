//! Who is who: resolves the source systems' records into persons and keeps their golden ids.

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
use omnimesh_proto::identity::v1::identity_service_server::IdentityServiceServer;
use storage::Database;

/// Adds the service and its log to a server. It needs no peers: everyone else needs to know who is who first.
pub async fn register(
    config: Config,
    storage: &storage::Config,
    _peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let database = Database::open(storage, "identity", &store::MIGRATIONS).await?;
    let log = events::Log::open("identity", &database).await?;
    let service = service::Service::new(config, database, log.clone());
    server.add(
        IdentityServiceServer::new(grpc::Grpc::new(service))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    Ok(())
}
