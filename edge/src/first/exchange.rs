//! Moves one call's bytes between client and backend, both ways at once, until its status is known.
//!
//! This is not `pingora_proxy`: its phases have no place for a deadline over a stream (its read timeout counts from
//! the last byte and gives up the shared connection), and a backend that closes without trailers ends as success.

use std::future::{pending, poll_fn};
use std::time::Instant;

use bytes::Bytes;
use h2::SendStream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::{Error, Result};
use tokio::time::sleep_until;

use crate::first::call::{Call, Outcome, Protocol};
use crate::first::filter::grpc_web::{self, TextDecoder};
use crate::first::message::{MessageMeter, TooLarge};
use crate::first::reply::{self, GRPC_STATUS};
use crate::first::status::{Code, Failure, Rejection};

/// What the backend sent next.
enum Event {
    Header {
        header: Box<ResponseHeader>,
        end: bool,
    },
    Data(Bytes),
    Trailers(HeaderMap),
    /// The end, without a status.
    End,
}

pub(crate) struct Exchange<'a> {
    session: &'a mut ServerSession,
    call: &'a Call,
    protocol: Protocol,
    backend: &'a mut Http2Session,
    upload: Upload,
    decoder: Option<TextDecoder>,
    meter: MessageMeter,
    /// The status of the reply that was begun.
    http_status: Option<u16>,
}

