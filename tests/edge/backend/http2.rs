//! A backend's side of HTTP/2.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};

use super::plan::Plan;
use super::{Kind, State, services};
use crate::body::{show, show_frames};
use crate::case::{Answer, Hold};
use crate::http1::Reader;
use crate::observation::Observation;
use crate::replay::Replay;

pub(super) async fn serve<S>(reader: Reader<S>, peer: Observation, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, begin) = reader.into_parts();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .max_header_list_size(1 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(Replay::new(begin.freeze(), stream)).await else {
        return;
    };
    let close = Arc::new(Notify::new());
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let call = Call { state: Arc::clone(&state), peer: peer.clone(), close: Arc::clone(&close) };
                tokio::spawn(call.handle(request, respond));
            }
            () = close.notified() => return,
        }
    }
}

struct Call {
    state: Arc<State>,
    peer: Observation,
    close: Arc<Notify>,
}

impl Call {
    async fn handle(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, mut body) = request.into_parts();
        let mut observed = self.peer.clone();
        observed.put("protocol", "HTTP/2");
        observed.put(":method", parts.method.as_str());
        observed.put(":path", parts.uri.path_and_query().map_or("", |path| path.as_str()));
        observed.put(":scheme", parts.uri.scheme_str().unwrap_or_default());
        observed.put(":authority", parts.uri.authority().map_or("", |authority| authority.as_str()));
        observed.put_headers("headers", &pairs(&parts.headers));
        let path = parts.uri.path().to_owned();
        let kind = kind(&parts);
        let is_grpc = kind != Kind::Other;
        let (number, answer, gate) = self.state.begin(&path, kind, observed);
        let mut plan = Plan::new(&answer);

        if answer.echo && answer.early {
            let rest = echo(&plan, &mut body, &mut respond, is_grpc).await;
            self.state.complete(number, rest);
            return;
        }
        if answer.early {
            let state = Arc::clone(&self.state);
            tokio::spawn(async move {
                let (rest, _) = read(&mut body, &path, is_grpc).await;
                state.complete(number, rest);
            });
            self.answer(&answer, plan, &gate, respond).await.ok();
            return;
        }
        let (mut rest, all) = read(&mut body, &path, is_grpc).await;
        if answer.echo {
            plan.pieces.push(all);
        }
        if rest.get("end").is_none() {
            if let Err(reset) = self.answer(&answer, plan, &gate, respond).await {
                rest.put("end", reset);
            }
        }
        self.state.complete(number, rest);
    }

    /// The error is the client's reset.
    async fn answer(
        &self,
        answer: &Answer,
        plan: Plan,
        gate: &Semaphore,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), String> {
        if answer.hold == Some(Hold::Start) {
            tokio::select! {
                _ = gate.acquire() => {}
                reason = poll_fn(|context| respond.poll_reset(context)) => return Err(reset(reason)),
            }
        }
        if answer.close && answer.is_bare() {
            self.close.notify_one();
            // A stream that is dropped before its connection would be reset.
            poll_fn(|context| respond.poll_reset(context)).await.ok();
            return Ok(());
        }
        let reason = answer.reset.as_deref().map(code);
        let is_bare = plan.pieces.is_empty() && plan.trailers.is_empty() && answer.hold != Some(Hold::End);
        if let Some(reason) = reason.filter(|_| answer.is_bare()) {
            respond.send_reset(reason);
            return Ok(());
        }
        let ends = plan.headers_only || (is_bare && reason.is_none() && !answer.close);
        let Ok(mut stream) = respond.send_response(head(&plan), ends) else { return Ok(()) };
        hold(answer, Hold::Body, gate, &mut stream).await?;
        let last = plan.pieces.len().wrapping_sub(1);
        let is_open_after =
            !plan.trailers.is_empty() || reason.is_some() || answer.close || answer.hold == Some(Hold::End);
        for (at, piece) in plan.pieces.into_iter().enumerate() {
            stream.send_data(piece, at == last && !is_open_after).ok();
        }
        hold(answer, Hold::End, gate, &mut stream).await?;
        if answer.close {
            drain(&mut stream).await;
            self.close.notify_one();
            poll_fn(|context| stream.poll_reset(context)).await.ok();
        } else if let Some(reason) = reason {
            drain(&mut stream).await;
            stream.send_reset(reason);
        } else if !plan.trailers.is_empty() {
            stream.send_trailers(headers(&plan.trailers)).ok();
        } else if is_open_after {
            stream.send_data(Bytes::new(), true).ok();
        }
        Ok(())
    }
}

