//! Leaving without cutting a call: listeners, connections and clocks hear that the edge drains.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// What an edge that drains has told its parts.
#[derive(Clone, Debug)]
pub(crate) struct Drain(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    begun: CancellationToken,
    /// Whether health checks shall fail; connections are asked to leave, but served.
    failing: Arc<AtomicBool>,
    /// When who is still there has to go.
    end: OnceLock<Instant>,
}

impl Drain {
    /// Returns once connections shall say goodbye.
    pub(crate) async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// Whether the edge wants to be left.
    pub(crate) fn leaving(&self) -> bool {
        self.0.begun.is_cancelled() || self.failing()
    }

    pub(crate) fn failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    /// When connections end that have not left by then.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.0.end.get().copied()
    }
}

/// Tells when to drain: the whole edge, or a part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drainer(Arc<Told>);

impl Drainer {
    /// One for a part, which drains with the whole or before it.
    pub(crate) fn part(&self) -> Self {
        let Told { begun, failing, end: _ } = &*self.0;
        let part = Told { begun: begun.child_token(), failing: Arc::clone(failing), end: OnceLock::new() };
        Self(Arc::new(part))
    }

    pub(crate) fn drain(&self) -> Drain {
        Drain(Arc::clone(&self.0))
    }

    pub(crate) fn begin(&self) {
        self.0.begun.cancel();
    }

    /// What it is for is no more: connections have so long to leave.
    pub(crate) fn retire(&self, time: Duration) {
        self.0.end.get_or_init(|| Instant::now() + time);
        self.begin();
    }

    pub(crate) fn fail_health_checks(&self, fail: bool) {
        self.0.failing.store(fail, Ordering::Relaxed);
    }
}
