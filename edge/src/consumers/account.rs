//! A consumer as an edge knows it: its plan, what it has left of it, and whether one more call may pass.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Plan;
use super::ledger::{Ledger, Taken};
use crate::bucket::Bucket;

/// A call waits so long for the database to lease a portion, and no call waits again until it answers.
const LEASE_WAIT: Duration = Duration::from_secs(5);

/// A consumer on its plan. Another plan makes another account with the same ledger.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) consumer: String,
    pub(super) plan: Option<Plan>,
    bucket: Option<Bucket>,
    pub(super) ledger: Arc<Ledger>,
    /// Wakes whoever leases portions.
    wake: Arc<Notify>,
}

/// Why a call does not pass, or that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes; of the quota so many calls are left, as far as this edge knows.
    Passes { left: u64 },
    /// A portion has to be waited for: see `Account::wait`.
    Wait,
    /// The plan's rate is exceeded.
    TooFast,
    /// The month's quota is used up.
    Exhausted,
    /// Whether anything is left of the quota is not known.
    Unknown,
}

/// How a plan's limit stands, for the client to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) left: u64,
    /// Until there is more.
    pub(crate) reset: Duration,
}

impl Account {
    pub(super) fn new(consumer: String, plan: Option<Plan>, ledger: Arc<Ledger>, wake: Arc<Notify>) -> Self {
        let rate = plan.as_ref().and_then(|plan| plan.rate);
        let bucket = rate.map(|rate| Bucket::new(rate.burst, 1e9 / f64::from(rate.per_second)));
        Self { consumer, plan, bucket, ledger, wake }
    }

    /// Counts one more call, if the plan allows it.
    pub(crate) fn admit(&self) -> Verdict {
        if self.bucket.as_ref().is_some_and(|bucket| !bucket.take(1)) {
            return Verdict::TooFast;
        }
        self.count()
    }

    /// Waits for a portion to be leased, and counts the call.
    pub(crate) async fn wait(&self) -> Verdict {
        let counted = async {
            loop {
                let mut answered = std::pin::pin!(self.ledger.answered().notified());
                // Before asking again: an answer in between is not missed.
                answered.as_mut().enable();
                match self.count() {
                    Verdict::Wait => answered.await,
                    verdict => return verdict,
                }
            }
        };
        timeout(LEASE_WAIT, counted).await.unwrap_or_else(|_| {
            self.ledger.failed();
            Verdict::Unknown
        })
    }

    /// Counts a call that passes though its quota is not known.
    pub(crate) fn pass_uncovered(&self) {
        self.ledger.take_uncovered();
    }

    /// The plan's limits as `RateLimit-Policy` has them; none where there are none.
    pub(crate) fn policy(&self) -> Option<String> {
        let plan = self.plan.as_ref()?;
        let rate = plan.rate.map(|rate| format!("{};w=1;burst={}", rate.per_second, rate.burst));
        let quota = self.quota().map(|quota| format!("{quota};w={}", self.ledger.month().seconds()));
        let policies: Vec<_> = rate.into_iter().chain(quota).collect();
        (!policies.is_empty()).then(|| policies.join(", "))
    }

    /// How it stands with the plan's rate.
    pub(crate) fn rate(&self) -> Option<Standing> {
        let bucket = self.bucket.as_ref()?;
        let left = bucket.left();
        let reset = if left > 0 { Duration::ZERO } else { bucket.wait() };
        Some(Standing { limit: bucket.max.into(), left: left.into(), reset })
    }

    /// How it stands with the plan's quota, of which so many calls are left.
    pub(crate) fn month(&self, left: u64) -> Option<Standing> {
        let limit = self.quota()?;
        let reset = Timestamp::now().duration_until(self.ledger.end());
        Some(Standing { limit, left, reset: Duration::try_from(reset).unwrap_or_default() })
    }

    /// The plan's name.
    pub(crate) fn plan(&self) -> Option<&str> {
        self.plan.as_ref().map(|plan| plan.name.as_str())
    }

    /// Calls a month.
    pub(super) fn quota(&self) -> Option<u64> {
        self.plan.as_ref()?.monthly_quota
    }

    fn count(&self) -> Verdict {
        let (taken, wanted) = self.ledger.take(self.quota(), Timestamp::now());
        if wanted {
            self.wake.notify_one();
        }
        match taken {
            Taken::Counted { left } => Verdict::Passes { left },
            Taken::Wait => Verdict::Wait,
            Taken::Exhausted => Verdict::Exhausted,
            Taken::Failed => Verdict::Unknown,
        }
    }
}
