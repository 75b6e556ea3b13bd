//! How long a call may take: read from the client, bounded by the server, handed on to peers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

use crate::method::Method;
use crate::server::body;
use crate::status::Refusal;

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// tonic runs the same timer around the whole stack and answers CANCELLED when it fires. Ours fires first, by
/// more than the timer's granularity, so that the client reads DEADLINE_EXCEEDED and the call is measured.
const AHEAD_OF_TONIC: Duration = Duration::from_millis(2);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// The moment by which a call must be answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of the call that the current task handles, if it has one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// The time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Layer: ends calls at their deadline. Unary calls have one always, the others when the client sets it:
/// nobody but the reader of a stream knows how long it should be.
pub(crate) async fn enforce(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let method = request.extensions().get::<Arc<Method>>().cloned();
    let is_unary = method.as_ref().is_none_or(|method| method.is_unary());
    let asked = client_timeout(request.headers()).map(|timeout| timeout.saturating_sub(AHEAD_OF_TONIC));
    let allowed = if is_unary { Some(asked.unwrap_or(limit).min(limit)) } else { asked };
    let Some(allowed) = allowed else { return next.run(request).await };

    let deadline = Deadline(Instant::now() + allowed);
    match tokio::time::timeout_at(deadline.0, CURRENT.scope(deadline, next.run(request))).await {
        Ok(response) if method.is_some_and(|method| method.server_streaming) => {
            let expiry = tokio::time::sleep_until(deadline.0);
            body::end_when(response, async move {
                expiry.await;
                Refusal::DeadlineExceeded
            })
        }
        Ok(response) => response,
        Err(_) => Status::from(Refusal::DeadlineExceeded).into_http(),
    }
}

/// The client's `grpc-timeout`: at most eight digits and a unit. Anything else is as if it were absent, which
/// is how gRPC servers read it.
fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_timeout_reads_what_the_protocol_allows() {
        let check = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, http::HeaderValue::from_static(value));
            client_timeout(&headers)
        };
        assert_eq!(check("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(check("2M"), Some(Duration::from_secs(120)));
        assert_eq!(check("250m"), Some(Duration::from_millis(250)));
        assert_eq!(check("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "5", "m", "+5m", "123456789m", "5x", "-1S"] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
    }
}
