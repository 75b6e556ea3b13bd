//! The body of an answer, which goes on sending the rest of the request while it is read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::breaker::Permit;
use super::host::Host;
use super::http1::{self, Lease};
use super::http2::{self, Lane, Upload};
use super::{Core, Failure, FailureKind};

/// A call under way at a host, for those who count.
#[derive(Debug)]
pub(super) struct Underway {
    core: Arc<Core>,
    host: Arc<Host>,
    /// Whether it is known how the call ended. Dropped before that, it is given up.
    settled: bool,
    began: Instant,
    _permit: Permit,
}

impl Underway {
    pub(super) fn new(core: &Arc<Core>, host: &Arc<Host>, permit: Permit) -> Self {
        core.stats.upstream_rq_total.inc();
        core.stats.upstream_rq_active.add(1);
        host.stats.rq_total.inc();
        host.stats.rq_active.fetch_add(1, Ordering::Relaxed);
        let (core, host, began) = (Arc::clone(core), Arc::clone(host), Instant::now());
        Self { core, host, began, settled: false, _permit: permit }
    }

    /// Notes why the call failed, and says of which host that was.
    pub(super) fn failed(mut self, failure: Failure) -> Failure {
        self.settled = true;
        match failure.kind {
            // We gave it up ourselves.
            FailureKind::ClientGone => self.core.stats.upstream_rq_tx_reset.inc(),
            FailureKind::Reset(_) | FailureKind::RefusedStream => self.core.stats.upstream_rq_rx_reset.inc(),
            FailureKind::Protocol => self.core.stats.upstream_cx_protocol_error.inc(),
            _ => {}
        }
        failure.at(&self.host)
    }

    pub(super) fn complete(mut self) {
        self.settled = true;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.core.stats.upstream_rq_active.add(-1);
        self.host.stats.rq_active.fetch_sub(1, Ordering::Relaxed);
        if !self.settled {
            self.core.stats.upstream_rq_tx_reset.inc();
        }
    }
}

impl Failure {
    /// The connection ended, which was to go on.
    pub(crate) fn closed() -> Self {
        Self { sent: true, ..Self::new(FailureKind::ConnectionTermination, "") }
    }
}

/// The body of an answer. Dropped before its end, it gives the call up.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    stream: Stream,
    underway: Option<Underway>,
}

#[derive(Debug)]
enum Stream {
    Http1 { body: Incoming, lease: Option<Lease>, max_requests: Option<u64>, trailers: bool },
    // Fields are dropped in this order: the stream is given up before its place on the connection.
    Http2 { body: RecvStream, data_ended: bool, upload: Option<Upload>, _lane: Lane },
    Ended,
}

impl UpstreamBody {
    pub(super) fn http1(body: Incoming, lease: Lease, underway: Underway) -> Self {
        let max_requests = underway.core.settings.max_requests;
        let trailers = underway.core.settings.http1.trailers;
        let stream = Stream::Http1 { body, lease: Some(lease), max_requests, trailers };
        Self { stream, underway: Some(underway) }.ended_already()
    }

    pub(super) fn http2(body: RecvStream, upload: Option<Upload>, lane: Lane, underway: Underway) -> Self {
        let stream = Stream::Http2 { body, data_ended: false, upload, _lane: lane };
        Self { stream, underway: Some(underway) }.ended_already()
    }

    fn ended_already(mut self) -> Self {
        if self.is_end_stream() {
            self.end();
        }
        self
    }

    /// The answer is complete: its connection is free.
    fn end(&mut self) {
        if let Stream::Http1 { lease, max_requests, .. } = &mut self.stream
            && let Some(lease) = lease.take()
        {
            lease.complete(*max_requests);
        }
        self.stream = Stream::Ended;
        if let Some(underway) = self.underway.take() {
            underway.core.stats.upstream_rq_time.record_since(underway.began);
            underway.complete();
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.stream = Stream::Ended;
        match self.underway.take() {
            Some(underway) => underway.failed(failure),
            None => failure,
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self {
            Self::Ended => Poll::Ready(None),
            Self::Http1 { body, trailers, .. } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                let frame = frame.filter(|frame| *trailers || !frame.as_ref().is_ok_and(Frame::is_trailers));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| http1::broken_off(&error))))
            }
            Self::Http2 { body, data_ended, upload, .. } => {
                if let Some(sent) = upload.as_mut().map(|upload| Pin::new(upload).poll(cx))
                    && let Poll::Ready(sent) = sent
                {
                    *upload = None;
                    if let Ok(Err(failure)) = sent {
                        return Poll::Ready(Some(Err(failure)));
                    }
                }
                poll_stream(body, data_ended, cx)
            }
        }
    }
}

fn poll_stream(
    body: &mut RecvStream,
    data_ended: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
    let over =
        |error: h2::Error| Poll::Ready((!http2::is_over(&error)).then(|| Err(http2::unanswered(&error))));
    if !*data_ended {
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) => {
                // What the client has not read yet keeps the upstream from sending more.
                return match body.flow_control().release_capacity(data.len()) {
                    Ok(()) => Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(error) => over(error),
                };
            }
            Some(Err(error)) => return over(error),
            None => *data_ended = true,
        }
    }
    match ready!(body.poll_trailers(cx)) {
        Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
        Err(error) => over(error),
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match ready!(self.stream.poll(cx)) {
            Some(Ok(frame)) => {
                if frame.is_trailers() || self.stream_ended() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(failure)) => Poll::Ready(Some(Err(self.fail(failure)))),
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stream {
            Stream::Http1 { body, .. } => body.size_hint(),
            Stream::Http2 { .. } => SizeHint::default(),
            Stream::Ended => SizeHint::with_exact(0),
        }
    }
}

impl UpstreamBody {
    fn stream_ended(&self) -> bool {
        match &self.stream {
            Stream::Http1 { body, .. } => body.is_end_stream(),
            Stream::Http2 { body, .. } => body.is_end_stream(),
            Stream::Ended => true,
        }
    }
}
