//! A running edge with a backend behind it, and plain clients for both versions of HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge::{Address, Config, Cors, Grant, Keys, Limits, Running, Upstream};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::backend::{Backend, HEALTH, PROBE};

/// Longer than anything takes on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Edge {
    pub(crate) running: Running,
    pub(crate) keys: Arc<Keys>,
    pub(crate) admin_key: String,
    pub(crate) backend: Backend,
    pub(crate) directory: TempDir,
}

/// Everything on loopback, ports left to the system, no backend.
pub(crate) fn config(upstreams: Vec<Upstream>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("address"),
        tls: None,
        admin: "127.0.0.1:0".parse().expect("address"),
        upstreams,
        cors: Cors { allowed_origins: vec!["https://shop.example".to_owned()] },
        limits: Limits { threads: Some(2), ..Limits::default() },
    }
}

pub(crate) fn upstream(address: Address) -> Upstream {
    Upstream { services: vec![PROBE.to_owned(), HEALTH.to_owned()], address }
}

pub(crate) async fn open_keys(directory: &Path) -> Arc<Keys> {
    let config = storage::Config { url: format!("sqlite:{}", directory.join("db").display()) };
    let keys = Keys::open(&config).await.expect("keys");
    keys.ensure_admin(directory).await.expect("admin key");
    Arc::new(keys)
}

impl Edge {
    /// An edge in front of a backend on a Unix socket.
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().expect("directory");
        let socket = directory.path().join("mesh.sock");
        let mut backend = Backend::new();
        backend.serve_unix(&socket);
        Self::start_with(directory, backend, config(vec![upstream(Address::Unix(socket))])).await
    }

    pub(crate) async fn start_with(directory: TempDir, backend: Backend, config: Config) -> Self {
        let keys = open_keys(directory.path()).await;
        Self::start_with_keys(directory, backend, config, keys)
    }

    pub(crate) fn start_with_keys(
        directory: TempDir,
        backend: Backend,
        config: Config,
        keys: Arc<Keys>,
    ) -> Self {
        let admin_key = std::fs::read_to_string(directory.path().join("admin.key")).expect("admin key");
        let metrics = Arc::new(|| "calls_total 1\n".to_owned());
        let running = edge::start(config, Arc::clone(&keys), metrics).expect("edge");
        Self { running, keys, admin_key: admin_key.trim().to_owned(), backend, directory }
    }

    pub(crate) async fn issue(&self, consumer: &str, permissions: &[&str]) -> String {
        let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        let grant = Grant { consumer: consumer.to_owned(), permissions, expires_at: None };
        self.keys.issue(grant).await.expect("key").1
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
        Request::post(format!("http://{}{path}", self.running.listen()))
            .header("host", self.running.listen().to_string())
            .header("content-type", content_type)
            .header("te", "trailers")
            .header("x-api-key", &self.admin_key)
            .body(Full::new(body))
            .expect("request")
    }

    pub(crate) async fn http1(&self, request: Request<Full<Bytes>>) -> Reply {
        http1(self.running.listen(), request).await
    }

    pub(crate) async fn http2(&self, request: Request<Full<Bytes>>) -> Reply {
        let stream = TcpStream::connect(self.running.listen()).await.expect("connect");
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
