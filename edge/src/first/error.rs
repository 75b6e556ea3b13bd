//! Why an edge could not start, one line each, saying what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The edge did not start; nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {reason}; free the port or choose another with {flag}")]
    Bind { address: SocketAddr, flag: &'static str, reason: io::Error },
    #[error(
        "refusing to serve {0} without TLS: give a certificate and key, or listen on loopback (--listen)"
    )]
    PlaintextBeyondLoopback(SocketAddr),
    #[error("the admin interface {0} must be a loopback address: choose one with --admin")]
    AdminBeyondLoopback(SocketAddr),
    #[error("cannot use {path}: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error("service {0} is given to two upstreams: leave it to one")]
    ServiceTwice(String),
    #[error("the socket path {path} cannot be used: {reason}")]
    SocketPath { path: PathBuf, reason: String },
    #[error("the edge cannot start its threads: {0}")]
    Runtime(io::Error),
}

/// What was asked of the API keys cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the API keys cannot be read or written")]
    Storage(#[from] storage::Error),
    #[error("cannot write the admin key to {path}: {reason}; check that the data directory is writable")]
    AdminKey { path: PathBuf, reason: io::Error },
    #[error(
        "`{0}` cannot be a consumer's name: take up to 63 letters, digits, `.`, `_`, `-` and `@`, not beginning with \
         `-` or `omk_`; `admin` and `operator` are taken"
    )]
    Consumer(String),
    #[error("API key {0} is stored with a secret hash of the wrong length")]
    Corrupt(String),
}

impl From<sqlx::Error> for KeysError {
    fn from(error: sqlx::Error) -> Self {
        storage::Error::from(error).into()
    }
}