async fn hold(
    answer: &Answer,
    at: Hold,
    gate: &Semaphore,
    stream: &mut SendStream<Bytes>,
) -> Result<(), String> {
    if answer.hold != Some(at) {
        return Ok(());
    }
    tokio::select! {
        _ = gate.acquire() => Ok(()),
        reason = poll_fn(|context| stream.poll_reset(context)) => Err(reset(reason)),
    }
}

/// Lets the connection write what was given to it: a reset would throw it away.
async fn drain(stream: &mut SendStream<Bytes>) {
    stream.reserve_capacity(1);
    poll_fn(|context| stream.poll_capacity(context)).await;
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn echo(
    plan: &Plan,
    body: &mut RecvStream,
    respond: &mut SendResponse<Bytes>,
    is_grpc: bool,
) -> Observation {
    let mut all = BytesMut::new();
    let mut rest = Observation::default();
    let Ok(mut stream) = respond.send_response(head(plan), false) else { return rest };
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece.inspect_err(|error| rest.put("end", reset(error.reason().ok_or(error)))) else {
            put_body(&mut rest, &all, is_grpc);
            return rest;
        };
        body.flow_control().release_capacity(piece.len()).ok();
        all.extend_from_slice(&piece);
        stream.send_data(piece, false).ok();
    }
    put_body(&mut rest, &all, is_grpc);
    if let Ok(Some(trailers)) = body.trailers().await {
        rest.put_headers("trailers", &pairs(&trailers));
    }
    if plan.trailers.is_empty() {
        stream.send_data(Bytes::new(), true).ok();
    } else {
        stream.send_trailers(headers(&plan.trailers)).ok();
    }
    rest
}

async fn read(body: &mut RecvStream, path: &str, is_grpc: bool) -> (Observation, Bytes) {
    let mut all = BytesMut::new();
    let mut rest = Observation::default();
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => {
                body.flow_control().release_capacity(piece.len()).ok();
                all.extend_from_slice(&piece);
            }
            Err(error) => {
                rest.put("end", reset(error.reason().ok_or(&error)));
                break;
            }
        }
    }
    if let Ok(Some(trailers)) = body.trailers().await {
        rest.put_headers("trailers", &pairs(&trailers));
    }
    match services::request(path, &all) {
        Some(request) => rest.merge("", request),
        None => put_body(&mut rest, &all, is_grpc),
    }
    (rest, all.freeze())
}

fn put_body(observed: &mut Observation, body: &[u8], is_grpc: bool) {
    if is_grpc {
        observed.put("frames", show_frames(body).join(" | "));
    } else if !body.is_empty() {
        observed.put("body", show(body));
    }
}

fn kind(head: &http::request::Parts) -> Kind {
    let kind = head.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    match kind.strip_prefix("application/grpc") {
        Some(rest) if head.method == "POST" && (rest.is_empty() || rest.starts_with(['+', ';'])) => {
            Kind::Grpc
        }
        Some(_) => Kind::Malformed,
        None => Kind::Other,
    }
}

fn reset<E: std::fmt::Display>(reason: Result<Reason, E>) -> String {
    match reason {
        Ok(reason) => format!("reset {}", crate::client::name(reason)),
        Err(_) => "connection closed".to_owned(),
    }
}

pub(crate) fn code(name: &str) -> Reason {
    (0..14).map(Reason::from).find(|reason| crate::client::name(*reason) == name).expect("a code of HTTP/2")
}

fn head(plan: &Plan) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = plan.status.try_into().expect("a status");
    *response.headers_mut() = headers(&plan.headers);
    response
}

pub(crate) fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).expect("a name");
    let value = |value: &str| HeaderValue::from_bytes(value.as_bytes()).expect("a value");
    pairs.iter().map(|(key, text)| (name(key), value(text))).collect()
}

pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
