//! A request's body that several attempts can read, as long as it is small.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use crate::body::{BodyError, RequestBody, Source, Transformed};

/// Keeps what was read of a body, so that it can be read again.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    body: RequestBody,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    most: usize,
    ended: bool,
    /// The body outgrew its bound, and what was read is gone.
    lost: bool,
}

impl Replay {
    /// Takes `body` and keeps at most `most` bytes of it.
    pub(crate) fn new(body: RequestBody, most: usize) -> Self {
        let ended = body.is_end_stream();
        let shared = Shared { body, kept: Vec::new(), trailers: None, size: 0, most, ended, lost: false };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The body from its beginning.
    pub(crate) fn read(&self) -> RequestBody {
        Transformed::new(Source::Again(Reading { shared: Arc::clone(&self.shared), at: 0, ended: false }))
    }

    /// Whether the body can be read from its beginning once more.
    pub(crate) fn is_whole(&self) -> bool {
        !self.shared.lock().unwrap_or_else(PoisonError::into_inner).lost
    }
}

/// One reading of a body.
#[derive(Debug)]
pub(crate) struct Reading {
    shared: Arc<Mutex<Shared>>,
    at: usize,
    ended: bool,
}

impl Reading {
    pub(crate) fn is_end(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended || (shared.ended && shared.trailers.is_none() && self.at >= shared.kept.len())
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = shared.kept.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.ended {
            self.ended = true;
            return Poll::Ready(shared.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut shared.body).poll_frame(cx)).transpose()?;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                shared.ended = shared.body.is_end_stream();
                shared.keep(&data);
                self.at = shared.kept.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(frame)) => {
                (shared.ended, self.ended) = (true, true);
                shared.trailers = frame.into_trailers().ok();
                Poll::Ready(shared.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            None => {
                (shared.ended, self.ended) = (true, true);
                Poll::Ready(None)
            }
        }
    }
}

impl Shared {
    fn keep(&mut self, data: &Bytes) {
        self.size += data.len();
        if self.size > self.most {
            self.lost = true;
            self.kept.clear();
        }
        if !self.lost {
            self.kept.push(data.clone());
        }
    }
}
