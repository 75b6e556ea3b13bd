//! A connection's bytes on their way: counted, and checked before the parsers see them.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::downstream::frames::Frames;
use crate::downstream::gate::Gate;
use crate::downstream::hcm::Hcm;
use crate::downstream::pulse::{GOODBYE, Pulse};

/// Bytes that are read at once.
const READ: usize = 16 << 10;

/// A stream whose traffic the pulse notices, and whose heads the gate checks.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
    hcm: Arc<Hcm>,
    gate: Gate,
    frames: Frames,
    /// How long a client may go on sending after the goodbye.
    linger: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: &Arc<Pulse>, hcm: &Arc<Hcm>) -> Self {
        Self {
            stream,
            pulse: Arc::clone(pulse),
            hcm: Arc::clone(hcm),
            gate: Gate::new(hcm),
            frames: Frames::new(),
            linger: None,
            ended: false,
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    fn poll_hear(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let heard = buf.filled().len() - before;
        if heard > 0 {
            self.pulse.heard(heard);
        } else if polled.is_ready() && room > 0 {
            if !self.ended {
                // A turn later: what the client has reset before it left ends as reset, not as left.
                self.ended = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.pulse.close();
        }
        polled
    }

    /// Reads what the gate lets pass.
    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gate.is_open() {
            return self.poll_hear(cx, buf);
        }
        if self.pulse.is_late()
            && let Some(refusal) = self.gate.time_out()
        {
            self.pulse.refuse(refusal);
        }
        if self.pulse.is_upgraded() {
            self.gate.open();
        }
        let mut space = [MaybeUninit::uninit(); READ];
        loop {
            if self.gate.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            if self.gate.is_broken() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if self.gate.is_full() {
                // Whoever is granted the other protocol asks again.
                return Poll::Pending;
            }
            let mut heard = ReadBuf::uninit(&mut space);
            ready!(self.poll_hear(cx, &mut heard))?;
            if heard.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(refusal) = self.gate.take(heard.filled()) {
                self.pulse.refuse(refusal);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = this.poll_pass(cx, buf);
        let http2 = this.gate.is_http2();
        if http2 && !this.frames.received(&buf.filled()[before..], &this.hcm.http2.frames) {
            return Poll::Ready(Err(io::Error::other("the client floods the connection")));
        }
        let in_head = if http2 { this.frames.in_head() } else { this.gate.in_head() };
        this.pulse.head(in_head, http2);
        polled
    }
}

impl<S> Watched<S> {
    fn count(&mut self, written: &Poll<io::Result<usize>>, bufs: &[io::IoSlice<'_>]) {
        match *written {
            Poll::Ready(Ok(mut left)) => {
                self.pulse.wrote(Some(left));
                for buf in bufs.iter().filter(|_| self.gate.is_http2()) {
                    let taken = left.min(buf.len());
                    self.frames.sent(&buf[..taken]);
                    left -= taken;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.wrote(None),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written, &[io::IoSlice::new(buf)]);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written, bufs);
        written
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
