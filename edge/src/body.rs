//! Bodies on their way through the edge, and what filters do to them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::clock::{Expired, Meter};
use crate::replay::Reading;
use crate::reply::{GRPC_MESSAGE, GRPC_STATUS, LocalReply};
use crate::upstream::UpstreamBody;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side of the same call is gone.
    #[error("the client is gone")]
    ClientGone,
    /// What was read cannot be passed on, such as base64 that is none.
    #[error("{}", .0.message)]
    Refused(Box<LocalReply>),
    /// The upstream broke off.
    #[error(transparent)]
    Upstream(#[from] crate::upstream::Failure),
    /// A clock ran out.
    #[error("too late: {0:?}")]
    Expired(Expired),
}

/// What a filter does to a body as it passes, a piece at a time.
pub(crate) trait Transform: Send {
    /// Turns a piece into what goes on; empty: nothing yet.
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply>;

    /// The body's end: what is left of it, and its trailers.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), LocalReply> {
        Ok((Bytes::new(), trailers))
    }
}

/// A body with the transforms that filters put on it, in the order they were put.
pub(crate) struct Transformed<B> {
    inner: B,
    /// Boxed: most bodies have none, and every one is moved from place to place.
    steps: Option<Box<Steps>>,
}

/// The transforms of a body, and how far they are.
#[derive(Default)]
struct Steps {
    list: Vec<Box<dyn Transform>>,
    state: State,
    /// Trailers that a step has turned into data.
    absorbed: Option<HeaderMap>,
}

#[derive(Default)]
enum State {
    #[default]
    Flowing,
    /// The last data was passed on, these trailers come next.
    Trailers(Option<HeaderMap>),
    Ended,
}

impl Steps {
    fn data(&mut self, data: Bytes, from: usize) -> Result<Bytes, LocalReply> {
        self.list[from..].iter_mut().try_fold(
            data,
            |data, step| {
                if data.is_empty() { Ok(data) } else { step.data(data) }
            },
        )
    }

    /// Ends each step after what the step before it still had.
    fn end(&mut self, mut trailers: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), LocalReply> {
        let mut left = Vec::new();
        let came = trailers.clone();
        for at in 0..self.list.len() {
            let (rest, changed) = self.list[at].end(trailers)?;
            trailers = changed;
            let rest = self.data(rest, at + 1)?;
            left.extend_from_slice(&rest);
        }
        self.absorbed = came.filter(|_| trailers.is_none());
        Ok((left.into(), trailers))
    }

    /// The next piece of what `inner` becomes.
    fn poll<B>(
        &mut self,
        inner: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        BodyError: From<B::Error>,
    {
        loop {
            match &mut self.state {
                State::Flowing => {}
                State::Trailers(trailers) => {
                    let trailers = trailers.take();
                    self.state = State::Ended;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                State::Ended => return Poll::Ready(None),
            }
            let frame = ready!(Pin::new(&mut *inner).poll_frame(cx)).transpose()?;
            let trailers = match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let mut data = self.data(data, 0).map_err(refused)?;
                    if inner.is_end_stream() {
                        let (rest, trailers) = self.end(None).map_err(refused)?;
                        self.state = State::Trailers(trailers);
                        data = joined(data, rest);
                    }
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(frame)) => frame.into_trailers().ok(),
                None => None,
            };
            let (rest, trailers) = self.end(trailers).map_err(refused)?;
            self.state = State::Trailers(trailers);
            if !rest.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
        }
    }
}

impl<B> Transformed<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, steps: None }
    }

    /// Puts one more step behind those that are there.
    pub(crate) fn push(&mut self, step: Box<dyn Transform>) {
        self.steps.get_or_insert_default().list.push(step);
    }

    /// Trailers that a step has turned into data: who reads the body still has to know them.
    pub(crate) fn absorbed(&self) -> Option<&HeaderMap> {
        self.steps.as_ref()?.absorbed.as_ref()
    }
}

