//! The gateway: gRPC and gRPC-Web clients on one port, in front of every service.

mod access_log;
pub mod admin;
mod arrival;
mod body;
pub mod bootstrap;
mod bucket;
mod call;
mod certificates;
mod clock;
mod compile;
mod config;
mod consumers;
mod downstream;
mod drain;
pub mod explain;
mod filter;
mod flag;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gateway;
mod grpc;
mod head;
mod matcher;
pub mod problem;
mod proxy;
mod replay;
mod reply;
mod route;
mod stamp;
mod stats;
mod store;
mod telemetry;
mod tls;
mod upstream;
mod value;
mod wait;
mod worker;

pub use config::{Address, ClientTls, Config, Cors, DatabaseUrl, Limits, Priority, ServerTls, Upstream};
pub use consumers::{ApiKey, Consumers, ConsumersError, Grant, Month, NoMonth, Plan, Rate, Usage};
pub use problem::Problem;
pub use stamp::stamps;
