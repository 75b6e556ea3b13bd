//! Orders: the history of purchases over all systems, each physical purchase exactly once.

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

use events::Consumer;
use mesh::{MAX_MESSAGE_BYTES, Peers, ServerBuilder};
use omnimesh_proto::order::v1::order_service_server::OrderServiceServer;
use storage::Database;

use crate::{event::CustomerHandler, grpc::Grpc, service::Service, store::Store};

/// Adds the order service, its events and its consumer to `server`.
pub async fn register(
    config: Config,
    storage: &storage::Config,
    peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let Config {} = config;
    let database = Database::open(storage, "order", &store::MIGRATIONS).await?;
    let log = events::Log::open("order", &database).await?;
    let service = Service::new(Store::new(database.clone()), log.clone());
    server.add(
        OrderServiceServer::new(Grpc::new(service.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    let channel = peers.channel_to("identity", "omnimesh.event.v1.EventService");
    let consumer =
        Consumer::open("order<-identity", "identity", &[event::IDENTITY_CHANGED], channel, &database).await?;
    events::consume(server, consumer, CustomerHandler::new(service));
    Ok(())
}
