//! The client's side: listeners, TLS, connections, and the HTTP connection manager's own work on each request.

mod chain;
pub(crate) mod connection;
pub(crate) mod flush;
mod frames;
mod gate;
pub(crate) mod hcm;
pub(crate) mod linger;
pub(crate) mod listener;
pub(crate) mod local_reply;
pub(crate) mod normalize;
pub(crate) mod path;
pub(crate) mod pulse;
pub(crate) mod stats;
pub(crate) mod tls;
pub(crate) mod upgrade;
mod watched;
