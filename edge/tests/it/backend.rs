//! A gRPC server to put behind the edge: tonic's health service, and one whose methods misbehave on demand.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, health_reporter};

pub(crate) const PROBE: &str = "test.v1.Probe";
pub(crate) const HEALTH: &str = "grpc.health.v1.Health";

/// How many `Stall` calls are under way, and what a test does about them.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    pub(crate) stalled: watch::Sender<usize>,
    pub(crate) release: Arc<Notify>,
}

impl NamedService for Probe {
    const NAME: &'static str = PROBE;
}

impl tower::Service<Request<Body>> for Probe {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let probe = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let method = head.uri.path().rsplit('/').next().expect("method").to_owned();
            Ok(match method.as_str() {
                "Echo" => match body.collect().await {
                    Ok(body) => message_reply(body.to_bytes()),
                    // The edge gave the call up: nobody reads this.
                    Err(status) => status.into_http(),
                },
                "Duplex" => Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(body.with_trailers(async { Some(Ok(ok_trailers())) })))
                    .expect("reply"),
                "Headers" => message_reply(frame(format!("{:?}", head.headers).as_bytes())),
                "Stall" => probe.stall().await,
                "Truncate" => Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(Full::new(frame(b"half"))))
                    .expect("reply"),
                "Fail" => Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "5")
                    .header("grpc-message", "no such thing")
                    .body(Body::new(Empty::<Bytes>::new()))
                    .expect("reply"),
                _ => Response::builder()
                    .status(502)
                    .header("content-type", "text/html")
                    .body(Body::new(Full::new(Bytes::from_static(b"<html>"))))
                    .expect("reply"),
            })
        })
    }
}

impl Probe {
    async fn stall(self) -> Response<Body> {
        struct Under(watch::Sender<usize>);
        impl Drop for Under {
            fn drop(&mut self) {
                self.0.send_modify(|calls| *calls -= 1);
            }
        }
        self.stalled.send_modify(|calls| *calls += 1);
        let _under = Under(self.stalled.clone());
        self.release.notified().await;
        message_reply(frame(b"released"))
    }

    /// Waits until so many calls are stalled.
    pub(crate) async fn until_stalled(&self, calls: usize) {
        self.stalled.subscribe().wait_for(|now| *now == calls).await.expect("probe");
    }
}

/// One message as gRPC frames it.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("length").to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().expect("name"), HeaderValue::from_static("0"))])
}

fn message_reply(frames: Bytes) -> Response<Body> {
    let body = Full::new(frames).with_trailers(async { Some(Ok::<_, Infallible>(ok_trailers())) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).expect("reply")
}

pub(crate) struct Backend {
    pub(crate) probe: Probe,
    pub(crate) health: HealthReporter,
    routes: Routes,
    accepting: Vec<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn new() -> Self {
        let (health, health_service) = health_reporter();
        let probe = Probe::default();
        let routes = Routes::new(health_service).add_service(probe.clone());
        Self { probe, health, routes, accepting: Vec::new() }
    }

    pub(crate) fn serve_unix(&mut self, path: &Path) {
        let listener = UnixListener::bind(path).expect("bind");
        let routes = self.routes.clone();
        self.accepting.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, routes.clone()));
            }
        }));
    }

    /// Serves in plaintext, or with TLS.
    pub(crate) async fn serve_tcp(&mut self, tls: Option<tokio_rustls::TlsAcceptor>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let routes = self.routes.clone();
        self.accepting.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, routes) = (tls.clone(), routes.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, routes).await;
                            }
                        }
                        None => serve(stream, routes).await,
                    }
                });
            }
        }));
        address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, routes: Routes) {
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.prepare()))
        .await;
    // Clients come and go as the test wants.
    drop(served);
}

/// A server that begins a reply and then goes away cleanly, without trailers.
pub(crate) async fn serve_one_goaway() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accept");
        let mut connection = h2::server::handshake(stream).await.expect("handshake");
        let (_request, mut respond) = connection.accept().await.expect("a request").expect("request");
        let reply = Response::builder().header("content-type", "application/grpc").body(()).expect("reply");
        let mut stream = respond.send_response(reply, false).expect("header");
        stream.send_data(frame(b"half"), false).expect("data");
        stream.send_reset(h2::Reason::NO_ERROR);
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
        pending::<()>().await;
    });
    address
}
