//! The catalog service behind a real channel, on both engines.

mod rpc_categories;
mod rpc_import;
mod rpc_read;
mod rpc_update;
mod rpc_watch;
mod sandbox;
mod store_import;
