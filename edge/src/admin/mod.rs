//! The operators' interface: commands over HTTP, with Envoy's paths, methods and shapes.

mod certs;
mod clusters;
mod command;
mod config_dump;
mod logging;
mod server;
mod stats;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::bootstrap::v3::Admin as Config;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::google::protobuf::Any;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, SERVER, X_CONTENT_TYPE_OPTIONS};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::{Message, Name};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::body::Source;
use crate::call::{Call, Connection};
use crate::clock::Meter;
use crate::compile::Shared;
use crate::downstream::listener;
use crate::gateway::{Core, StartError};
use crate::head::Head;
use crate::problem::{Path, Problem};
use command::Query;
use logging::Levels;
pub use logging::SetLogFilter;

/// A client that does not say what it wants is cut off after this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Histograms show what was recorded in the last interval of this length.
const INTERVAL: Duration = Duration::from_secs(5);

/// What of the interface the configuration says.
#[derive(Debug)]
pub(crate) struct Settings {
    address: SocketAddr,
    access_logs: Vec<AccessLog>,
}

impl Settings {
    pub(crate) fn compile(
        config: &Config,
        at: &Path<'_>,
        shared: &Shared<'_>,
    ) -> Result<Option<Self>, Problem> {
        let Some(address) = &config.address else { return Ok(None) };
        let address = listener::socket_address(address, &at.field("address"))?;
        let logs = at.field("access_log");
        let logs = config
            .access_log
            .iter()
            .enumerate()
            .map(|(i, log)| AccessLog::compile(log, &logs.index(i), shared));
        let mut access_logs: Vec<_> = logs.collect::<Result<_, _>>()?;
        access_logs.extend(legacy_log(config, at, shared)?);
        Ok(Some(Self { address, access_logs }))
    }
}

/// The log of whoever names only its path, as was done of old.
#[expect(deprecated, reason = "most files in use still say access_log_path")]
fn legacy_log(config: &Config, at: &Path<'_>, shared: &Shared<'_>) -> Result<Option<AccessLog>, Problem> {
    if config.access_log_path.is_empty() {
        return Ok(None);
    }
    let file = FileAccessLog { path: config.access_log_path.clone(), access_log_format: None };
    let any = Any { type_url: FileAccessLog::type_url(), value: file.encode_to_vec() };
    let config_type = Some(pb::access_log::ConfigType::TypedConfig(any));
    let log = pb::AccessLog { config_type, ..pb::AccessLog::default() };
    AccessLog::compile(&log, &at.field("access_log_path"), shared).map(Some)
}

/// The bound port of the interface.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    socket: TcpListener,
    access_logs: Vec<AccessLog>,
}

impl Port {
    pub(crate) fn bind(settings: Settings) -> Result<Self, StartError> {
        let failed =
            |reason| StartError::Bind { name: "admin".to_owned(), address: settings.address, reason };
        let socket = TcpListener::bind(settings.address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "anybody who reaches the admin interface can stop the gateway: use 127.0.0.1");
        }
        Ok(Self { address, socket, access_logs: settings.access_logs })
    }
}

/// What the commands work on.
struct Admin {
    core: Arc<Core>,
    levels: Levels,
    access_logs: Vec<AccessLog>,
}

/// Serves the interface on `handle` until the gateway's background work ends.
pub(crate) fn start(port: Port, core: &Arc<Core>, handle: &Handle) {
    let end = core.background.clone();
    handle.spawn(end.clone().run_until_cancelled_owned(server::watch(Arc::clone(core), INTERVAL)));
    let levels = Levels::new(core.options.set_log_filter.clone());
    let admin = Arc::new(Admin { core: Arc::clone(core), levels, access_logs: port.access_logs });
    let (socket, serving) = (port.socket, end.clone());
    handle.spawn(async move {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => accept(socket, admin, serving).await,
            Err(error) => tracing::error!(%error, "the admin interface cannot be served"),
        }
    });
}

async fn accept(socket: tokio::net::TcpListener, admin: Arc<Admin>, end: CancellationToken) {
    while let Some(accepted) = end.run_until_cancelled(socket.accept()).await {
        match accepted {
            Ok((stream, remote)) => {
                tokio::spawn(end.clone().run_until_cancelled_owned(serve(
                    stream,
                    remote,
                    Arc::clone(&admin),
                )));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin interface cannot take a connection");
                // Out of file descriptors, most likely: asking again at once would only keep the thread busy.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, remote: SocketAddr, admin: Arc<Admin>) {
    let Ok(local) = stream.local_addr() else { return };
    let connection = Arc::new(Connection { id: 0, chain: "".into(), remote, local, tls: None });
    let service = service_fn(move |request| {
        let (admin, connection) = (Arc::clone(&admin), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(admin.answer(request, connection).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the admin interface ended badly");
    }
}

impl Admin {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let meter = Arc::new(Meter::new(true));
        let mut call = Call::new(head(&parts), Source::Empty, meter, parts.version, connection);
        let admin = Arc::clone(&self);
        // Some answers take long to make, and this thread also checks the health of hosts.
        let work = move || admin.run(&parts.method, parts.uri.path(), &Query::parse(parts.uri.query()));
        let reply = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an admin command failed");
            Reply {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Reply::text("the command failed: see the log\n")
            }
        });
        call.ended.status = Some(reply.status);
        call.ended.bytes_sent = reply.body.len() as u64;
        call.ended.duration = call.started.elapsed();
        for log in &self.access_logs {
            log.write(&call);
        }
        reply.into_response()
    }

    fn run(&self, method: &Method, path: &str, query: &Query) -> Reply {
        let Some(command) = command::find(path) else {
            let body = format!("invalid path. {}", command::help());
            return Reply { status: StatusCode::NOT_FOUND, ..Reply::text(body) };
        };
        if command.changes && method != Method::POST {
            let body = format!("Method {method} not allowed, POST required.");
            return Reply { status: StatusCode::METHOD_NOT_ALLOWED, ..Reply::text(body) };
        }
        if !command.changes && method != Method::GET && method != Method::HEAD && method != Method::POST {
            let body = format!("Method {method} not allowed, GET required.");
            return Reply { status: StatusCode::METHOD_NOT_ALLOWED, ..Reply::text(body) };
        }
        (command.run)(self, query)
    }
}

fn head(parts: &request::Parts) -> Head {
    Head {
        method: parts.method.clone(),
        scheme: Scheme::HTTP,
        authority: parts.headers.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static("")),
        path: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: parts.headers.clone(),
    }
}

/// Of no length that is told beforehand: in chunks, as scripts made for Envoy expect.
type Body = StreamBody<stream::Once<Ready<Result<Frame<Bytes>, Infallible>>>>;

/// What a command answers.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    fn html(body: String) -> Self {
        Self { content_type: "text/html; charset=UTF-8", ..Self::text(body) }
    }

    fn json(value: &serde_json::Value) -> Self {
        // One space, as Envoy indents.
        let mut body = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, formatter);
        // JSON values can always be written.
        let _ = serde::Serialize::serialize(value, &mut serializer);
        body.push(b'\n');
        Self { content_type: "application/json", ..Self::text(String::from_utf8_lossy(&body).into_owned()) }
    }

    fn bad_request(body: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::text(body) }
    }

    fn into_response(self) -> Response<Body> {
        let body = Frame::data(Bytes::from(self.body));
        let mut response = Response::new(StreamBody::new(stream::once(ready(Ok(body)))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(SERVER, HeaderValue::from_static("envoy"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
