//! The inventory service through a real channel, on both engines.

mod rpc_change;
mod rpc_import;
mod rpc_read;
mod rpc_watch;
mod sandbox;
mod store_tracking;
