//! What can be configured about how services talk. Defaults live here and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Configuration of a process's server and of its way to peers.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where other processes reach this one. Default: nowhere.
    pub listen: Listen,
    /// Address (`host:port`) of each role that runs in another process. Default: none, all roles run here.
    pub peers: BTreeMap<String, String>,
    /// This process's certificate. Default: one issued by the development authority of the data directory.
    pub certificate: Option<CertificateFiles>,
    /// What the server takes on at most.
    pub limits: Limits,
}

/// The listeners beside the in-memory pipes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Path of a Unix socket (mode 0600) for the edge on this machine. Default: none.
    pub unix: Option<PathBuf>,
    /// Address for peers in other processes, with mutual TLS. Default: none.
    pub tcp: Option<SocketAddr>,
    /// Serves `tcp` without TLS, on a loopback address only. Its callers have no identity, so that they reach
    /// health and reflection and nothing else. Default: false.
    pub plaintext: bool,
}

/// A workload certificate issued elsewhere, as PEM files. They are read again every eight hours.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The authorities that peers' certificates must come from.
    pub ca: PathBuf,
    /// The certificate chain, leaf first: URI SAN `spiffe://omnimesh/role/<role>`, DNS SAN
    /// `<role>.mesh.omnimesh`.
    pub chain: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// What a server takes on at most.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls being handled at one time; a call beyond is answered UNAVAILABLE at once. A stream counts until
    /// its first message is ready. Default: 1024.
    pub concurrent_calls: usize,
    /// Longest time for a unary call, in milliseconds, whatever the client asks for. Default: 30000.
    pub unary_timeout_ms: u64,
    /// Time that calls get to finish once the server is told to stop, in milliseconds. Default: 10000.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent_calls: 1024, unary_timeout_ms: 30_000, drain_ms: 10_000 }
    }
}

impl Limits {
    pub(crate) fn unary_timeout(&self) -> Duration {
        Duration::from_millis(self.unary_timeout_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// Configuration of logs, traces and metrics.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The service's name in traces and metrics. Default: `omnimesh`.
    pub service_name: String,
    /// What is logged, in the syntax of `RUST_LOG`, which wins over it. Default: `warn`, but not that Lance finds vectors
    /// to lie unevenly, which is no fault.
    pub log_filter: String,
    /// How it is logged, on standard error. Default: `human`.
    pub log_format: LogFormat,
    /// OTLP (gRPC) endpoint for traces and metrics. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`, else no export.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            service_name: "omnimesh".to_owned(),
            log_filter: "warn,lance_index::vector::kmeans=error".to_owned(),
            log_format: LogFormat::Human,
            otlp_endpoint: None,
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line, for log collectors.
    Json,
}
