//! The gateway of fixed configuration, until the configurable one takes its place.

pub(crate) mod admin;
pub(crate) mod call;
pub(crate) mod config;
pub(crate) mod error;
mod exchange;
mod filter;
mod message;
mod proxy;
mod reply;
pub(crate) mod server;
mod status;
mod table;
mod tls;
mod upstream;
