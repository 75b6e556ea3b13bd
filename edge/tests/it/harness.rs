//! A running edge with a backend behind it, and plain clients for both versions of HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge::gateway::{self, Options, Running, StartError};
use edge::{Address, ClientTls, Config, Consumers, Cors, DatabaseUrl, Grant, Limits, Upstream};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::backend::{Backend, HEALTH, PROBE, frame};

/// Longer than anything takes on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Edge {
    pub(crate) running: Running,
    pub(crate) consumers: Consumers,
    pub(crate) admin_key: String,
    pub(crate) backend: Backend,
    pub(crate) directory: TempDir,
}

/// Everything on loopback, ports left to the system, no backend, consumers in the directory.
pub(crate) fn config(directory: &Path, upstreams: Vec<Upstream>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("address"),
        tls: None,
        admin: "127.0.0.1:0".parse().expect("address"),
        access_log: Some(directory.join("access.log")),
        consumers: DatabaseUrl::Plain(database(directory).url),
        failure_mode_deny: false,
        priorities: Vec::new(),
        upstreams,
        cors: Cors { allowed_origins: vec!["https://shop.example".to_owned()] },
        limits: Limits::default(),
    }
}

pub(crate) fn upstream(address: Address) -> Upstream {
    let services = vec![PROBE.to_owned(), HEALTH.to_owned()];
    Upstream { name: "backend".to_owned(), services, address }
}

pub(crate) fn tcp(address: SocketAddr, tls: Option<ClientTls>) -> Address {
    Address::Tcp { host: address.ip().to_string(), port: address.port(), tls }
}

/// What the key of a consumer is made for.
pub(crate) fn grant(consumer: &str) -> Grant {
    let permissions = vec!["order.read".to_owned()];
    Grant { consumer: consumer.to_owned(), permissions, expires_at: Some(i64::MAX) }
}

/// Where an edge in the directory keeps its consumers.
pub(crate) fn database(directory: &Path) -> storage::Config {
    storage::Config { url: format!("sqlite:{}", directory.join("db").display()) }
}

/// The gateway of a configuration.
pub(crate) fn start(config: &Config) -> Result<Running, StartError> {
    let loaded = edge::bootstrap::load(&config.to_bootstrap()).map_err(StartError::Config)?;
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let options = Options {
        concurrency: 2,
        drain_time: PATIENCE,
        set_log_filter: None,
        render_metrics: Some(Arc::new(|| "calls_total 1\n".to_owned())),
    };
    gateway::start(loaded, &options)
}

/// The gateway of a bootstrap, on one thread.
pub(crate) fn serve(bootstrap: &str) -> Running {
    let loaded = edge::bootstrap::load(bootstrap).expect("a valid configuration");
    let drain_time = Duration::from_secs(1);
    let options = Options { concurrency: 1, drain_time, set_log_filter: None, render_metrics: None };
    gateway::start(loaded, &options).expect("a gateway")
}

impl Edge {
    /// An edge in front of a backend on a Unix socket.
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().expect("directory");
        let socket = directory.path().join("mesh.sock");
        let mut backend = Backend::new();
        backend.serve_unix(&socket);
        let config = config(directory.path(), vec![upstream(Address::Unix(socket))]);
        Self::start_with(directory, backend, &config).await
    }

    /// An edge with the admin key of its directory.
    pub(crate) async fn start_with(directory: TempDir, backend: Backend, config: &Config) -> Self {
        let DatabaseUrl::Plain(url) = config.consumers.clone() else {
            unreachable!("a test names its database")
        };
        let consumers = Consumers::open(&storage::Config { url }).await.expect("consumers");
        consumers.ensure_admin(directory.path()).await.expect("admin key");
        let admin_key = std::fs::read_to_string(directory.path().join("admin.key")).expect("admin key");
        let running = start(config).expect("edge");
        Self { running, consumers, admin_key: admin_key.trim().to_owned(), backend, directory }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.listeners()[0].1
    }

    pub(crate) async fn issue(&self, consumer: &str, permissions: &[&str]) -> String {
        let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        let grant = Grant { consumer: consumer.to_owned(), permissions, expires_at: None };
        self.consumers.issue(grant, None).await.expect("key").1
    }

    /// How a call with the key ends.
    pub(crate) async fn status(&self, key: &str) -> Option<i32> {
        self.http2(with(self.grpc("Echo", frame(b"hi")), "x-api-key", key)).await.grpc_status()
    }

    /// Waits until a call with the key ends so.
    pub(crate) async fn becomes(&self, key: &str, expected: Option<i32>) {
        let becoming = async {
            while self.status(key).await != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, becoming).await.expect("the edge keeps up with the database");
    }

    /// A gRPC request with the admin key.
    pub(crate) fn grpc(&self, method: &str, body: Bytes) -> Request<Full<Bytes>> {
        self.request(&format!("/{PROBE}/{method}"), "application/grpc", body)
    }

    /// A gRPC-Web request with the admin key.
    pub(crate) fn web(&self, method: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        self.request(&format!("/{PROBE}/{method}"), "application/grpc-web+proto", body.into())
    }

    pub(crate) fn request(&self, path: &str, content_type: &str, body: Bytes) -> Request<Full<Bytes>> {
        Request::post(format!("http://{}{path}", self.address()))
            .header("host", self.address().to_string())
            .header("content-type", content_type)
            .header("te", "trailers")
            .header("x-api-key", &self.admin_key)
            .body(Full::new(body))
            .expect("request")
    }

    pub(crate) async fn http1(&self, request: Request<Full<Bytes>>) -> Reply {
        http1(self.address(), request).await
    }

    pub(crate) async fn http2(&self, request: Request<Full<Bytes>>) -> Reply {
        let stream = TcpStream::connect(self.address()).await.expect("connect");
        http2_over(stream, request).await
    }
}

/// Sets a header of a request that is being built.
pub(crate) fn with<B>(mut request: Request<B>, name: &'static str, value: &str) -> Request<B> {
    request.headers_mut().insert(name, value.parse().expect("value"));
    request
}

pub(crate) fn without<B>(mut request: Request<B>, name: &str) -> Request<B> {
    request.headers_mut().remove(name);
    request
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    /// The gRPC status wherever the protocol puts it: trailers, header, or a binary gRPC-Web trailer frame.
    pub(crate) fn grpc_status(&self) -> Option<i32> {
        let value = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        if let Some(value) = value {
            return value.to_str().ok()?.parse().ok();
        }
        let text = String::from_utf8_lossy(&self.body);
        let (_, status) = text.split_once("grpc-status:")?;
        status.split("\r\n").next()?.parse().ok()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

pub(crate) async fn http1(address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    let stream = TcpStream::connect(address).await.expect("connect");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    // HTTP/1 requests name neither scheme nor host.
    let (mut head, body) = request.into_parts();
    head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse().expect("path");
    read(sender.send_request(Request::from_parts(head, body)).await.expect("a reply")).await
}

pub(crate) async fn http2_over<S>(stream: S, request: Request<Full<Bytes>>) -> Reply
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("handshake");
    tokio::spawn(connection);
    let request = without(request, "host");
    read(sender.send_request(request).await.expect("a reply")).await
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the whole body");
    let trailers = body.trailers().cloned().unwrap_or_default();
    Reply { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}
