//! The mesh through its public face: real servers, real connections.

mod authorisation;
mod harness;
mod limits;
mod listeners;
mod services;
mod start;
mod telemetry;
mod tls;
