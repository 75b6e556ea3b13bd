//! What the clocks of a connection read, and what its client has done to end it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::downstream::gate::Refusal;
use crate::downstream::hcm::{Hcm, Limits};
use crate::reply::LocalReply;

/// How long a connection that is closed for idleness may take to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// A client that resets a call sooner than this, and before its answer began, did not want the answer.
const PREMATURE: Duration = Duration::from_secs(1);
/// Of so many calls, or of all if they are more, half may be reset like that.
const CALLS_JUDGED: u32 = 500;

/// What the clocks of a connection read. All times are milliseconds since it began.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(super) began: Instant,
    active: AtomicU32,
    served: AtomicU32,
    /// Since when no request is in flight.
    idle_since: AtomicU64,
    /// Since when a head is on its way that is not whole yet; 0: none is.
    head_since: AtomicU64,
    http2: AtomicBool,
    enough: Notify,
    ended: AtomicU32,
    premature: AtomicU32,
    /// The connection ends at once.
    abused: AtomicBool,
    /// Since when the client takes nothing of what waits for it; 0: nothing waits.
    blocked_since: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// The client is gone.
    closed: AtomicBool,
    /// A head did not come whole in time.
    late: AtomicBool,
    /// The request that must not be served.
    refused: OnceLock<Refusal>,
    /// What is spoken is HTTP no more.
    upgraded: AtomicBool,
    /// What carries it then.
    pub(crate) tunnels: TaskTracker,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            active: AtomicU32::new(0),
            served: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            enough: Notify::new(),
            ended: AtomicU32::new(0),
            premature: AtomicU32::new(0),
            abused: AtomicBool::new(false),
            blocked_since: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            late: AtomicBool::new(false),
            refused: OnceLock::new(),
            upgraded: AtomicBool::new(false),
            tunnels: TaskTracker::new(),
        }
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> u64 {
        // Never 0, which means that no head is on its way.
        u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A request's head is whole; what its sender is told if it must not be served.
    pub(crate) fn request_begun(&self, hcm: &Hcm) -> Option<LocalReply> {
        self.active.fetch_add(1, Ordering::Relaxed);
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let stats = hcm.stats.of(self.http2.load(Ordering::Relaxed));
        stats.requests.inc();
        if served == 1 {
            stats.connections.inc();
            stats.connections_active.add(1);
        }
        if hcm.limits.requests_per_connection.is_some_and(|most| served >= most) {
            self.leave();
        }
        self.refused.get().filter(|(number, _)| *number == served).map(|(_, reply)| reply.clone())
    }

    /// The connection is over.
    pub(super) fn ended(&self, hcm: &Hcm) {
        let stats = &hcm.stats;
        stats.connections_active.add(-1);
        stats.connections_ended.inc();
        stats.connection_length.record_since(self.began);
        stats.received.add(self.received());
        stats.sent.add(self.sent());
        if self.served.load(Ordering::Relaxed) > 0 {
            stats.of(self.http2.load(Ordering::Relaxed)).connections_active.add(-1);
        }
    }

    /// The client shall go once its requests are answered.
    pub(crate) fn leave(&self) {
        self.enough.notify_one();
    }

    /// Returns when the client shall go: at once if it has abused the connection.
    pub(super) async fn dismissed(&self) -> bool {
        self.enough.notified().await;
        self.abused.load(Ordering::Relaxed)
    }

    /// Counts that a clock has run out; whether the connection goes on, if only to answer its client.
    pub(super) fn may_answer(&self, expired: Expired, hcm: &Hcm) -> bool {
        match expired {
            Expired::Idle => hcm.stats.idle_timeouts.inc(),
            Expired::SlowHead if self.is_late() => return false,
            Expired::SlowHead => {
                hcm.stats.header_timeouts.inc();
                // What reads from the client answers it, and is asked at once.
                self.late.store(true, Ordering::Relaxed);
                return self.received() > 0 && !self.http2.load(Ordering::Relaxed);
            }
            Expired::Blocked => return false,
            Expired::Lived => {}
        }
        true
    }

    /// The client may speak another protocol now.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }

    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// A call has ended; `unwanted`: its client reset it before it was answered.
    pub(crate) fn request_ended(&self, now: Instant, unwanted: Option<Duration>, hcm: &Hcm) {
        let now = self.at(now);
        if self.head_since.load(Ordering::Relaxed) > 0 && !self.http2.load(Ordering::Relaxed) {
            // A request that came behind another one has its time from now on.
            self.head_since.store(now, Ordering::Relaxed);
        }
        self.idle_since.store(now, Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if unwanted.is_some_and(|after| after < PREMATURE) {
            let premature = self.premature.fetch_add(1, Ordering::Relaxed) + 1;
            if premature >= ended.max(CALLS_JUDGED) / 2 && !self.abused.swap(true, Ordering::Relaxed) {
                hcm.stats.premature_resets.inc();
                self.leave();
            }
        }
    }

    /// Whether a call that ends now ends with its connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn heard(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Notes whether a head is on its way that is not whole yet.
    pub(super) fn head(&self, on_its_way: bool, http2: bool) {
        self.http2.store(http2, Ordering::Relaxed);
        if !on_its_way {
            self.head_since.store(0, Ordering::Relaxed);
        } else if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Notes what the client took of what waits for it.
    pub(super) fn wrote(&self, taken: Option<usize>) {
        match taken {
            Some(bytes) => {
                self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                self.blocked_since.store(0, Ordering::Relaxed);
            }
            None if self.blocked_since.load(Ordering::Relaxed) == 0 => {
                self.blocked_since.store(self.now(), Ordering::Relaxed);
            }
            None => {}
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The client is gone.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Keeps why a request must not be served.
    pub(super) fn refuse(&self, refusal: Refusal) {
        // A gate that has refused a request lets no other one pass.
        let _ = self.refused.set(refusal);
    }

    /// Which clock has run out, or when to look again.
    pub(super) fn check(&self, hcm: &Hcm) -> Result<Duration, Expired> {
        let now = self.now();
        let mut next = Duration::from_secs(3600);
        let mut left = |limit: Option<Duration>, since: u64, expired: Expired| {
            let Some(limit) = limit else { return Ok(()) };
            let past = Duration::from_millis(now.saturating_sub(since));
            match limit.checked_sub(past) {
                None | Some(Duration::ZERO) => Err(expired),
                Some(left) => {
                    next = next.min(left);
                    Ok(())
                }
            }
        };
        left(hcm.limits.connection, 0, Expired::Lived)?;
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 {
            left(hcm.limits.flush, blocked, Expired::Blocked)?;
        }
        let idle = self.active.load(Ordering::Relaxed) == 0;
        let head = self.head_since.load(Ordering::Relaxed);
        // A client that connects and says nothing holds no more than one that speaks slowly.
        let waits = head > 0 || self.received() == 0;
        if waits && (idle || self.http2.load(Ordering::Relaxed)) {
            left(hcm.limits.headers, head, Expired::SlowHead)?;
        }
        if idle {
            left(hcm.limits.idle, self.idle_since.load(Ordering::Relaxed), Expired::Idle)?;
        }
        // A head may begin and a call may end at any time, and only this loop will notice what comes of it.
        let Limits { headers, idle, flush, .. } = hcm.limits;
        Ok([headers, idle, flush].into_iter().flatten().fold(next, Duration::min))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// The client takes nothing of what waits for it.
    Blocked,
    Idle,
    Lived,
    SlowHead,
}
