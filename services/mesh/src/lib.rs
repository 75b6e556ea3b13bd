//! How services talk: one server stack, typed channels to peers, workload identity, authorisation,
//! deadlines, telemetry and errors.
//!
//! A process has one [`ServerBuilder`]. Each role it [hosts](ServerBuilder::host) adds its gRPC services to
//! it and gets [`Peers`], whose channels lead to the other roles wherever they run. Nothing in here knows
//! what the services are about.

pub mod clock;
pub mod config;
mod connection;
pub mod deadline;
mod error;
pub mod identity;
mod method;
mod panic;
mod peer;
mod peers;
mod policy;
mod propagate;
pub mod semconv;
mod server;
pub mod status;
pub mod telemetry;

pub use clock::Clock;
pub use config::Config;
pub use deadline::Deadline;
pub use error::{ServeError, StartError};
pub use identity::Identity;
pub use method::{Foreign, Streams, permissions};
pub use panic::panic_text;
pub use peer::PeerError;
pub use peers::{Channel, Peers};
pub use policy::{CONSUMER_HEADER, Caller, FORWARDING_WORKLOAD, PERMISSIONS_HEADER, Permissions, Policy};
pub use server::{Server, ServerBuilder};
pub use status::{Code, ServiceError};

/// The largest message that services accept and send, in bytes: what each adds to its generated server and
/// clients with `max_decoding_message_size` and `max_encoding_message_size`.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