impl<'a> Exchange<'a> {
    /// Takes over once the request header is sent to the backend; `upload` is the stream of its body.
    pub(crate) fn new(
        session: &'a mut ServerSession,
        call: &'a Call,
        protocol: Protocol,
        backend: &'a mut Http2Session,
        max_message_bytes: u32,
    ) -> Self {
        let done = session.is_body_empty();
        let text = matches!(protocol, Protocol::GrpcWeb { text_request: true, .. });
        Self {
            upload: Upload { writer: backend.take_request_body_writer(), pending: Bytes::new(), done },
            session,
            call,
            protocol,
            backend,
            decoder: text.then(TextDecoder::default),
            meter: MessageMeter::new(max_message_bytes),
            http_status: None,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Outcome, Failure> {
        let deadline = self.call.deadline;
        let expiry = async move {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        tokio::pin!(expiry);
        loop {
            let (blocked, done) = (self.upload.is_blocked(), self.upload.done);
            tokio::select! {
                () = &mut expiry => return Err(Rejection::deadline_exceeded().into()),
                event = next_from_backend(self.backend) => {
                    if let Some(outcome) = self.deliver(event).await? {
                        return Ok(outcome);
                    }
                }
                chunk = next_from_client(self.session, blocked, done) => {
                    self.accept(chunk.map_err(|_| Failure::ClientGone)?)?;
                }
                sent = self.upload.advance(), if blocked => {
                    // The backend wants no more of the request; its reply may still come.
                    if sent.is_err() {
                        self.upload.abandon();
                    }
                }
            }
        }
    }

    /// Takes a piece of the request.
    fn accept(&mut self, chunk: Option<Bytes>) -> Result<(), Rejection> {
        let last = chunk.is_none() || self.session.is_body_done();
        let mut chunk = chunk.unwrap_or_default();
        if let Some(decoder) = &mut self.decoder {
            chunk = decoder.decode(&chunk).ok_or_else(invalid_base64)?;
            if last && !decoder.is_complete() {
                return Err(invalid_base64());
            }
        }
        self.meter.feed(&chunk).map_err(|TooLarge(length)| {
            Rejection::new(
                Code::ResourceExhausted,
                format!("a message of {length} bytes is larger than the edge allows"),
            )
        })?;
        self.upload.push(chunk, last);
        Ok(())
    }

    /// Hands a piece of the reply to the client; the outcome, if it was the last.
    async fn deliver(&mut self, event: Result<Event>) -> Result<Option<Outcome>, Failure> {
        let delivered = match event.map_err(|error| self.broken_off(&error))? {
            Event::Header { header, end } => return self.deliver_header(*header, end).await,
            Event::Data(bytes) => reply::data(self.session, self.protocol, bytes).await.map(|()| None),
            Event::Trailers(trailers) => {
                let outcome = self.outcome(&trailers)?;
                reply::end(self.session, Some(self.protocol), trailers).await.map(|()| Some(outcome))
            }
            Event::End => return Err(self.statusless_end().into()),
        };
        delivered.map_err(|_| Failure::ClientGone)
    }

    async fn deliver_header(
        &mut self,
        backend: ResponseHeader,
        end: bool,
    ) -> Result<Option<Outcome>, Failure> {
        if backend.status != StatusCode::OK || !grpc_web::is_grpc(&backend.headers) {
            return Err(Rejection::from_http(backend.status).into());
        }
        let content_type = grpc_web::reply_type(self.protocol, backend.headers.get(CONTENT_TYPE));
        let header = client_header(&backend, content_type).map_err(|_| Failure::ClientGone)?;
        self.http_status = Some(header.status.as_u16());
        let delivered = if end {
            let outcome = self.outcome(&backend.headers)?;
            reply::trailers_only(self.session, self.call, header).await.map(|()| Some(outcome))
        } else {
            reply::begin(self.session, self.call, header).await.map(|()| None)
        };
        delivered.map_err(|_| Failure::ClientGone)
    }

    /// The backend's own word on how the call ended.
    fn outcome(&mut self, trailers: &HeaderMap) -> Result<Outcome, Rejection> {
        let status = trailers.get(GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
        let status: i32 = status.ok_or_else(|| self.statusless_end())?;
        Ok(Outcome { http_status: self.http_status.unwrap_or_default(), grpc_status: Some(status) })
    }

    /// The backend ended its stream as if all were well, but said no status: the client must not take that for OK.
    fn statusless_end(&mut self) -> Rejection {
        match self.backend.check_response_end_or_error() {
            Ok(true) => Rejection::new(Code::Unknown, "the service sent no gRPC status"),
            // It is shutting down: Pingora takes a GOAWAY, or a reset without error, for the end of the stream.
            _ => Rejection::new(Code::Unavailable, "the service went away before the call's status"),
        }
    }

    fn broken_off(&self, error: &Error) -> Rejection {
        tracing::debug!(path = &*self.call.path, %error, "a backend broke off a call");
        if self.call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Rejection::deadline_exceeded();
        }
        Rejection::from_reset(error)
    }
}

fn invalid_base64() -> Rejection {
    Rejection::malformed("the body is not base64")
}

/// The backend's header as the client gets it.
fn client_header(backend: &ResponseHeader, content_type: String) -> Result<Box<ResponseHeader>> {
    let mut header = Box::new(ResponseHeader::build(StatusCode::OK, Some(backend.headers.len() + 8))?);
    for (name, value) in &backend.headers {
        // The length is another one after the bridge, and trailers are not announced in a body.
        if *name != CONTENT_LENGTH && *name != TRAILER {
            header.append_header(name, value)?;
        }
    }
    header.insert_header(CONTENT_TYPE, content_type)?;
    Ok(header)
}

/// What the client sends next; `Err` once it is gone. Reads nothing while the backend has no room for more.
async fn next_from_client(session: &mut ServerSession, blocked: bool, done: bool) -> Result<Option<Bytes>> {
    if !blocked {
        return session.read_body_or_idle(done).await;
    }
    match session.watch_h2_stream_close() {
        Some(closed) => {
            let reason = closed.await?;
            Error::e_explain(pingora::ConnectionClosed, format!("the client reset its stream: {reason}"))
        }
        None => pending().await,
    }
}

/// Can be dropped and called again.
async fn next_from_backend(backend: &mut Http2Session) -> Result<Event> {
    if backend.response_header().is_none() {
        backend.read_response_header().await?;
        let end = backend.check_response_end_or_error()?;
        let header = backend.response_header().cloned();
        let header = header.ok_or_else(|| Error::explain(pingora::InternalError, "no header was read"))?;
        return Ok(Event::Header { header: Box::new(header), end });
    }
    if let Some(data) = backend.read_response_body().await? {
        return Ok(Event::Data(data));
    }
    Ok(backend.read_trailers().await?.map_or(Event::End, Event::Trailers))
}

/// The request's way to the backend, which may have no room for a while.
struct Upload {
    /// None once the request is complete, or the backend wants no more of it.
    writer: Option<SendStream<Bytes>>,
    /// What the backend had no room for yet.
    pending: Bytes,
    /// Whether the client has sent everything.
    done: bool,
}

impl Upload {
    fn push(&mut self, chunk: Bytes, last: bool) {
        self.done = last;
        self.pending = chunk;
        if let Some(writer) = &mut self.writer
            && last
            && self.pending.is_empty()
        {
            // Nothing waits for room; if the stream is closed, its reply says why.
            if writer.send_data(Bytes::new(), true).is_ok() {
                self.writer = None;
            }
        }
    }

    fn is_blocked(&self) -> bool {
        self.writer.is_some() && !self.pending.is_empty()
    }

    /// Sends as much as the backend has room for. Can be dropped and called again.
    async fn advance(&mut self) -> Result<(), h2::Error> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.reserve_capacity(self.pending.len());
        let Some(room) = poll_fn(|cx| writer.poll_capacity(cx)).await.transpose()? else {
            return Err(h2::Reason::STREAM_CLOSED.into());
        };
        let part = self.pending.split_to(room.min(self.pending.len()));
        let end = self.done && self.pending.is_empty();
        writer.send_data(part, end)?;
        if end {
            self.writer = None;
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.writer = None;
        self.pending.clear();
    }
}
