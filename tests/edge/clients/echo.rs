//! The service that real clients call: it gives back the messages that it gets, as they are. What else it does stands
//! in the request's headers:
//!
//! | header | effect |
//! |---|---|
//! | `x-header-NAME`, `x-trailer-NAME` | NAME in the reply's headers or trailers; `grpc-status` of the trailers is 0 without it |
//! | `x-trailers-only` | no message, and the trailers in the place of headers |
//! | `x-replies` | as many messages for each that came |
//! | `x-hang` | does not end; it is noted under this name when the call begins, and when its caller gives it up |
//! | `x-await` | answers once that was noted: `NAME begun`, `NAME given up` |
//! | `x-reset` | ends with RST_STREAM of this code |
//!
//! A call of `ClientStream` gets its last message back; the trailer `x-received` counts messages and bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

type Piece = Result<Frame<Bytes>, h2::Error>;
type Reply = Either<StreamBody<BoxStream<'static, Piece>>, Empty<Bytes>>;
type Notes = Arc<watch::Sender<BTreeSet<String>>>;

/// The length of what stands before each message.
const PREFIX: usize = 5;

/// Starts the service on a port of its own.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let notes: Notes = Arc::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("option");
            let notes = Arc::clone(&notes);
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&notes)));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

async fn answer(request: Request<Incoming>, notes: Notes) -> Result<Response<Reply>, h2::Error> {
    let (head, body) = request.into_parts();
    let mut headers = named(&head.headers, "x-header-");
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let compression = head.headers.get("grpc-encoding").cloned();
    headers.extend(compression.map(|value| (HeaderName::from_static("grpc-encoding"), value)));
    let body = if head.headers.contains_key("x-trailers-only") {
        headers.extend(named(&head.headers, "x-trailer-"));
        Either::Right(Empty::new())
    } else {
        let (sender, mut pieces) = mpsc::channel(1);
        let last_only = head.uri.path().ends_with("/ClientStream");
        tokio::spawn(Call { headers: head.headers, last_only, notes }.play(body, sender));
        // As servers do: there is no head before there is something to say.
        let first = pieces.recv().await.transpose()?;
        let pieces = futures::stream::iter(first.map(Ok)).chain(ReceiverStream::new(pieces));
        Either::Left(StreamBody::new(pieces.boxed()))
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    Ok(response)
}

/// What the headers of this prefix name.
fn named(headers: &HeaderMap, prefix: &str) -> HeaderMap {
    let name = |name: &HeaderName| name.as_str().strip_prefix(prefix)?.parse::<HeaderName>().ok();
    headers.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
}

struct Call {
    headers: HeaderMap,
    last_only: bool,
    notes: Notes,
}

impl Call {
    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    fn note(&self, what: &str) {
        if let Some(name) = self.text("x-hang") {
            self.notes.send_modify(|notes| {
                notes.insert(format!("{name} {what}"));
            });
        }
    }

    async fn play(self, body: Incoming, to: mpsc::Sender<Piece>) {
        if let Some(awaited) = self.text("x-await") {
            self.notes.subscribe().wait_for(|notes| notes.contains(awaited)).await.expect("open");
        }
        self.note("begun");
        tokio::select! {
            () = to.closed() => {}
            () = self.echo(body, &to) => {}
        }
        if self.text("x-hang").is_some() {
            to.closed().await;
            self.note("given up");
        }
    }

    async fn echo(&self, mut body: Incoming, to: &mpsc::Sender<Piece>) {
        let replies = self.text("x-replies").map_or(1, |count| count.parse().expect("a number"));
        let mut came = BytesMut::new();
        let mut last = Bytes::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            came.extend_from_slice(&data);
            while let Some(message) = split(&mut came) {
                messages += 1;
                bytes += message.len() - PREFIX;
                if self.last_only {
                    last = message;
                    continue;
                }
                for _ in 0..replies {
                    to.send(Ok(Frame::data(message.clone()))).await.ok();
                }
            }
        }
        if self.text("x-hang").is_some() {
            return;
        }
        if !last.is_empty() {
            to.send(Ok(Frame::data(last))).await.ok();
        }
        let end = match self.text("x-reset") {
            Some(code) => Err(h2::Reason::from(code.parse::<u32>().expect("a code")).into()),
            None => Ok(Frame::trailers(self.trailers(messages, bytes))),
        };
        to.send(end).await.ok();
    }

    fn trailers(&self, messages: usize, bytes: usize) -> HeaderMap {
        let mut trailers = named(&self.headers, "x-trailer-");
        let received = format!("{messages}/{bytes}");
        trailers.insert("x-received", received.parse().expect("a value"));
        trailers.entry("grpc-status").or_insert(HeaderValue::from_static("0"));
        trailers
    }
}

/// The first whole message, with its prefix.
fn split(came: &mut BytesMut) -> Option<Bytes> {
    let mut length = came.get(1..PREFIX)?;
    let whole = PREFIX + length.get_u32() as usize;
    (came.len() >= whole).then(|| came.split_to(whole).freeze())
}
