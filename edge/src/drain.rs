//! Leaving without cutting a call: listeners, connections and clocks hear that the edge drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// What an edge that drains has told its parts.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    begun: CancellationToken,
    /// Whether health checks shall fail; connections are asked to leave, but served.
    failing: Arc<AtomicBool>,
}

impl Drain {
    /// Returns once connections shall say goodbye.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Whether the edge wants to be left.
    pub(crate) fn leaving(&self) -> bool {
        self.begun.is_cancelled() || self.failing()
    }

    pub(crate) fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

/// Tells when to drain: the whole edge, or a part of it.
#[derive(Debug, Default)]
pub(crate) struct Drainer {
    begun: CancellationToken,
    failing: Arc<AtomicBool>,
}

impl Drainer {
    /// One for a part, which drains with the whole or before it.
    pub(crate) fn part(&self) -> Self {
        Self { begun: self.begun.child_token(), failing: Arc::clone(&self.failing) }
    }

    pub(crate) fn drain(&self) -> Drain {
        Drain { begun: self.begun.clone(), failing: Arc::clone(&self.failing) }
    }

    pub(crate) fn begin(&self) {
        self.begun.cancel();
    }

    pub(crate) fn fail_health_checks(&self, fail: bool) {
        self.failing.store(fail, Ordering::Relaxed);
    }
}
