//! Makes connections to hosts: TCP or a Unix socket, with TLS where the cluster asks for it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::host::{Host, Target};
use super::settings::Settings;
use super::stats::ClusterStats;
use super::tls::Tls;
use super::{Failure, FailureKind};

type Plain = Either<TcpStream, UnixStream>;
type Stream = Either<Plain, Box<TlsStream<Plain>>>;

/// A connection whose bytes are counted as they go over it.
pub(super) struct Io {
    stream: Stream,
    stats: Arc<ClusterStats>,
}

/// Connects to a host within the time that the cluster allows; whether the handshake settled on HTTP/2.
pub(super) async fn connect(
    target: &Target,
    host: &Host,
    settings: &Settings,
    tls: Option<&Tls>,
    stats: &Arc<ClusterStats>,
) -> Result<(Io, bool), Failure> {
    let began = Instant::now();
    let attempt = tokio::time::timeout(settings.connect_timeout, reach(target, host, settings, tls));
    match attempt.await {
        Ok(Ok((stream, http2))) => {
            stats.upstream_cx_connect_ms.record_since(began);
            Ok((Io { stream, stats: Arc::clone(stats) }, http2))
        }
        Ok(Err(reason)) => Err(Failure::new(FailureKind::ConnectFailure, reason)),
        Err(_) => Err(Failure::new(FailureKind::ConnectTimeout, "")),
    }
}

/// An error says in Envoy's words what went wrong.
async fn reach(
    target: &Target,
    host: &Host,
    settings: &Settings,
    tls: Option<&Tls>,
) -> Result<(Stream, bool), String> {
    let plain = match target {
        Target::Tcp(address) => tcp(*address, settings).await.map(Either::Left),
        Target::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
    };
    let plain = plain.map_err(|error| format!("delayed connect error: {}", words(&error)))?;
    let Some(tls) = tls else { return Ok((Either::Left(plain), false)) };
    let name: ServerName<'static> = tls.name(host);
    let stream = TlsConnector::from(tls.config()).connect(name, plain).await;
    tls.handshakes.count(&stream);
    let stream = stream.map_err(|error| format!("TLS_error:|{error}:TLS_error_end"))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Either::Right(Box::new(stream)), http2))
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.stats.upstream_cx_rx_bytes_total.add((buf.filled().len() - before) as u64);
        polled
    }
}

impl Io {
    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.stats.upstream_cx_tx_bytes_total.add(bytes as u64);
        }
        written
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Our end of a connection.
pub(super) fn local(io: &Io) -> Option<SocketAddr> {
    let plain = match &io.stream {
        Either::Left(plain) => plain,
        Either::Right(tls) => tls.get_ref().0,
    };
    match plain {
        Either::Left(tcp) => tcp.local_addr().ok(),
        Either::Right(_) => None,
    }
}

async fn tcp(address: SocketAddr, settings: &Settings) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if let Some(keepalive) = &settings.tcp_keepalive {
        SockRef::from(&stream).set_tcp_keepalive(keepalive)?;
    }
    Ok(stream)
}

/// What the system says, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
