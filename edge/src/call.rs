//! One call: its request on the way up, and what is known of it so far.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use serde_json::{Map, Value};

use crate::body::{RequestBody, Source, Transformed};
use crate::clock::Meter;
use crate::downstream::local_reply::LocalReplies;
use crate::flag::{Flag, Flags};
use crate::head::Head;
use crate::reply::{GRPC_MESSAGE, GRPC_STATUS};
use crate::route::Matched;
use crate::telemetry::trace::Trace;
use crate::upstream::{Cluster, Clusters};

/// What the client speaks. gRPC-Web is made gRPC on the way up by its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
    GrpcWeb { text_reply: bool },
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    /// The name of its filter chain.
    pub(crate) chain: Arc<str>,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<TlsFacts>,
}

/// What the TLS handshake told.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFacts {
    pub(crate) sni: Option<String>,
    pub(crate) version: &'static str,
    pub(crate) cipher: String,
    pub(crate) peer: Option<PeerCertificate>,
    /// The URI names of our own certificate.
    pub(crate) local_uris: Vec<String>,
}

/// A client's certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerCertificate {
    /// PEM of the leaf, and of the whole chain.
    pub(crate) pem: String,
    pub(crate) chain_pem: String,
    pub(crate) sha256: String,
    pub(crate) serial: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    /// Whether it was verified against a trusted authority.
    pub(crate) verified: bool,
}

/// Who answers a call upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamFacts {
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) host: Option<Arc<str>>,
    /// Our end of the connection that answered.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) attempts: u32,
    /// From the first byte sent to the response's head.
    pub(crate) service_time: Option<Duration>,
    pub(crate) failure: Option<String>,
    /// When the call ends, as the upstream was told.
    pub(crate) deadline: Option<Instant>,
}

/// A call, from its request's head to its log line.
#[derive(Debug)]
pub(crate) struct Call {
    /// What goes upstream; filters may change it.
    pub(crate) request: Head,
    pub(crate) body: RequestBody,
    pub(crate) meter: Arc<Meter>,
    pub(crate) version: Version,
    pub(crate) protocol: Protocol,
    pub(crate) connection: Arc<Connection>,
    /// The client, by the connection or by `x-forwarded-for` where that is trusted.
    pub(crate) remote: SocketAddr,
    /// Where routes lead; none where a call is not served, only described.
    pub(crate) clusters: Option<Arc<Clusters>>,
    pub(crate) route: Option<Arc<Matched>>,
    pub(crate) trace: Option<Box<Trace>>,
    /// The client's end of the connection, once it is HTTP no more.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// How the edge's own replies are rewritten.
    pub(crate) local_replies: Option<Arc<LocalReplies>>,
    /// A filter has changed what the route is found by, and wants it found anew.
    pub(crate) reroute: bool,
    pub(crate) started: Instant,
    pub(crate) start_time: SystemTime,
    /// A number that decides all that is random of this call, so that a route does not change under it.
    pub(crate) random: u64,
    pub(crate) flags: Flags,
    /// Such as `via_upstream`; empty while it is not known.
    pub(crate) details: std::borrow::Cow<'static, str>,
    pub(crate) upstream: UpstreamFacts,
    /// Facts that filters tell each other and the log, by filter name.
    pub(crate) metadata: Map<String, Value>,
    /// What a filter keeps between request and response.
    pub(crate) kept: Extensions,
    /// The edge was told to fail health checks.
    pub(crate) failing: bool,
    pub(crate) ended: Ended,
}

/// How a call ended; complete when its log line is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) status: Option<StatusCode>,
    /// The true gRPC status, wherever it travelled.
    pub(crate) grpc_status: Option<i32>,
    pub(crate) grpc_message: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// When the request's last byte had come.
    pub(crate) request_received: Option<Duration>,
    pub(crate) response_begun: Option<Duration>,
    pub(crate) duration: Duration,
}

impl Ended {
    /// Remembers the gRPC status, wherever it travels.
    pub(crate) fn note_status(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(status) = text(GRPC_STATUS).and_then(|status| status.parse().ok()) {
            self.grpc_status = Some(status);
            self.grpc_message = text(GRPC_MESSAGE).map(str::to_owned);
        }
    }
}

impl Call {
    /// A call that begins now.
    pub(crate) fn new(
        request: Head,
        source: Source,
        meter: Arc<Meter>,
        version: Version,
        connection: Arc<Connection>,
    ) -> Self {
        let grpc = crate::reply::is_grpc(&request.headers);
        Self {
            request,
            body: Transformed::new(source),
            version,
            protocol: if grpc { Protocol::Grpc } else { Protocol::Http },
            remote: connection.remote,
            connection,
            clusters: None,
            route: None,
            trace: None,
            upgrade: None,
            local_replies: None,
            reroute: false,
            started: meter.began(),
            meter,
            start_time: SystemTime::now(),
            random: rand::random(),
            flags: Flags::default(),
            details: "".into(),
            upstream: UpstreamFacts::default(),
            metadata: Map::new(),
            kept: Extensions::new(),
            failing: false,
            ended: Ended::default(),
        }
    }

    /// Notes what happened; the first flag's details stay.
    pub(crate) fn flag(&mut self, flag: Flag) {
        self.flags.insert(flag);
    }

    /// Writes `value` under `key` of `namespace` in the dynamic metadata.
    pub(crate) fn note(&mut self, namespace: &str, key: &str, value: Value) {
        let facts = self.metadata.entry(namespace).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(facts) = facts {
            facts.insert(key.to_owned(), value);
        }
    }

    /// Where the call's route sends it, as far as it is known before it is sent.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        let name = self.route.as_ref()?.forward()?.cluster(self)?;
        self.clusters.as_ref()?.get(&name).cloned()
    }

    /// Counts under `prefix.name` for the cluster that the call goes to.
    pub(crate) fn count(&self, prefix: &str, name: &str) {
        if let Some(cluster) = self.cluster() {
            cluster.stats.scope().counter(&format!("{prefix}.{name}")).inc();
        }
    }

    /// Whether the upstream's time is up: whatever it does then, it is too late.
    pub(crate) fn is_late(&self) -> bool {
        self.upstream.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether the request going up is gRPC (a gRPC-Web one is, once its filter has seen it).
    pub(crate) fn is_grpc(&self) -> bool {
        crate::reply::is_grpc(&self.request.headers)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Call {
    /// A call over plain HTTP/1.1 from 10.1.2.3.
    pub(crate) fn sample(method: &str, authority: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Head {
            method: method.parse().unwrap(),
            scheme: http::uri::Scheme::HTTP,
            authority: authority.parse().unwrap(),
            path: path.parse().unwrap(),
            headers: http::HeaderMap::new(),
        };
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers.append(name, value.parse().unwrap());
        }
        let remote = "10.1.2.3:4567".parse().unwrap();
        let local = "127.0.0.1:8080".parse().unwrap();
        let connection = Arc::new(Connection { id: 7, chain: "".into(), remote, local, tls: None });
        let meter = Arc::new(Meter::new(true));
        Self {
            random: 0,
            start_time: SystemTime::UNIX_EPOCH,
            ..Self::new(request, Source::Empty, meter, Version::HTTP_11, connection)
        }
    }
}
