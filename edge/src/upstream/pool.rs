//! A worker's connections to a host. Workers share none, so that no call crosses threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::{Level, Permit};
use super::host::Host;
use super::http1::{self, Http1};
use super::http2::{self, Http2, Lane};
use super::settings::Protocol;
use super::{Core, Failure, FailureKind, connect, tend};

thread_local! {
    static POOLS: RefCell<HashMap<u64, Arc<Pool>>> = RefCell::default();
}

/// The pool of this worker for a host.
pub(super) fn of(host: &Host) -> Arc<Pool> {
    POOLS.with_borrow_mut(|pools| {
        if let Some(pool) = pools.get(&host.id) {
            return Arc::clone(pool);
        }
        pools.retain(|_, pool| !pool.gone.is_cancelled());
        let pool = Arc::new(Pool { gone: host.gone.clone(), freed: Notify::new(), state: Mutex::default() });
        pools.insert(host.id, Arc::clone(&pool));
        pool
    })
}

/// Connections to one host.
#[derive(Debug)]
pub(super) struct Pool {
    /// Cancelled when the host is gone.
    gone: CancellationToken,
    /// Told when a call may try again to find a place.
    freed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shared: Vec<Arc<Http2>>,
    idle: Vec<Http1>,
    /// Connections that are open or being made.
    open: usize,
    /// The connection being made that everybody waits for.
    dialing: Option<Dialing>,
    /// Whether the last handshake settled on HTTP/1.1.
    settled_on_http1: bool,
}

type Dialing = Shared<BoxFuture<'static, Result<(), Failure>>>;

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("open", &self.open).finish_non_exhaustive()
    }
}

/// A place for one call.
#[derive(Debug)]
pub(super) enum Place {
    Http1(http1::Lease),
    Http2(Lane),
}

impl Place {
    /// Our end of the connection.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(lease) => lease.local(),
            Self::Http2(lane) => lane.local(),
        }
    }
}

/// What was made of a new connection.
enum Made {
    Http1(Http1),
    Http2(Arc<Http2>),
}

/// What waits for a place, until it is dropped.
struct Pending<'a> {
    core: &'a Core,
    host: &'a Host,
    /// Dropped before that, the call is given up.
    settled: bool,
    _permit: Permit,
}

impl<'a> Pending<'a> {
    fn new(core: &'a Core, host: &'a Host, level: &Level) -> Result<Self, Failure> {
        let Some(permit) = level.pending.try_take() else {
            core.stats.upstream_rq_pending_overflow.inc();
            return Err(Failure::new(FailureKind::Overflow, ""));
        };
        core.stats.upstream_rq_pending_total.inc();
        core.stats.upstream_rq_pending_active.add(1);
        host.stats.rq_pending_active.add(1);
        Ok(Self { core, host, settled: false, _permit: permit })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.core.stats.upstream_rq_pending_active.add(-1);
        self.host.stats.rq_pending_active.add(-1);
        if !self.settled {
            self.core.stats.upstream_rq_cancelled.inc();
        }
    }
}

impl Pool {
    /// A place on a connection: at once where one has room, else as soon as there is one.
    pub(super) async fn place(
        self: &Arc<Self>,
        core: &Arc<Core>,
        host: &Arc<Host>,
        protocol: Protocol,
        level: &Level,
    ) -> Result<Place, Failure> {
        if let Some(place) = self.find(core, protocol) {
            return Ok(place);
        }
        let mut pending = Pending::new(core, host, level)?;
        // Boxed: few calls wait, and all would carry what waiting takes.
        let place = Box::pin(self.wait(core, host, protocol, level)).await;
        pending.settled = true;
        place.inspect_err(|_| core.stats.upstream_rq_pending_failure_eject.inc())
    }

