//! What clients are told of their plans: `RateLimit-*` on every reply, and why and for how long a call is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message;
use tonic_types::pb::{QuotaFailure, RetryInfo, Status, quota_failure};

use crate::call::{Call, Protocol};
use crate::consumers::{Account, Standing};
use crate::flag::Flag;
use crate::reply::LocalReply;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RESOURCE_EXHAUSTED: i32 = 8;

/// What a call's reply says of its consumer's plan: of the month's quota, or of the rate where that is what refused the
/// call, or all there is.
#[derive(Clone, Debug)]
pub(super) struct Told {
    standing: Standing,
    policy: HeaderValue,
}

impl Told {
    pub(super) fn new(standing: Standing, account: &Account) -> Option<Self> {
        let policy = HeaderValue::try_from(account.policy()?).ok()?;
        Some(Self { standing, policy })
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.standing.limit.into());
        headers.insert(REMAINING, self.standing.left.into());
        headers.insert(RESET, whole_seconds(self.standing.reset).into());
        headers.insert(POLICY, self.policy.clone());
    }
}

/// The plan's rate does not allow the call.
pub(super) fn too_fast(call: &Call, account: &Account) -> Option<LocalReply> {
    let standing = account.rate()?;
    let message = format!("more than {} calls at once or faster than the plan's rate", standing.limit);
    Some(refusal(call, account, message, "consumer_rate_limited", standing.reset))
}

/// The month's quota does not allow the call.
pub(super) fn exhausted(call: &Call, account: &Account) -> Option<LocalReply> {
    let standing = account.month(0)?;
    let message = format!("the plan's {} calls of this month are used up", standing.limit);
    Some(refusal(call, account, message, "consumer_quota_exhausted", standing.reset))
}

fn refusal(
    call: &Call,
    account: &Account,
    message: String,
    details: &'static str,
    wait: Duration,
) -> LocalReply {
    let status = status(account, &message, wait).encode_to_vec();
    let wait = HeaderValue::from(whole_seconds(wait).max(1));
    let refused = LocalReply::new(StatusCode::TOO_MANY_REQUESTS, message, details)
        .with_grpc(RESOURCE_EXHAUSTED)
        .with_flag(Flag::RateLimited);
    match HeaderValue::try_from(STANDARD_NO_PAD.encode(status)) {
        Ok(status) if call.is_grpc() => {
            let refused = refused.with_header(DETAILS, status);
            // HTTP knows of no details, and gRPC of no such header.
            if call.protocol == Protocol::Grpc { refused } else { refused.with_header(RETRY_AFTER, wait) }
        }
        _ => refused.with_header(RETRY_AFTER, wait),
    }
}

/// The status as gRPC clients read it, with what was exceeded and when to come back.
fn status(account: &Account, message: &str, wait: Duration) -> Status {
    let violation = quota_failure::Violation {
        subject: format!("consumer:{}", account.consumer),
        description: format!("plan {}: {message}", account.plan().unwrap_or_default()),
        ..quota_failure::Violation::default()
    };
    let failure = QuotaFailure { violations: vec![violation] };
    let retry = RetryInfo { retry_delay: prost_types::Duration::try_from(wait).ok() };
    Status {
        code: RESOURCE_EXHAUSTED,
        message: message.to_owned(),
        details: vec![any("google.rpc.QuotaFailure", &failure), any("google.rpc.RetryInfo", &retry)],
    }
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
