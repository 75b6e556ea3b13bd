//! Inventory: how much of a product is where, live, and the ledger that proves it.

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
use omnimesh_proto::inventory::v1::inventory_service_server::InventoryServiceServer;
use storage::Database;

use crate::{event::SalesHandler, grpc::Grpc, service::Service, store::Store};

/// Adds the inventory service, its events and its consumer to `server`.
pub async fn register(
    config: Config,
    storage: &storage::Config,
    peers: &Peers,
    server: &mut ServerBuilder,
) -> Result<(), Error> {
    let Config {} = config;
    let database = Database::open(storage, "inventory", &store::MIGRATIONS).await?;
    let log = events::Log::open("inventory", &database).await?;
    let service = Service::new(Store::new(database.clone()), log.clone());
    server.add(
        InventoryServiceServer::new(Grpc::new(service.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::serve(server, log);
    let channel = peers.channel_to("order", events::SERVICE);
    let consumer =
        Consumer::open("inventory<-order", "order", &[event::ORDER_CHANGED], channel, &database).await?;
    events::consume(server, consumer, SalesHandler::new(service));
    Ok(())
}
