//! Clusters of upstream hosts: who answers a call, over which connection.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use http::{Request, response};
use http_body::Frame;

use crate::body::RequestBody;
use crate::problem::{Path, Problem};
use crate::stats::Stats;

/// Why an upstream did not answer, or not to the end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind:?}: {reason}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: Arc<str>,
    pub(crate) host: Option<Arc<Host>>,
    /// Whether any byte of the request may have reached the upstream.
    pub(crate) sent: bool,
}

/// The ways in which an upstream fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    NoHealthyHost,
    /// A circuit breaker is open.
    Overflow,
    ConnectFailure,
    ConnectTimeout,
    /// The connection ended under the call.
    ConnectionTermination,
    RefusedStream,
    Reset(h2::Reason),
    /// The upstream broke its protocol.
    Protocol,
    /// The client ended first, so the upstream stream was given up.
    ClientGone,
}

/// What a call wants of its host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Want {
    /// Of the route's hash policy.
    pub(crate) hash: Option<u64>,
    /// Hosts that a retry would rather not meet again.
    pub(crate) tried: Vec<Arc<Host>>,
    /// Priority HIGH rather than DEFAULT, for circuit breakers.
    pub(crate) high_priority: bool,
    pub(crate) random: u64,
}

/// An answer's head, and the body that follows.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: response::Parts,
    pub(crate) body: UpstreamBody,
    pub(crate) host: Arc<Host>,
}

/// One address of a cluster.
#[derive(Debug)]
pub(crate) struct Host {
    /// As logs write it.
    pub(crate) address: Arc<str>,
}

impl Host {
    /// Tells the host's outlier detection how a call went: its HTTP status, or for gRPC what the status means in HTTP.
    pub(crate) fn answered(&self, _status: u16) {}
}

/// The body of an answer; it goes on sending the request's body while it is read.
#[derive(Debug)]
pub(crate) struct UpstreamBody {}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Poll::Ready(None)
    }
}

/// Hosts that serve the same.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
}

impl Cluster {
    pub(crate) fn compile(config: &ClusterConfig, _at: &Path<'_>, _stats: &Stats) -> Result<Self, Problem> {
        Ok(Self { name: config.name.as_str().into() })
    }

    /// Sends a request to one of the hosts; done when the answer's head is there.
    pub(crate) async fn call(
        &self,
        _request: Request<RequestBody>,
        _want: &Want,
    ) -> Result<Answered, Failure> {
        Err(Failure { kind: FailureKind::NoHealthyHost, reason: "".into(), host: None, sent: false })
    }
}

/// Every cluster by name.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    by_name: HashMap<Arc<str>, Arc<Cluster>>,
}

impl Clusters {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }
}
