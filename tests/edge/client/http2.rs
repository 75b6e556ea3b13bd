//! A client's side of HTTP/2.

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Uri, Version};
use tokio::sync::watch;
use tokio::time::timeout;

use super::message::{Message, response};
use super::{Stream, name};
use crate::backend::Backends;
use crate::backend::http2::{code, headers, pairs};
use crate::case::{Request, ResetAfter};
use crate::observation::Observation;
use crate::{DEADLINE, eventually};

#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    /// How it ended.
    ended: watch::Receiver<Option<String>>,
}

impl Connection {
    pub(crate) async fn open(stream: Box<dyn Stream>) -> Result<Self, h2::Error> {
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(1 << 20);
        let (send, connection) = builder.handshake(stream).await?;
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let how = match connection.await {
                Ok(()) => "closed".to_owned(),
                Err(error) => describe(&error),
            };
            end.send_replace(Some(how));
        });
        Ok(Self { send, ended })
    }

    pub(crate) async fn exchange(
        mut self,
        request: &Request,
        message: Message,
        backends: &Backends,
    ) -> Observation {
        let before = backends.seen_by_all();
        let sent = async {
            std::future::poll_fn(|context| self.send.poll_ready(context)).await?;
            send(&mut self.send, request, message)
        };
        let (response, stream) = match sent.await {
            Ok(sent) => sent,
            Err(error) => {
                let mut reply = Observation::default();
                reply.put("end", describe(&error));
                return reply;
            }
        };
        let reply = Exchange { request, backends, before, stream }.receive(response);
        let mut reply = timeout(DEADLINE, reply).await.unwrap_or_else(|_| {
            let mut reply = Observation::default();
            reply.put("end", "no response in time");
            reply
        });
        if request.closes {
            let ended = timeout(DEADLINE, self.ended.wait_for(Option::is_some)).await;
            let how = ended.ok().and_then(|ended| ended.ok().and_then(|ended| ended.clone()));
            reply.put("connection", how.unwrap_or("stays open".to_owned()));
        }
        reply
    }
}

fn send(
    send: &mut SendRequest<Bytes>,
    request: &Request,
    message: Message,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let uri = Uri::builder().scheme(if request.tls.is_some() { "https" } else { "http" });
    let uri = uri.authority(message.authority).path_and_query(message.path).build().expect("a URI");
    let mut head = http::Request::new(());
    *head.method_mut() = Method::from_bytes(message.method.as_bytes()).expect("a method");
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = headers(&message.headers);
    let stays_open = request.half_open || !message.trailers.is_empty();
    let (response, mut stream) = send.send_request(head, message.pieces.is_empty() && !stays_open)?;
    let last = message.pieces.len().wrapping_sub(1);
    for (at, piece) in message.pieces.into_iter().enumerate() {
        // A server that answers early may have reset the stream; its response tells.
        stream.send_data(piece, at == last && !stays_open).ok();
    }
    if !message.trailers.is_empty() {
        stream.send_trailers(headers(&message.trailers)).ok();
    }
    Ok((response, stream))
}

/// A request that was sent.
struct Exchange<'a> {
    request: &'a Request,
    backends: &'a Backends,
    before: usize,
    stream: SendStream<Bytes>,
}

impl Exchange<'_> {
    fn resets(&mut self, after: ResetAfter) -> bool {
        let Some(reset) = self.request.reset.as_ref().filter(|reset| reset.after == after) else {
            return false;
        };
        self.stream.send_reset(code(&reset.code));
        true
    }

    async fn receive(mut self, reply: ResponseFuture) -> Observation {
        let mut observed = Observation::default();
        if self.request.reset.as_ref().is_some_and(|reset| reset.after == ResetAfter::Seen) {
            eventually(|| (self.backends.seen_by_all() > self.before).then_some(())).await;
            self.resets(ResetAfter::Seen);
            observed.put("end", "reset by the client");
            return observed;
        }
        let (parts, mut body) = match reply.await {
            Ok(reply) => reply.into_parts(),
            Err(error) => {
                observed.put("end", describe(&error));
                return observed;
            }
        };
        let mut all = BytesMut::new();
        let mut trailers = Vec::new();
        let end = self.content(&mut body, &mut all, &mut trailers).await;
        let status = parts.status.as_str();
        let mut observed = response("HTTP/2", status, &pairs(&parts.headers), &all, &trailers);
        if let Err(end) = end {
            observed.put("end", end);
        }
        observed
    }

    /// The error is how the response ended when not as it should.
    async fn content(
        &mut self,
        body: &mut RecvStream,
        all: &mut BytesMut,
        trailers: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        const RESET: &str = "reset by the client";
        if self.resets(ResetAfter::Headers) {
            return Err(RESET.to_owned());
        }
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| describe(&error))?;
            body.flow_control().release_capacity(piece.len()).ok();
            all.extend_from_slice(&piece);
            if self.resets(ResetAfter::Data) {
                return Err(RESET.to_owned());
            }
        }
        if let Some(received) = body.trailers().await.map_err(|error| describe(&error))? {
            *trailers = pairs(&received);
        }
        Ok(())
    }
}

fn describe(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_go_away() => format!("goaway {}", name(reason)),
        Some(reason) => format!("reset {}", name(reason)),
        None => "connection closed".to_owned(),
    }
}
