//! The list of phases that a call passes, one line each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONNECTION, EXPECT};
use http::{Method, StatusCode, Version};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::time::timeout;

use crate::first::call::{Call, Outcome, Protocol};
use crate::first::config::{Cors, Limits};
use crate::first::exchange::Exchange;
use crate::first::filter::{access_log, api_key, cors, deadline, grpc_web};
use crate::first::reply;
use crate::first::server::stopping;
use crate::first::status::{Code, Failure, Rejection};
use crate::first::table::Tables;
use crate::first::upstream::Upstream;
use crate::keys::Keys;

/// An idle HTTP/1 connection is closed after this many seconds.
const KEEPALIVE_SECONDS: u64 = 60;
/// What a client still sends after its reply is read away this long, so that it sees the reply.
const DRAIN: Duration = Duration::from_secs(5);
/// What one connection, and one call on it, may have on the way to the edge.
const CONNECTION_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 1 << 20;

pub(crate) struct Gateway {
    cors: Cors,
    limits: Limits,
    keys: Arc<Keys>,
    tables: Arc<Tables>,
    options: HttpServerOptions,
}

impl Gateway {
    pub(crate) fn new(cors: Cors, limits: Limits, keys: Arc<Keys>, tables: Arc<Tables>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(Duration::from_secs(limits.idle_timeout_seconds));
        Self { cors, limits, keys, tables, options }
    }

    async fn serve(&self, session: &mut ServerSession, call: &mut Call) -> Result<Outcome, Failure> {
        let request = session.req_header();
        call.allowed_origin = cors::allowed_origin(&self.cors, request);
        if cors::is_preflight(request) {
            return preflight(session, call).await;
        }
        call.protocol = grpc_web::protocol(&request.headers);
        let protocol = admit(session, call)?;
        call.deadline = deadline::read(&request.headers, call.started)?;
        call.consumer = api_key::authenticate(&self.keys, &request.headers, call)?;
        let upstream = self.tables.current().router.route(call)?;
        let mut backend = within_deadline(call, upstream.open()).await??;
        let outcome = self.forward(session, call, protocol, &upstream, &mut backend).await;
        upstream.release(backend);
        outcome
    }

    async fn forward(
        &self,
        session: &mut ServerSession,
        call: &Call,
        protocol: Protocol,
        upstream: &Upstream,
        backend: &mut Http2Session,
    ) -> Result<Outcome, Failure> {
        let request = Box::new(upstream.request(session.req_header(), call)?);
        if session.req_header().headers.contains_key(EXPECT) {
            session.write_continue_response().await.map_err(|_| Failure::ClientGone)?;
        }
        backend
            .write_request_header(request, session.is_body_empty())
            .map_err(|error| Rejection::from_reset(&error))?;
        Exchange::new(session, call, protocol, backend, self.limits.max_message_bytes).run().await
    }

    /// Serves the call and sees to it that its client is told how it ended, and the log too.
    async fn answer(&self, session: &mut ServerSession) -> Result<(), Failure> {
        let mut call = Call::new(session);
        let ended = match self.serve(session, &mut call).await {
            Err(Failure::Rejected(rejection)) => {
                reply::reject(session, &call, &rejection).await.map_err(|_| Failure::ClientGone)
            }
            ended => ended,
        };
        let outcome = ended.as_ref().copied().unwrap_or_else(|_| Outcome {
            http_status: reply::begun(session).map_or(0, |header| header.status.as_u16()),
            grpc_status: Some(Code::Cancelled as i32),
        });
        access_log::write(&call, outcome, session.body_bytes_read(), session.body_bytes_sent());
        ended.map(drop)
    }
}

/// Every call is a POST of a gRPC type, and gRPC itself needs HTTP/2.
fn admit(session: &ServerSession, call: &Call) -> Result<Protocol, Rejection> {
    if call.method != Method::POST {
        return Err(Rejection::new(Code::Unimplemented, "calls are made with POST")
            .with_http(StatusCode::METHOD_NOT_ALLOWED));
    }
    match call.protocol {
        None => Err(Rejection::new(Code::Unimplemented, "the content type is neither gRPC nor gRPC-Web")
            .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        Some(Protocol::Grpc) if !session.is_http2() => {
            Err(Rejection::new(Code::Unimplemented, "gRPC needs HTTP/2; over HTTP/1.1 use gRPC-Web")
                .with_http(StatusCode::HTTP_VERSION_NOT_SUPPORTED))
        }
        Some(protocol) => Ok(protocol),
    }
}

async fn preflight(session: &mut ServerSession, call: &Call) -> Result<Outcome, Failure> {
    let gone = |_| Failure::ClientGone;
    let header = cors::preflight(session.req_header(), call.allowed_origin.as_ref()).map_err(gone)?;
    let http_status = header.status.as_u16();
    reply::header_only(session, header).await.map_err(gone)?;
    Ok(Outcome { http_status, grpc_status: None })
}

async fn within_deadline<T>(call: &Call, work: impl Future<Output = T>) -> Result<T, Rejection> {
    match call.time_left() {
        Some(left) => timeout(left, work).await.map_err(|_| Rejection::deadline_exceeded()),
        None => Ok(work.await),
    }
}

#[async_trait]
impl HttpServerApp for Gateway {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let read = tokio::select! {
            biased;
            read = session.read_request() => read,
            () = stopping(shutdown.clone()) => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return refuse_unreadable(session, &error).await,
        }
        session.set_write_timeout(Some(Duration::from_secs(self.limits.stalled_client_seconds)));
        // The rest of a request whose reply came early is read away below, so its connection can stay.
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN));
        let keep = !*shutdown.borrow() && wants_keepalive(&session);
        session.set_keepalive(keep.then_some(KEEPALIVE_SECONDS));
        self.answer(&mut session).await.ok()?;
        // Closing now would overtake the reply at clients that still send.
        session.drain_request_body().await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options
            .max_concurrent_streams(self.limits.max_concurrent_streams)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_window_size(STREAM_WINDOW);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

fn wants_keepalive(session: &ServerSession) -> bool {
    let request = session.req_header();
    let closes = request
        .headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| value.as_bytes().to_ascii_lowercase().windows(5).any(|word| word == b"close"));
    request.version == Version::HTTP_11 && !closes
}

/// An HTTP/1 request that cannot be parsed ends its connection.
async fn refuse_unreadable(mut session: ServerSession, error: &pingora::Error) -> Option<ReusedHttpStream> {
    tracing::debug!(%error, "a request could not be read");
    if matches!(error.etype(), pingora::InvalidHTTPHeader) {
        let _ = session.respond_error(StatusCode::BAD_REQUEST.as_u16()).await;
    }
    session.shutdown().await;
    None
}
