//! Response bodies that can end before their service ends them.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;

use crate::{panic_text, status::Refusal};

/// Ends a streamed response with a refusal's status as soon as `refusal` completes, or when its service panics.
pub(crate) fn end_when(
    response: Response,
    refusal: impl Future<Output = Refusal> + Send + 'static,
) -> Response {
    response.map(|inner| Body::new(Ending { inner: Some(inner), refusal: Box::pin(refusal) }))
}

struct Ending {
    /// Dropped at the end, and with it what the service holds for the stream.
    inner: Option<Body>,
    refusal: Pin<Box<dyn Future<Output = Refusal> + Send>>,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        // First, so that a stream which is always ready ends too.
        if let Poll::Ready(refusal) = this.refusal.as_mut().poll(cx) {
            this.inner = None;
            return Poll::Ready(Some(Ok(trailers(refusal))));
        }
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(polled) => {
                let frame = ready!(polled);
                if frame.is_none() {
                    this.inner = None;
                }
                Poll::Ready(frame)
            }
            Err(panic) => {
                this.inner = None;
                Poll::Ready(Some(Ok(trailers(Refusal::Panicked(panic_text(panic.as_ref()).to_owned())))))
            }
        }
    }

    /// A refusal has its status in the headers, which clients accept only where they end the stream.
    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

fn trailers(refusal: Refusal) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Fails only for a message that is no header value, and tonic percent-encodes messages.
    Status::from(refusal).add_header(&mut trailers).ok();
    Frame::trailers(trailers)
}
