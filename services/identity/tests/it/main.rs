//! The identity service behind a real server and channel, on both engines.

mod event_links;
mod rpc_import;
mod rpc_merge;
mod rpc_read;
mod rpc_watch;
mod sandbox;
