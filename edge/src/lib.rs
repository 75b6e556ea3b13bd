//! The gateway: gRPC and gRPC-Web clients on one port, in front of every service.
//!
//! A call's life, file by file: `proxy` lists the phases; each `filter` decides one thing about the request;
//! `upstream` opens a stream to the backend; `exchange` moves the bytes; `reply` is what the edge says itself.

mod admin;
pub mod bootstrap;
mod call;
mod config;
mod error;
mod exchange;
mod filter;
mod keys;
mod message;
pub mod problem;
mod proxy;
mod reply;
mod server;
mod status;
mod store;
mod tls;
mod upstream;

pub use admin::RenderMetrics;
pub use config::{Address, ClientTls, Config, Cors, Limits, ServerTls, Upstream};
pub use error::{KeysError, StartError};
pub use keys::{Grant, Keys};
pub use server::{Running, start};
