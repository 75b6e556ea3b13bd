//! Calls over HTTP/2: many share a connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::noop_waker_ref;
use h2::client::{Connection, SendRequest};
use h2::{PingPong, Reason, RecvStream, SendStream};
use http::{Request, response};
use http_body::Body;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{self, Io};
use super::pool::{Pool, next_id};
use super::settings::Settings;
use super::{Core, Failure, FailureKind};
use crate::body::RequestBody;

/// A connection with its calls.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) id: u64,
    local: Option<SocketAddr>,
    sender: SendRequest<Bytes>,
    active: AtomicUsize,
    served: AtomicU64,
    idle_since: Mutex<Instant>,
}

/// Whether a connection takes another call.
pub(super) enum Room {
    Here(Lane),
    /// Not now.
    None,
    /// Never again.
    Closed,
}

/// A place for one call on a shared connection, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Lane {
    connection: Arc<Http2>,
    sender: SendRequest<Bytes>,
    pool: Arc<Pool>,
    last: bool,
}

/// Begins a connection; `max_streams` is what the host is expected to allow until it says so.
pub(super) async fn handshake(
    io: Io,
    settings: &Settings,
    max_streams: Option<usize>,
) -> Result<(Arc<Http2>, Connection<Io>, Option<PingPong>), Failure> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(settings.http2.stream_window)
        .initial_connection_window_size(settings.http2.connection_window)
        .max_header_list_size(settings.max_header_bytes)
        .enable_push(false);
    if let Some(size) = settings.http2.header_table {
        builder.header_table_size(size);
    }
    if let Some(max) = max_streams {
        builder.initial_max_send_streams(max);
    }
    let local = connect::local(&io);
    let (sender, mut connection) =
        builder.handshake(io).await.map_err(|error| Failure::new(failed(&error), ""))?;
    let pings = connection.ping_pong();
    let shared = Http2 {
        id: next_id(),
        local,
        sender,
        active: AtomicUsize::new(0),
        served: AtomicU64::new(0),
        idle_since: Mutex::new(Instant::now()),
    };
    Ok((Arc::new(shared), connection, pings))
}

impl Http2 {
    /// A place for one more call.
    pub(super) fn open(self: &Arc<Self>, core: &Core, pool: &Arc<Pool>) -> Room {
        let most = self.max_streams().min(core.settings.http2.max_streams as usize);
        if self.active() >= most {
            return Room::None;
        }
        let mut sender = self.sender.clone();
        let ready = sender.poll_ready(&mut Context::from_waker(noop_waker_ref()));
        if matches!(ready, Poll::Ready(Err(_))) {
            return Room::Closed;
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let last = core.settings.max_requests.is_some_and(|most| served >= most);
        Room::Here(Lane { connection: Arc::clone(self), sender, pool: Arc::clone(pool), last })
    }

    /// How many calls the host allows.
    pub(super) fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Since when it has no call.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.active() == 0).then_some(since)
    }
}

impl Lane {
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.connection.local
    }

    /// Whether the connection takes no call after this one.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.connection.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        self.pool.free();
    }
}

/// What is still being sent of a request when its answer has begun.
pub(super) type Upload = AbortOnDropHandle<Result<(), Failure>>;

/// Sends a request; done when the answer's head is there.
pub(super) async fn send(
    lane: &mut Lane,
    request: Box<Request<RequestBody>>,
) -> Result<(response::Parts, RecvStream, Option<Upload>), Failure> {
    let (parts, body) = request.into_parts();
    let ends = body.is_end_stream();
    let sent = lane.sender.send_request(Request::from_parts(parts, ()), ends);
    let (mut response, stream) = sent.map_err(|error| unanswered(&error))?;
    let mut sending = (!ends).then(|| Sending { stream, body, full: false });
    let head = poll_fn(|cx| {
        if let Some(pump) = &mut sending
            && let Poll::Ready(sent) = pump.poll(cx)
        {
            sending = None;
            sent?;
        }
        Pin::new(&mut response).poll(cx).map_err(|error| unanswered(&error))
    });
    let (head, body) = head.await?.into_parts();
    // Both directions go on without waiting for each other. A unary call is sent whole by now.
    let upload = sending.map(|mut sending| {
        AbortOnDropHandle::new(tokio::spawn(async move { poll_fn(|cx| sending.poll(cx)).await }))
    });
    Ok((head, body, upload))
}

/// A request's body on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// The last piece may still wait for the upstream to make room.
    full: bool,
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if self.full {
                self.stream.reserve_capacity(1);
                while self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        // The stream is closed: its other half says why.
                        Some(Err(_)) | None => return Poll::Ready(Ok(())),
                    }
                }
                self.full = false;
            }
            let sent = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.stream.send_data(Bytes::new(), true).map(|()| true),
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Failure::of_request(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let ends = self.body.is_end_stream();
                        self.full = true;
                        self.stream.send_data(data, ends).map(|()| ends)
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(trailers).map(|()| true),
                        Err(_) => Ok(false),
                    },
                },
            };
            match sent {
                Ok(false) => {}
                Ok(true) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Why an answer did not come, or not to its end.
pub(super) fn unanswered(error: &h2::Error) -> Failure {
    let kind = failed(error);
    let reason = if kind == FailureKind::Protocol { error.to_string() } else { String::new() };
    Failure { sent: kind != FailureKind::RefusedStream, ..Failure::new(kind, reason) }
}

fn failed(error: &h2::Error) -> FailureKind {
    match error.reason() {
        // A stream that the upstream says it has not seen.
        Some(Reason::REFUSED_STREAM) => FailureKind::RefusedStream,
        Some(_) if error.is_go_away() && error.is_remote() => FailureKind::RefusedStream,
        Some(reason) if error.is_reset() && error.is_remote() => FailureKind::Reset(reason),
        Some(_) if error.is_library() => FailureKind::Protocol,
        Some(reason) if error.is_reset() => FailureKind::Reset(reason),
        _ => FailureKind::ConnectionTermination,
    }
}

/// Whether a stream ended as it should: reset without an error after its answer.
pub(super) fn is_over(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}
