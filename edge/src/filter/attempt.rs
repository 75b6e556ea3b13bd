//! One attempt: what came of it, and what a retry policy says of that.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame};
use rand::Rng;

use crate::body::RequestBody;
use crate::reply::GRPC_STATUS;
use crate::route::{Retry, RetryOn};
use crate::upstream::{Answered, Cluster, Failure, Want};

const X_ENVOY_RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// An answer, and what was read of its body to see how it begins.
pub(super) type Answer = (Answered, Option<Box<Frame<Bytes>>>);

/// What one attempt came to.
pub(super) enum Outcome {
    Answered(Box<Answer>),
    Failed(Failure),
    /// The attempt's own clock ran out.
    Late,
}

pub(super) const GRPC_CONDITIONS: RetryOn = RetryOn::CANCELLED
    .with(RetryOn::DEADLINE_EXCEEDED)
    .with(RetryOn::RESOURCE_EXHAUSTED)
    .with(RetryOn::UNAVAILABLE)
    .with(RetryOn::INTERNAL);

pub(super) async fn attempt(
    cluster: &Arc<Cluster>,
    request: Box<http::Request<RequestBody>>,
    want: &Want,
    per_try: Option<Duration>,
    peek: bool,
) -> Outcome {
    let ended = match per_try {
        Some(limit) => match tokio::time::timeout(limit, Box::pin(ask(cluster, request, want, peek))).await {
            Ok(ended) => ended,
            Err(_) => return Outcome::Late,
        },
        None => ask(cluster, request, want, peek).await,
    };
    match ended {
        Ok(answer) => {
            answer.0.host.answered(http_meaning(&answer));
            Outcome::Answered(answer)
        }
        Err(failure) => Outcome::Failed(failure),
    }
}

async fn ask(
    cluster: &Cluster,
    request: Box<http::Request<RequestBody>>,
    want: &Want,
    peek: bool,
) -> Result<Box<Answer>, Failure> {
    let mut answer = Box::new((cluster.call(request, want).await?, None));
    let (answered, first) = &mut *answer;
    if peek && !answered.head.headers.contains_key(GRPC_STATUS) && !answered.body.is_end_stream() {
        let frame = poll_fn(|cx| Pin::new(&mut answered.body).poll_frame(cx)).await.transpose()?;
        *first = frame.map(Box::new);
    }
    Ok(answer)
}

/// The gRPC status of an answer, if it is known already.
pub(super) fn grpc_status((answered, first): &Answer) -> Option<i32> {
    let trailers: Option<&HeaderMap> = first.as_deref().and_then(Frame::trailers_ref);
    let status = answered.head.headers.get(GRPC_STATUS).or_else(|| trailers?.get(GRPC_STATUS))?;
    status.to_str().ok()?.parse().ok()
}

/// What an answer means to those who count HTTP statuses.
pub(super) fn http_meaning(answer: &Answer) -> u16 {
    match grpc_status(answer) {
        Some(0) | None => answer.0.head.status.as_u16(),
        Some(2 | 13 | 15) => 500,
        Some(4) => 504,
        Some(14) => 503,
        Some(12) => 501,
        Some(_) => 400,
    }
}

pub(super) fn applies_to_answer(on: RetryOn, retry: &Retry, answer: &Answer) -> bool {
    let headers = &answer.0.head.headers;
    let grpc = match grpc_status(answer) {
        Some(1) => RetryOn::CANCELLED,
        Some(4) => RetryOn::DEADLINE_EXCEEDED,
        Some(8) => RetryOn::RESOURCE_EXHAUSTED,
        Some(13) => RetryOn::INTERNAL,
        Some(14) => RetryOn::UNAVAILABLE,
        _ => RetryOn::default(),
    };
    let status = answer.0.head.status.as_u16();
    let http = match status {
        409 => RetryOn::RETRIABLE_4XX,
        502..=504 => RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR),
        500..=599 => RetryOn::SERVER_ERROR,
        _ => RetryOn::default(),
    };
    let limited = headers.contains_key(X_ENVOY_RATELIMITED);
    on.intersects(grpc)
        || (on.intersects(http) && !limited)
        || (limited && on.intersects(RetryOn::RATE_LIMITED))
        || (on.intersects(RetryOn::STATUS_CODES) && retry.status_codes.contains(&status))
        || (on.intersects(RetryOn::HEADERS)
            && retry.response_headers.iter().any(|header| header.matches(headers)))
}

/// The pause that an answer asks for.
pub(super) fn asked_pause(retry: &Retry, outcome: &Outcome) -> Option<Duration> {
    let (limits, Outcome::Answered(answer)) = (retry.rate_limited.as_ref()?, outcome) else { return None };
    let asked = limits.headers.iter().find_map(|header| {
        let value: u64 = answer.0.head.headers.get(&header.name)?.to_str().ok()?.parse().ok()?;
        if !header.unix_timestamp {
            return Some(Duration::from_secs(value));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Duration::from_secs(value).checked_sub(now)
    })?;
    Some(asked).filter(|asked| *asked <= limits.max_interval)
}

/// A random pause below a bound that doubles with every attempt.
pub(super) fn back_off(retry: &Retry, pauses: u32) -> Duration {
    let bound = retry.base_interval.saturating_mul((1_u32 << pauses.min(20)) - 1).min(retry.max_interval);
    bound.mul_f64(rand::rng().random::<f64>())
}
