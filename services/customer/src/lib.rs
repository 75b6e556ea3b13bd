//! Customers: the golden profile of every person, and where each of its values came from.

mod config;
mod domain;
mod error;
mod event;
mod grpc;
mod peer;
mod service;
mod store;
mod wire;

pub use config::Config;
pub use error::Error;

use events::Consumer;
use mesh::{MAX_MESSAGE_BYTES, Peers, ServerBuilder};
use omnimesh_proto::customer::v1::customer_service_server::CustomerServiceServer;
use storage::Database;

/// Adds the service, its log and its consumer of identities to a server.
pub async fn register(
    _config: Config,
    storage: &storage::Config,
    peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let database = Database::open(storage, "customer", &store::MIGRATIONS).await?;
    let log = events::Log::open("customer", &database).await?;
    let identities = peers.channel(peer::IDENTITY_SERVICE);
    let service =
        service::Service::new(database.clone(), log.clone(), peer::Identities::new(identities.clone()));
    server.add(
        CustomerServiceServer::new(grpc::Grpc::new(service.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    let types = [event::IDENTITY_CHANGED];
    let consumer = Consumer::open("customer<-identity", "identity", &types, identities, &database).await?;
    events::consume(server, consumer, event::IdentityHandler::new(service));
    Ok(())
}
