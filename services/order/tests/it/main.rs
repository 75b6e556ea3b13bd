//! The order service behind a real channel, on both engines.

mod rpc_import;
mod rpc_link;
mod rpc_read;
mod rpc_watch;
mod sandbox;
mod store_unification;