    /// A place on a connection that has room again, or on a new one.
    async fn wait(
        self: &Arc<Self>,
        core: &Arc<Core>,
        host: &Arc<Host>,
        protocol: Protocol,
        level: &Level,
    ) -> Result<Place, Failure> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.find(core, protocol) {
                return Ok(place);
            }
            match self.begin(core, host, protocol, level) {
                Begun::Dialing(dialing) => dialing.await?,
                Begun::Own(life) => match self.make(core, host, protocol, life).await? {
                    Made::Http1(connection) => {
                        return Ok(Place::Http1(http1::Lease::new(connection, Arc::clone(self))));
                    }
                    Made::Http2(connection) => self.lock().shared.push(connection),
                },
                Begun::Nothing => {
                    core.stats.upstream_cx_overflow.inc();
                    freed.await;
                }
            }
        }
    }

    /// A place on a connection that is there.
    fn find(self: &Arc<Self>, core: &Core, protocol: Protocol) -> Option<Place> {
        let mut state = self.lock();
        let mut at = 0;
        while let Some(connection) = (protocol != Protocol::Http1).then(|| state.shared.get(at)).flatten() {
            match connection.open(core, self) {
                http2::Room::Here(lane) => {
                    if lane.is_last() {
                        core.stats.upstream_cx_max_requests.inc();
                        state.shared.swap_remove(at);
                    }
                    return Some(Place::Http2(lane));
                }
                http2::Room::None => at += 1,
                http2::Room::Closed => {
                    core.stats.upstream_cx_close_notify.inc();
                    state.shared.swap_remove(at);
                }
            }
        }
        while let Some(connection) = (protocol != Protocol::Http2).then(|| state.idle.pop()).flatten() {
            if connection.is_open() {
                return Some(Place::Http1(http1::Lease::new(connection, Arc::clone(self))));
            }
        }
        None
    }

    /// Begins to connect, or joins who has begun.
    fn begin(
        self: &Arc<Self>,
        core: &Arc<Core>,
        host: &Arc<Host>,
        protocol: Protocol,
        level: &Level,
    ) -> Begun {
        let mut state = self.lock();
        if let Some(dialing) = &state.dialing {
            return Begun::Dialing(dialing.clone());
        }
        let permit = match level.connections.try_take() {
            Some(permit) => permit,
            // A host without a connection gets one, or its calls would wait for ever.
            None if state.open == 0 => level.connections.take_anyway(),
            None => return Begun::Nothing,
        };
        state.open += 1;
        let life = Life::new(core, host, self, permit);
        let alone = protocol == Protocol::Http1
            || protocol == Protocol::Negotiated && (core.tls.is_none() || state.settled_on_http1);
        if alone {
            return Begun::Own(life);
        }
        let (pool, core, host) = (Arc::clone(self), Arc::clone(core), Arc::clone(host));
        let task = tokio::spawn(async move {
            let made = pool.make(&core, &host, protocol, life).await;
            let mut state = pool.lock();
            state.dialing = None;
            match made? {
                Made::Http1(connection) => state.idle.push(connection),
                Made::Http2(connection) => state.shared.push(connection),
            }
            Ok(())
        });
        let gone = || Failure::new(FailureKind::ConnectFailure, "the worker is stopping");
        let dialing = task.map(move |joined| joined.unwrap_or_else(|_| Err(gone()))).boxed().shared();
        state.dialing = Some(dialing.clone());
        Begun::Dialing(dialing)
    }

    async fn make(
        self: &Arc<Self>,
        core: &Arc<Core>,
        host: &Arc<Host>,
        protocol: Protocol,
        life: Life,
    ) -> Result<Made, Failure> {
        let (target, tls) = (&host.spec.target, core.tls.as_ref());
        let connected = connect::connect(target, host, &core.settings, tls, &core.stats).await;
        let (io, settled_on_http2) = connected.inspect_err(|failure| {
            core.stats.upstream_cx_connect_fail.inc();
            host.stats.cx_connect_fail.inc();
            if failure.kind == FailureKind::ConnectTimeout {
                core.stats.upstream_cx_connect_timeout.inc();
            }
        })?;
        host.reached();
        let http2 = match protocol {
            Protocol::Http1 => false,
            Protocol::Http2 | Protocol::Downstream => true,
            Protocol::Negotiated => settled_on_http2,
        };
        let max_streams = {
            let mut state = self.lock();
            state.settled_on_http1 = !http2;
            state.shared.first().map(|connection| connection.max_streams())
        };
        if http2 {
            core.stats.upstream_cx_http2_total.inc();
            let (connection, driver, pings) = http2::handshake(io, &core.settings, max_streams).await?;
            tend::drive(life, connection.id, driver.map(drop), pings);
            Ok(Made::Http2(connection))
        } else {
            core.stats.upstream_cx_http1_total.inc();
            let (connection, driver) = http1::handshake(io, &core.settings).await?;
            tend::drive(life, connection.id, driver.with_upgrades().map(drop), None);
            Ok(Made::Http1(connection))
        }
    }

    /// Takes a connection back that has answered its call.
    pub(super) fn put(&self, connection: Http1) {
        if !self.gone.is_cancelled() {
            self.lock().idle.push(connection);
        }
        self.freed.notify_one();
    }

    /// A place on a connection is free again.
    pub(super) fn free(&self) {
        self.freed.notify_one();
    }

    /// Since when a connection waits for calls.
    pub(super) fn idle_since(&self, id: u64) -> Option<Instant> {
        let state = self.lock();
        match state.shared.iter().find(|connection| connection.id == id) {
            Some(connection) => connection.idle_since(),
            None => state.idle.iter().find(|connection| connection.id == id).map(Http1::idle_since),
        }
    }

    /// No more calls for a connection: it closes when those that it has are answered. Whether it was still open to
    /// calls, and how many it has.
    pub(super) fn retire(&self, id: u64) -> Option<usize> {
        let mut state = self.lock();
        if let Some(at) = state.shared.iter().position(|connection| connection.id == id) {
            return Some(state.shared.swap_remove(at).active());
        }
        let at = state.idle.iter().position(|connection| connection.id == id)?;
        state.idle.swap_remove(at);
        Some(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a new connection is begun.
enum Begun {
    Dialing(Dialing),
    /// For one call alone.
    Own(Life),
    /// There are as many connections as there may be.
    Nothing,
}

/// A connection from its beginning to its end, for those who count.
pub(super) struct Life {
    pub(super) core: Arc<Core>,
    pub(super) host: Arc<Host>,
    pub(super) pool: Weak<Pool>,
    began: Instant,
    _permit: Permit,
}

impl Life {
    fn new(core: &Arc<Core>, host: &Arc<Host>, pool: &Arc<Pool>, permit: Permit) -> Self {
        core.stats.upstream_cx_total.inc();
        core.stats.upstream_cx_active.add(1);
        host.stats.cx_total.inc();
        host.stats.cx_active.add(1);
        let (pool, began) = (Arc::downgrade(pool), Instant::now());
        Self { core: Arc::clone(core), host: Arc::clone(host), pool, began, _permit: permit }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.core.stats.upstream_cx_active.add(-1);
        self.core.stats.upstream_cx_length_ms.record_since(self.began.into());
        self.host.stats.cx_active.add(-1);
        if let Some(pool) = self.pool.upgrade() {
            pool.lock().open -= 1;
            pool.freed.notify_one();
        }
    }
}

/// A number for a connection.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
