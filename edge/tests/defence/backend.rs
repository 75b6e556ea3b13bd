//! A gRPC server over h2c whose answers the tests can hold back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::honest::message;

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    calls: AtomicUsize,
    released: watch::Sender<bool>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = socket.local_addr().expect("address");
        let state = Arc::new(State { calls: AtomicUsize::new(0), released: watch::Sender::new(false) });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(10_000);
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(Ordering::Relaxed)
    }

    /// Lets everything end that is held.
    pub(crate) fn release(&self) {
        self.state.released.send_replace(true);
    }
}

/// `/Echo` answers at once, `/Hold` once it is released, `/Stream` sends a message before that and one after, `/Big`
/// sends 32 MiB.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    state.calls.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let received = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let mut released = state.released.subscribe();
    let (frames, body) = mpsc::channel(1);
    if path.ends_with("/Hold") {
        let _ = released.wait_for(|released| *released).await;
    }
    tokio::spawn(async move {
        let data = |bytes| frames.send(Ok(Frame::data(bytes)));
        match path.rsplit('/').next() {
            Some("Stream") => {
                let _ = data(message(b"first")).await;
                let _ = released.wait_for(|released| *released).await;
                let _ = data(message(b"last")).await;
            }
            Some("Big") => {
                for _ in 0..32 {
                    if data(message(&[0; 1 << 20])).await.is_err() {
                        return;
                    }
                }
            }
            _ => drop(data(received).await),
        }
        let status = HeaderMap::from_iter([("grpc-status".parse().expect("name"), HeaderValue::from(0))]);
        let _ = frames.send(Ok(Frame::trailers(status))).await;
    });
    let body = StreamBody::new(ReceiverStream::new(body)).boxed_unsync();
    let reply = Response::builder().header("content-type", "application/grpc").body(body);
    Ok(reply.expect("response"))
}
