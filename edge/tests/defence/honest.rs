//! Clients that mean no harm, and that must not notice those who do.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ends;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
}

/// A connection that makes one call after the other.
pub(crate) enum Client {
    Grpc(http2::SendRequest<Full<Bytes>>),
    GrpcWeb(http1::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) async fn connect(protocol: Protocol, to: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Self {
        let stream = TcpStream::connect(to).await.expect("it listens");
        match tls {
            None => Self::on(protocol, stream).await,
            Some(config) => {
                let name = ServerName::try_from("edge.example").expect("name");
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream);
                Self::on(protocol, ends(stream).await.expect("a handshake")).await
            }
        }
    }

    async fn on<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(protocol: Protocol, stream: S) -> Self {
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Grpc => {
                let (client, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.expect("handshake");
                tokio::spawn(connection);
                Self::Grpc(client)
            }
            Protocol::GrpcWeb => {
                let (client, connection) = http1::handshake(io).await.expect("handshake");
                tokio::spawn(connection);
                Self::GrpcWeb(client)
            }
        }
    }

    /// Sends a call; returns when its answer begins.
    pub(crate) async fn begin(&mut self, method: &str) -> hyper::Result<Response<Incoming>> {
        let (path, body) = (format!("/test.Probe/{method}"), Full::new(message(b"hello")));
        let post = Request::post(format!("http://edge.example{path}"));
        match self {
            Self::Grpc(client) => {
                let request = post.header("content-type", "application/grpc").header("te", "trailers");
                client.ready().await?;
                client.send_request(request.body(body).expect("request")).await
            }
            Self::GrpcWeb(client) => {
                let request = Request::post(path).header("host", "edge.example");
                let request = request.header("content-type", "application/grpc-web+proto");
                client.ready().await?;
                client.send_request(request.body(body).expect("request")).await
            }
        }
    }

    /// Makes a call that must succeed.
    pub(crate) async fn call(&mut self) {
        if let Err(error) = ends(self.echo()).await {
            panic!("a call is lost: {error}");
        }
    }

    async fn echo(&mut self) -> Result<(), String> {
        let reply = self.begin("Echo").await.map_err(|error| format!("{error:?}"))?;
        let (status, body, trailers) = whole(reply).await.map_err(|error| format!("{error:?}"))?;
        let good = match self {
            Self::Grpc(_) => {
                body == message(b"hello") && trailers.get("grpc-status").is_some_and(|s| s == "0")
            }
            Self::GrpcWeb(_) => body.starts_with(&message(b"hello")) && contains(&body, b"grpc-status:0"),
        };
        if status == StatusCode::OK && good { Ok(()) } else { Err(format!("{status} {body:?} {trailers:?}")) }
    }
}

/// An answer to its end.
pub(crate) async fn whole(reply: Response<Incoming>) -> hyper::Result<(StatusCode, Bytes, HeaderMap)> {
    let status = reply.status();
    let body = reply.into_body().collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok((status, body.to_bytes(), trailers))
}

pub(crate) fn message(payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + payload.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(payload.len()).expect("small"));
    framed.put_slice(payload);
    framed.freeze()
}

/// What a plain GET answers.
pub(crate) async fn get(from: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: edge.example\r\nconnection: close\r\n\r\n");
    String::from_utf8_lossy(&exchange(from, request.as_bytes()).await).into_owned()
}

/// Everything that comes back for some bytes until the server closes.
pub(crate) async fn exchange(with: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(with).await.expect("it listens");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    ends(stream.read_to_end(&mut answer)).await.expect("closed in order");
    answer
}

pub(crate) fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}
