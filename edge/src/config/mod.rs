//! What an edge of a mesh is told: where to listen, whom to forward to, and how much to allow.
//!
//! It becomes an Envoy bootstrap, so that the mesh's own edge is the gateway of anybody's file.

mod bootstrap;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The certificate shown to clients; none serves plaintext.
    pub tls: Option<ServerTls>,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Where a line about each call is written.
    pub access_log: Option<PathBuf>,
    /// Where consumers are kept.
    pub consumers: DatabaseUrl,
    /// Whether calls are refused whose quota cannot be counted because that database does not answer.
    pub failure_mode_deny: bool,
    /// The backends. A service belongs to exactly one of them.
    pub upstreams: Vec<Upstream>,
    /// Which calls are refused last and which first when more are under way than can be answered.
    pub priorities: Vec<Priority>,
    pub cors: Cors,
    pub limits: Limits,
}

/// How the URL of a database is told.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    Plain(String),
    /// By the environment variable that holds it.
    Variable(String),
}

/// PEM files of the edge's own certificate chain and private key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// One backend and the full gRPC service names that it serves, such as `omnimesh.order.v1.OrderService`.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    pub services: Vec<String>,
    pub address: Address,
}

/// Services whose calls are equally important. Those of no priority are let through up to 80 %.
#[derive(Clone, Debug)]
pub struct Priority {
    pub name: String,
    pub services: Vec<String>,
    /// How much of what may be under way at once there may be for their calls to be let through: 1 to 100.
    pub share_percent: u32,
}

/// How a backend is reached: always gRPC over HTTP/2.
#[derive(Clone, Debug)]
pub enum Address {
    /// A Unix socket, in plaintext: its file mode decides who may connect.
    Unix(PathBuf),
    /// Every address of the name shares the calls.
    Tcp { host: String, port: u16, tls: Option<ClientTls> },
}

/// Mutual TLS to a backend. All files are PEM.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// The authority that signed the backend's certificate.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The DNS name that the backend's certificate must carry.
    pub server_name: String,
}

/// Which web pages may call from a browser. A page of the edge's own origin always may.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://shop.example`; `*` allows every page.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

/// Bounds on what one client can make the edge hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest message a client may send, in bytes. Default 16 MiB.
    pub max_message_bytes: u32,
    /// Calls that one client connection may have open at once. Default 100.
    pub max_concurrent_streams: u32,
    /// A client connection without calls is closed after this many seconds. Default 300.
    pub idle_timeout_seconds: u64,
    /// Reaching a backend, TLS handshake included, takes at most this many milliseconds. Default 5000.
    pub connect_timeout_ms: u64,
    /// Threads that serve traffic. Default: one per core.
    pub threads: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 * 1024 * 1024,
            max_concurrent_streams: 100,
            idle_timeout_seconds: 300,
            connect_timeout_ms: 5_000,
            threads: None,
        }
    }
}
