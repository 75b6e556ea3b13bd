//! One client connection: its handshake, its HTTP, and the clocks that end it.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use crate::call::Connection;
use crate::downstream::gate::{Gate, Refusal};
use crate::downstream::hcm::Hcm;
use crate::drain::Drain;
use crate::proxy;
use crate::reply::LocalReply;

/// How long a connection that is closed for idleness may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const READ: usize = 16 << 10;

/// What the clocks of a connection read. All times are milliseconds since it began.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    active: AtomicU32,
    served: AtomicU32,
    /// Since when no request is in flight.
    idle_since: AtomicU64,
    /// Since when a head is on its way that is not whole yet; 0: none is.
    head_since: AtomicU64,
    http2: AtomicBool,
    enough: Notify,
    received: AtomicU64,
    sent: AtomicU64,
    /// The client is gone.
    closed: AtomicBool,
    /// A head did not come whole in time.
    late: AtomicBool,
    /// The request that must not be served.
    refused: OnceLock<Refusal>,
}

impl Pulse {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            active: AtomicU32::new(0),
            served: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            enough: Notify::new(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            late: AtomicBool::new(false),
            refused: OnceLock::new(),
        }
    }

    fn now(&self) -> u64 {
        // Never 0, which means that no head is on its way.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A request's head is whole; what its sender is told if it must not be served.
    pub(crate) fn request_begun(&self, hcm: &Hcm) -> Option<LocalReply> {
        self.head_since.store(0, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if hcm.limits.requests_per_connection.is_some_and(|most| served >= most) {
            self.leave();
        }
        self.refused.get().filter(|(number, _)| *number == served).map(|(_, reply)| reply.clone())
    }

    /// The client shall go once its requests are answered.
    pub(crate) fn leave(&self) {
        self.enough.notify_one();
    }

    /// Counts that a clock has run out; whether the connection goes on, if only to answer its client.
    fn may_answer(&self, expired: Expired, hcm: &Hcm) -> bool {
        match expired {
            Expired::Idle => hcm.stats.idle_timeouts.inc(),
            Expired::SlowHead if self.is_late() => return false,
            Expired::SlowHead => {
                hcm.stats.header_timeouts.inc();
                // What reads from the client answers it, and is asked at once.
                self.late.store(true, Ordering::Relaxed);
                return self.received.load(Ordering::Relaxed) > 0;
            }
            Expired::Lived => {}
        }
        true
    }

    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn request_ended(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a call that ends now ends with its connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn heard(&self, bytes: &[u8]) {
        if self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed) == 0 {
            self.http2.store(bytes.starts_with(b"PRI"), Ordering::Relaxed);
        }
        let waiting =
            self.active.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0;
        if waiting && !self.http2.load(Ordering::Relaxed) {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Which clock has run out, or when to look again.
    fn check(&self, hcm: &Hcm) -> Result<Duration, Expired> {
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
        if self.active.load(Ordering::Relaxed) == 0 {
            let head = self.head_since.load(Ordering::Relaxed);
            if head > 0 {
                left(hcm.limits.headers, head, Expired::SlowHead)?;
            } else if self.received.load(Ordering::Relaxed) == 0 {
                // A client that connects and says nothing holds no more than one that speaks slowly.
                left(hcm.limits.headers, 0, Expired::SlowHead)?;
            }
            left(hcm.limits.idle, self.idle_since.load(Ordering::Relaxed), Expired::Idle)?;
        }
        // A head may begin and a call may end at any time, and only this loop will notice what comes of it.
        Ok([hcm.limits.headers, hcm.limits.idle].into_iter().flatten().fold(next, Duration::min))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    Idle,
    Lived,
    SlowHead,
}

/// Serves HTTP on a stream until either side is done with it.
pub(crate) async fn serve<S>(stream: S, chain: Arc<ArcSwap<Hcm>>, connection: Arc<Connection>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hcm = chain.load_full();
    hcm.stats.connections.inc();
    hcm.stats.connections_active.add(1);
    let pulse = Arc::new(Pulse::new());
    let gate = Gate::new(&hcm);
    let io = TokioIo::new(Watched { stream, pulse: Arc::clone(&pulse), gate, linger: None, ended: false });
    let service = {
        let (pulse, drain) = (Arc::clone(&pulse), drain.clone());
        service_fn(move |request| {
            proxy::serve(
                chain.load_full(),
                Arc::clone(&connection),
                Arc::clone(&pulse),
                drain.clone(),
                request,
            )
        })
    };
    let builder = builder(&hcm);
    let serving = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(serving);
    let mut leaving = false;
    let clock = sleep(Duration::ZERO);
    tokio::pin!(clock);
    let mut cut = None;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                break;
            }
            () = drain.begun(), if !leaving => {
                leaving = true;
                serving.as_mut().graceful_shutdown();
            }
            () = pulse.enough.notified(), if !leaving => {
                leaving = true;
                serving.as_mut().graceful_shutdown();
            }
            () = clock.as_mut() => {
                if cut.is_some_and(|at| Instant::now() >= at) {
                    break;
                }
                let next = match pulse.check(&hcm) {
                    Ok(next) => next,
                    Err(expired) => {
                        if !pulse.may_answer(expired, &hcm) {
                            break;
                        }
                        if !leaving && expired != Expired::SlowHead {
                            leaving = true;
                            serving.as_mut().graceful_shutdown();
                        }
                        if expired == Expired::Idle {
                            cut.get_or_insert(Instant::now() + GOODBYE);
                        }
                        GOODBYE
                    }
                };
                clock.as_mut().reset(tokio::time::Instant::now() + next);
            }
        }
    }
    hcm.stats.connections_active.add(-1);
    hcm.stats.connection_length.record_since(pulse.began);
    hcm.stats.received.add(pulse.received.load(Ordering::Relaxed));
    hcm.stats.sent.add(pulse.sent.load(Ordering::Relaxed));
}

fn builder(hcm: &Hcm) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size((hcm.limits.headers_kb as usize * 1024).max(8192))
        .max_headers(hcm.limits.headers_count as usize);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(hcm.http2.max_concurrent_streams)
        .initial_stream_window_size(hcm.http2.stream_window)
        .initial_connection_window_size(hcm.http2.connection_window)
        .max_header_list_size(hcm.limits.headers_kb * 1024)
        .max_send_buf_size(256 << 10)
        .enable_connect_protocol();
    if let Some((interval, timeout)) = hcm.http2.keepalive {
        http2.keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    match hcm.codec {
        CodecType::Http1 => builder.http1_only(),
        CodecType::Http2 => builder.http2_only(),
        _ => builder,
    }
}

/// A stream whose traffic the pulse notices, and whose heads the gate checks.
struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
    gate: Gate,
    /// How long a client may go on sending after the goodbye.
    linger: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    fn poll_hear(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.heard(&buf.filled()[before..]);
        } else if polled.is_ready() && room > 0 {
            if !self.ended {
                // A turn later: what the client has reset before it left ends as reset, not as left.
                self.ended = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.pulse.closed.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.gate.is_open() {
            return this.poll_hear(cx, buf);
        }
        if this.pulse.is_late()
            && let Some(refusal) = this.gate.time_out()
        {
            let _ = this.pulse.refused.set(refusal);
        }
        let mut space = [MaybeUninit::uninit(); READ];
        loop {
            if this.gate.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.gate.is_broken() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let mut heard = ReadBuf::uninit(&mut space);
            ready!(this.poll_hear(cx, &mut heard))?;
            if heard.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(refusal) = this.gate.take(heard.filled()) {
                // A gate that has refused a request lets no other one pass.
                let _ = this.pulse.refused.set(refusal);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = polled {
            self.pulse.sent.fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says goodbye, and lets the client finish: closed with bytes unread, the system would reset the connection and
    /// the client could lose the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(GOODBYE)));
        let mut space = [MaybeUninit::uninit(); READ];
        loop {
            let mut heard = ReadBuf::uninit(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut heard) {
                Poll::Ready(Ok(())) if !heard.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return linger.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
