//! Looks after a connection while it lives, beside the task that drives it: a call costs nothing here.

use std::future::Future;
use std::sync::{Arc, Weak};

use h2::{Ping, PingPong};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Core;
use super::pool::{Life, Pool};

/// Drives a connection and looks after it, until it ends.
pub(super) fn drive(
    life: Life,
    id: u64,
    driver: impl Future<Output = ()> + Send + 'static,
    pings: Option<PingPong>,
) {
    let ended = CancellationToken::new();
    let gone = life.host.gone.clone();
    let (core, pool) = (Arc::clone(&life.core), life.pool.clone());
    let ending = Ending { id, life, _ended: ended.clone().drop_guard() };
    let driver = tokio::spawn(async move {
        let _ending = ending;
        driver.await;
    });
    let mut tender = Tender { core, pool: pool.clone(), id, pings, driver: driver.abort_handle() };
    tokio::spawn(async move {
        tokio::select! {
            () = ended.cancelled() => return,
            () = gone.cancelled() => {}
            () = tender.tend() => {}
        }
        if let Some(pool) = pool.upgrade() {
            pool.retire(id);
        }
    });
}

/// Counts the end of a connection, however it comes.
struct Ending {
    id: u64,
    life: Life,
    /// Dropped last: it ends the tender.
    _ended: DropGuard,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let stats = &self.life.core.stats;
        stats.upstream_cx_destroy.inc();
        // Who was open to calls did not end by our will.
        let Some(active) = self.life.pool.upgrade().and_then(|pool| pool.retire(self.id)) else {
            stats.upstream_cx_destroy_local.inc();
            return;
        };
        stats.upstream_cx_destroy_remote.inc();
        if active > 0 {
            stats.upstream_cx_destroy_with_active_rq.inc();
            stats.upstream_cx_destroy_remote_with_active_rq.inc();
        }
    }
}

struct Tender {
    core: Arc<Core>,
    pool: Weak<Pool>,
    id: u64,
    pings: Option<PingPong>,
    driver: AbortHandle,
}

impl Tender {
    /// Done when the connection shall be used no more.
    async fn tend(&mut self) {
        let (settings, stats) = (&self.core.settings, &self.core.stats);
        let born = Instant::now();
        let mut pinged = born;
        loop {
            let now = Instant::now();
            let idle_since = self.pool.upgrade().and_then(|pool| pool.idle_since(self.id)).unwrap_or(now);
            let idle_at = settings.idle_timeout.map(|most| idle_since + most);
            let old_at = settings.max_duration.map(|most| born + most);
            let keepalive = settings.http2.keepalive.filter(|_| self.pings.is_some());
            let ping_at = keepalive.map(|keepalive| pinged + keepalive.interval);
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if due(idle_at) {
                return stats.upstream_cx_idle_timeout.inc();
            }
            if due(old_at) {
                return stats.upstream_cx_max_duration_reached.inc();
            }
            if let (Some(keepalive), Some(pings), true) = (keepalive, &mut self.pings, due(ping_at)) {
                if !matches!(timeout(keepalive.timeout, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
                    return self.driver.abort();
                }
                pinged = Instant::now();
                continue;
            }
            match [idle_at, old_at, ping_at].into_iter().flatten().min() {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}
