//! Makes connections to hosts: TCP or a Unix socket, with TLS where the cluster asks for it.

use std::io;
use std::net::SocketAddr;

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::host::{Host, Target};
use super::settings::Settings;
use super::tls::Tls;
use super::{Failure, FailureKind};

type Plain = Either<TcpStream, UnixStream>;
/// A connection that bytes go over.
pub(super) type Io = Either<Plain, Box<TlsStream<Plain>>>;

/// Connects to a host within the time that the cluster allows; whether the handshake settled on HTTP/2.
pub(super) async fn connect(
    target: &Target,
    host: &Host,
    settings: &Settings,
    tls: Option<&Tls>,
) -> Result<(Io, bool), Failure> {
    let attempt = tokio::time::timeout(settings.connect_timeout, reach(target, host, settings, tls));
    match attempt.await {
        Ok(Ok(reached)) => Ok(reached),
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
) -> Result<(Io, bool), String> {
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

/// Our end of a connection.
pub(super) fn local(io: &Io) -> Option<SocketAddr> {
    let plain = match io {
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
