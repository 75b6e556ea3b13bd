//! Calls over HTTP/1.1: one at a time on a connection, which is kept for the next.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::connect::{self, Io};
use super::pool::{Pool, next_id};
use super::settings::Settings;
use super::{Failure, FailureKind};
use crate::body::{BodyError, RequestBody};

/// A connection.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) id: u64,
    local: Option<SocketAddr>,
    sender: SendRequest<RequestBody>,
    served: u64,
    idle_since: Instant,
}

pub(super) async fn handshake(
    io: Io,
    settings: &Settings,
) -> Result<(Http1, Connection<TokioIo<Io>, RequestBody>), Failure> {
    let mut builder = Builder::new();
    builder
        .title_case_headers(settings.http1.proper_case)
        .max_header_size(settings.max_header_bytes as usize);
    let local = connect::local(&io);
    let (sender, connection) =
        builder.handshake(TokioIo::new(io)).await.map_err(|error| Failure::new(failed(&error), ""))?;
    Ok((Http1 { id: next_id(), local, sender, served: 0, idle_since: Instant::now() }, connection))
}

impl Http1 {
    pub(super) fn is_open(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }
}

/// A connection that a call has for itself. Dropped before the call is complete, the connection closes.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Http1,
    pool: Arc<Pool>,
}

impl Lease {
    pub(super) fn new(mut connection: Http1, pool: Arc<Pool>) -> Self {
        connection.served += 1;
        Self { connection, pool }
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.connection.local
    }

    /// Sends a request; done when the answer's head is there. A request that the connection did not take comes back.
    pub(super) async fn send(
        &mut self,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, Result<Box<Request<RequestBody>>, Failure>> {
        let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        request.headers_mut().insert(HOST, host.unwrap_or_else(|| HeaderValue::from_static("")));
        // Without a body most methods say so; those that never have one need not.
        let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT];
        if request.body().is_end_stream() && !bodiless.contains(request.method()) {
            request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = std::mem::replace(request.uri_mut(), path.into());
        *request.version_mut() = Version::HTTP_11;
        self.connection.sender.try_send_request(*request).await.map_err(|mut error| {
            match error.take_message() {
                Some(mut request) => {
                    *request.uri_mut() = uri;
                    Ok(Box::new(request))
                }
                None => Err(unanswered(error.error())),
            }
        })
    }

    /// Gives the connection back once the call is complete.
    pub(super) fn complete(self, max_requests: Option<u64>) {
        let Self { mut connection, pool } = self;
        if max_requests.is_some_and(|most| connection.served >= most) || connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        if connection.sender.is_ready() {
            return pool.put(connection);
        }
        // The end of the request may still be on its way.
        tokio::spawn(async move {
            if connection.sender.ready().await.is_ok() {
                pool.put(connection);
            }
        });
    }
}

/// Why an answer did not come, or not to its end.
pub(super) fn unanswered(error: &hyper::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(BodyError::Refused(reply)) = inner.downcast_ref::<BodyError>() {
            return Failure::of_request(BodyError::Refused(reply.clone()));
        }
        if inner.is::<BodyError>() {
            return Failure::of_request(BodyError::ClientGone);
        }
        cause = inner.source();
    }
    let kind = failed(error);
    let reason = if kind == FailureKind::Protocol { error.to_string() } else { String::new() };
    Failure { sent: true, ..Failure::new(kind, reason) }
}

/// Why an answer does not come to its end. A host that closes before that has broken its word.
pub(super) fn broken_off(error: &hyper::Error) -> Failure {
    let failure = unanswered(error);
    let ended = |cause: &io::Error| cause.kind() == io::ErrorKind::UnexpectedEof;
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if error.is_incomplete_message() || cause.is_some_and(ended) {
        return Failure { kind: FailureKind::Protocol, ..failure };
    }
    failure
}

fn failed(error: &hyper::Error) -> FailureKind {
    if error.is_parse() { FailureKind::Protocol } else { FailureKind::ConnectionTermination }
}
