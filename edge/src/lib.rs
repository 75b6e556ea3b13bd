//! The gateway: gRPC and gRPC-Web clients on one port, in front of every service.

mod access_log;
pub mod admin;
mod body;
pub mod bootstrap;
mod call;
mod clock;
mod downstream;
mod drain;
mod filter;
mod first;
mod flag;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gateway;
mod grpc;
mod head;
mod keys;
mod matcher;
pub mod problem;
mod proxy;
mod replay;
mod reply;
mod route;
mod stats;
mod store;
mod tls;
mod upstream;
mod value;

pub use first::admin::RenderMetrics;
pub use first::config::{Address, ClientTls, Config, Cors, Limits, ServerTls, Upstream};
pub use first::error::{KeysError, StartError};
pub use first::server::{Running, check, start};
pub use keys::{ApiKey, Grant, Keys};
pub use problem::Problem;
