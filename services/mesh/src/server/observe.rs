//! The outermost layer: one span and one measurement per call, from its head to the end of its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::metrics::Histogram;
use opentelemetry::propagation::Extractor;
use opentelemetry::{KeyValue, global};
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::method::{Method, Methods};
use crate::semconv;

const STATUS_HEADER: &str = "grpc-status";

/// What measures calls.
#[derive(Debug)]
pub(super) struct Observer {
    methods: Methods,
    duration: Histogram<f64>,
}

impl Observer {
    pub(super) fn new(methods: Methods) -> Self {
        let duration = global::meter("mesh")
            .f64_histogram(semconv::SERVER_CALL_DURATION)
            .with_unit("s")
            .with_description("Duration of calls that the server handled.")
            .with_boundaries(semconv::DURATION_BUCKETS.to_vec())
            .build();
        Self { methods, duration }
    }
}

/// Layer: traces and measures the call, and tells the layers inside which method it is.
pub(super) async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = observer.methods.get(request.uri().path());
    let span = server_span(&method, request.headers());
    request.extensions_mut().insert(Arc::clone(&method));
    let mut call =
        Call { observer, method, span: span.clone(), started: Instant::now(), code: tonic::Code::Cancelled };
    let response = next.run(request).instrument(span).await;
    match code_in(response.headers()) {
        // A response of headers only: nothing follows.
        Some(code) => {
            call.code = code;
            response
        }
        None => response.map(|inner| Body::new(Observed { inner, call })),
    }
}

fn server_span(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "rpc",
        otel.name = method.name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        { semconv::RPC_SYSTEM } = semconv::GRPC,
        { semconv::RPC_METHOD } = method.name,
        { semconv::RPC_STATUS } = field::Empty,
    );
    if !span.is_disabled() {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        // Fails where nothing exports traces: then there is no trace to continue.
        span.set_parent(parent).ok();
    }
    span
}

/// A call under way. Its end is its drop: a client that goes away ends it as CANCELLED.
struct Call {
    observer: Arc<Observer>,
    method: Arc<Method>,
    span: Span,
    started: Instant,
    code: tonic::Code,
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = semconv::code_name(self.code);
        self.span.record(semconv::RPC_STATUS, code);
        if semconv::is_server_error(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.observer.duration.record(
            self.started.elapsed().as_secs_f64(),
            &[
                KeyValue::new(semconv::RPC_SYSTEM, semconv::GRPC),
                KeyValue::new(semconv::RPC_METHOD, self.method.name.clone()),
                KeyValue::new(semconv::RPC_STATUS, code),
            ],
        );
    }
}

/// A response body that tells its call how it ended.
struct Observed {
    inner: Body,
    call: Call,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let _entered = this.call.span.enter();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(code) = frame.trailers_ref().and_then(code_in)
        {
            this.call.code = code;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn code_in(headers: &HeaderMap) -> Option<tonic::Code> {
    headers.get(STATUS_HEADER).map(|value| tonic::Code::from_bytes(value.as_bytes()))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
