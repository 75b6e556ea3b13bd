//! The clocks of a call: its route's timeout, its longest duration, and how long nothing may move.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The route's timeout: it runs from the end of the request.
    Response,
    /// The longest that a call may take, its deadline among them.
    Duration,
    /// The longest that a cluster's hosts may take.
    Upstream,
    /// Nothing moved either way.
    Idle,
    /// One of several attempts.
    Attempt,
    /// The request did not come whole.
    Request,
}

/// What has been read of a request's body.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    received: AtomicU64,
    /// Milliseconds after the beginning.
    moved: AtomicU64,
    ended: OnceLock<Instant>,
}

impl Meter {
    pub(crate) fn new(complete: bool) -> Self {
        let began = Instant::now();
        let ended = if complete { OnceLock::from(began) } else { OnceLock::new() };
        Self { began, received: AtomicU64::new(0), moved: AtomicU64::new(0), ended }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: usize, now: Instant) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch(now);
    }

    /// Something moved.
    pub(crate) fn touch(&self, now: Instant) {
        let after = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        self.moved.store(after, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, now: Instant) {
        // The first end is the end.
        let _ = self.ended.set(now);
    }

    /// When the request was whole, if it is.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.ended.get().copied()
    }

    fn moved(&self) -> Instant {
        self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }
}

/// Rings when the first of a call's clocks runs out.
#[derive(Debug)]
pub(crate) struct Alarm {
    pub(crate) meter: Arc<Meter>,
    pub(crate) response: Option<Duration>,
    pub(crate) duration: Option<Instant>,
    pub(crate) upstream: Option<Instant>,
    pub(crate) request: Option<Instant>,
    pub(crate) idle: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// An alarm without clocks.
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Self {
            meter: Arc::clone(meter),
            response: None,
            duration: None,
            upstream: None,
            request: None,
            idle: None,
            sleep: None,
        }
    }

    fn next(&self) -> Option<(Instant, Expired)> {
        let ended = self.meter.ended();
        let response = self.response.zip(ended).map(|(timeout, ended)| (ended + timeout, Expired::Response));
        let duration = self.duration.map(|at| (at, Expired::Duration));
        let upstream = self.upstream.map(|at| (at, Expired::Upstream));
        let request = self.request.filter(|_| ended.is_none()).map(|at| (at, Expired::Request));
        let idle = self.idle.map(|idle| (self.meter.moved() + idle, Expired::Idle));
        [response, duration, upstream, request, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ready once a clock has run out.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let Some((at, _)) = self.next() else { return Poll::Pending };
            let at = tokio::time::Instant::from_std(at);
            let mut sleep = self.sleep.take().unwrap_or_else(|| Box::pin(tokio::time::sleep_until(at)));
            // A clock that was put off rings early and is looked at again, which is cheaper than to reset it each time.
            if sleep.deadline() > at {
                sleep.as_mut().reset(at);
            }
            let rung = sleep.as_mut().poll(cx).is_ready();
            self.sleep = Some(sleep);
            if !rung {
                return Poll::Pending;
            }
            match self.next() {
                Some((at, expired)) if at <= Instant::now() => return Poll::Ready(expired),
                _ => self.sleep = None,
            }
        }
    }

    /// Waits for `work` as long as no clock runs out.
    pub(crate) async fn over<F: Future>(&mut self, mut work: Pin<&mut F>) -> Result<F::Output, Expired> {
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}
