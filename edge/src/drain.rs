//! Leaving without cutting a call: listeners, connections and clocks hear that the edge drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What an edge that drains has told its parts.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    begun: watch::Receiver<bool>,
    /// Whether health checks shall fail; connections are asked to leave, but served.
    failing: Arc<AtomicBool>,
}

impl Drain {
    /// Returns once connections shall say goodbye.
    pub(crate) async fn begun(&self) {
        let mut begun = self.begun.clone();
        if begun.wait_for(|begun| *begun).await.is_err() {
            // The edge itself is gone without a word: its threads end anyway.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the edge wants to be left.
    pub(crate) fn leaving(&self) -> bool {
        *self.begun.borrow() || self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

/// Tells when to drain.
#[derive(Debug)]
pub(crate) struct Drainer {
    begun: watch::Sender<bool>,
    failing: Arc<AtomicBool>,
}

impl Drainer {
    pub(crate) fn new() -> Self {
        Self { begun: watch::Sender::new(false), failing: Arc::default() }
    }

    pub(crate) fn drain(&self) -> Drain {
        Drain { begun: self.begun.subscribe(), failing: Arc::clone(&self.failing) }
    }

    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    pub(crate) fn fail_health_checks(&self, fail: bool) {
        self.failing.store(fail, Ordering::Relaxed);
    }
}
