//! What clients are told of their plans: `RateLimit-*` on every reply, and why and for how long a call is refused.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tonic_types::pb::{QuotaFailure, quota_failure};

use crate::call::Call;
use crate::consumers::{Account, Standing};
use crate::flag::Flag;
use crate::reply::LocalReply;
use crate::wait::{detail, whole_seconds};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
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
    let violation = quota_failure::Violation {
        subject: format!("consumer:{}", account.consumer),
        description: format!("plan {}: {message}", account.plan().unwrap_or_default()),
        ..quota_failure::Violation::default()
    };
    let failure = QuotaFailure { violations: vec![violation] };
    LocalReply::new(StatusCode::TOO_MANY_REQUESTS, message, details)
        .with_grpc(RESOURCE_EXHAUSTED)
        .with_flag(Flag::RateLimited)
        .with_wait(call, wait, vec![detail("google.rpc.QuotaFailure", &failure)])
}
