//! Features: values of customers, products and orders at any time, as they were known at that time.
//!
//! [`fact`]s are what was bought, [`view`]s what is made of them, [`timeline`] when that changed and when it became known.
//! [`table`] keeps it as tables of the lake, [`asof`] finds what was current at a time, [`online`] answers for now and
//! [`historical`] for any time before, by the same rows: what the one said, the other says later.

pub(crate) mod asof;
mod fact;
mod grpc;
mod historical;
mod online;
mod rows;
mod service;
mod table;
mod timeline;
mod view;
mod wire;

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use mesh::{Clock, MAX_MESSAGE_BYTES, ServerBuilder};
use omnimesh_proto::feature::v1::feature_service_server::FeatureServiceServer;

use crate::{dataset::Store, table::Derived};
use grpc::Grpc;
use online::Online;
use service::Service;

/// The views' tables.
pub(crate) fn tables() -> impl Iterator<Item = &'static dyn Derived> {
    view::ALL.iter().map(|view| view as &dyn Derived)
}

/// Adds the feature service to `server`.
pub(crate) fn register(store: &Arc<Store>, runtime: &Arc<RuntimeEnv>, server: &mut ServerBuilder) {
    let clock = Clock::system();
    let online = Arc::new(Online::new(Arc::clone(store), Arc::clone(runtime), clock.clone()));
    let service = Service::new(Arc::clone(store), Arc::clone(runtime), Arc::clone(&online), clock);
    server.add(
        FeatureServiceServer::new(Grpc::new(service))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    );
    events::beside(server, online.follow());
}
