//! The customer service behind a real server and channel, on both engines, fed by an identity service's log.

mod event_identity;
mod persons;
mod rpc_read;
mod rpc_update;
mod rpc_watch;
mod sandbox;