impl<B> Transformed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    /// Takes what has come by now and throws it away: a request that is whole, though nobody wants it, does not end
    /// its connection.
    pub(crate) async fn take_in(&mut self) {
        let taking = async { while let Some(Ok(_)) = self.frame().await {} };
        tokio::select! {
            biased;
            () = taking => {}
            () = tokio::task::yield_now() => {}
        }
    }
}

/// One piece of two, which is one of them where the other is empty.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        _ => [first, second].concat().into(),
    }
}

fn refused(reply: LocalReply) -> BodyError {
    BodyError::Refused(Box::new(reply))
}

impl<B> http_body::Body for Transformed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { inner, steps } = &mut *self;
        let Some(steps) = steps else { return Pin::new(inner).poll_frame(cx).map_err(BodyError::from) };
        let polled = steps.poll(inner, cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            steps.state = State::Ended;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self.steps.as_ref().map(|steps| &steps.state) {
            None => self.inner.is_end_stream(),
            Some(State::Flowing) => false,
            Some(State::Trailers(trailers)) => trailers.is_none(),
            Some(State::Ended) => true,
        }
    }
}

impl<B: fmt::Debug> fmt::Debug for Transformed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.as_ref().map_or(0, |steps| steps.list.len());
        f.debug_struct("Transformed").field("inner", &self.inner).field("steps", &steps).finish()
    }
}

/// What a client sends.
pub(crate) type RequestBody = Transformed<Source>;

/// Where a request's body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Empty,
    Client {
        body: Incoming,
        meter: Arc<Meter>,
        /// Whether its trailers are passed on.
        trailers: bool,
    },
    /// One of several readings of the same body.
    Again(Reading),
    /// What the edge says itself.
    Full(Option<Bytes>),
    /// What was read of a body to decide on its call, and the rest.
    Begun {
        first: Option<Bytes>,
        rest: Box<RequestBody>,
    },
}

impl http_body::Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client { body, meter, trailers } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                // Behind trailers nobody looks for more.
                let ended = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
                let frame = frame.filter(|_| !ended || *trailers);
                let now = Instant::now();
                if let Some(Ok(frame)) = &frame {
                    meter.count(frame.data_ref().map_or(0, Bytes::len), now);
                }
                if ended || body.is_end_stream() {
                    meter.end(now);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::ClientGone)))
            }
            Self::Again(reading) => reading.poll(cx),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Begun { first, rest } => match first.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Pin::new(rest.as_mut()).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
            Self::Again(reading) => reading.is_end(),
            Self::Full(bytes) => bytes.is_none(),
            Self::Begun { first, rest } => first.is_none() && rest.is_end_stream(),
        }
    }
}

/// The trailers of a gRPC reply whose upstream sent none.
fn without_status() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("2"));
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_static("the upstream ended without a status"));
    trailers
}

/// What a client is answered.
pub(crate) type ReplyBody = Transformed<Answer>;

/// Where a reply's body comes from.
#[derive(Debug)]
pub(crate) enum Answer {
    Full(Option<Bytes>),
    Upstream {
        /// What was read of it to decide on a retry.
        first: Option<Box<Frame<Bytes>>>,
        body: UpstreamBody,
        /// Whether the body must not end without a gRPC status.
        owes_status: bool,
    },
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream { first, body, owes_status } => {
                if let Some(frame) = first.take() {
                    *owes_status &= frame.is_data();
                    return Poll::Ready(Some(Ok(*frame)));
                }
                let frame = ready!(Pin::new(body).poll_frame(cx)).transpose()?;
                *owes_status &= frame.as_ref().is_none_or(Frame::is_data);
                if frame.is_none() && std::mem::take(owes_status) {
                    return Poll::Ready(Some(Ok(Frame::trailers(without_status()))));
                }
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream { first, body, owes_status } => {
                first.is_none() && !owes_status && body.is_end_stream()
            }
        }
    }
}
