//! A backend's side of HTTP/1.1.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::plan::Plan;
use super::{Kind, State};
use crate::body::show;
use crate::case::{Answer, Hold};
use crate::http1::{Content, Framing, Head, Reader, chunk};
use crate::observation::Observation;

pub(super) async fn serve<S>(reader: Reader<S>, peer: Observation, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, begin) = reader.into_parts();
    let (read, mut write) = tokio::io::split(crate::replay::Replay::new(begin.freeze(), stream));
    let mut reader = Reader::new(read);
    while let Ok(Some(head)) = reader.head().await {
        let mut words = head.line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut observed = peer.clone();
        observed.put("protocol", words.next().unwrap_or_default());
        observed.put(":method", method);
        observed.put(":path", target);
        observed.put_headers("headers", &head.headers);
        let path = target.split('?').next().unwrap_or_default();
        let (number, answer, gate) = state.begin(path, Kind::Other, observed);
        if head.get("expect").is_some() && write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let mut rest = Observation::default();
        let mut content = Content::default();
        if !answer.early {
            receive(&mut reader, &head, &mut content, &mut rest).await;
        }
        let stays = !content.cut && {
            let plan = Plan::new(&answer);
            tokio::select! {
                stays = send(&answer, plan, method, &gate, &mut write) => stays,
                true = reader.is_closed(), if answer.hold.is_some() && !answer.early => {
                    rest.put("end", "connection closed");
                    false
                }
            }
        };
        if answer.early && stays {
            receive(&mut reader, &head, &mut content, &mut rest).await;
        }
        state.complete(number, rest);
        if !stays || content.cut {
            return;
        }
    }
}

async fn receive<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    head: &Head,
    content: &mut Content,
    rest: &mut Observation,
) {
    if reader.content(head.framing(Framing::Length(0)), content).await.is_err() || content.cut {
        rest.put("end", "connection closed");
    }
    if !content.body.is_empty() {
        rest.put("body", show(&content.body));
    }
    rest.put_headers("trailers", &content.trailers);
}

/// Whether the connection stays.
async fn send<W: AsyncWrite + Unpin>(
    answer: &Answer,
    plan: Plan,
    method: &str,
    gate: &Semaphore,
    write: &mut W,
) -> bool {
    if answer.hold == Some(Hold::Start) {
        gate.acquire().await.ok();
    }
    if (answer.reset.is_some() || answer.close) && answer.is_bare() {
        return false;
    }
    let has = |name: &str| plan.headers.iter().any(|(key, _)| key == name);
    let is_chunked = !plan.trailers.is_empty() || has("transfer-encoding");
    let status = http::StatusCode::from_u16(plan.status).expect("a status");
    let mut head = format!("HTTP/1.1 {} {}\r\n", plan.status, status.canonical_reason().unwrap_or("Unknown"));
    let length: usize = plan.pieces.iter().map(bytes::Bytes::len).sum();
    for (name, value) in &plan.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if is_chunked && !has("transfer-encoding") {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !is_chunked && !has("content-length") && !matches!(plan.status, 101 | 204 | 304) {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    let mut stays = write.write_all(head.as_bytes()).await.is_ok();
    if answer.hold == Some(Hold::Body) {
        gate.acquire().await.ok();
    }
    if method != "HEAD" {
        for piece in &plan.pieces {
            let bytes = if is_chunked { chunk(piece) } else { piece.to_vec() };
            stays &= write.write_all(&bytes).await.is_ok();
        }
    }
    if answer.hold == Some(Hold::End) {
        gate.acquire().await.ok();
    }
    if answer.reset.is_some() || answer.close {
        return false;
    }
    if is_chunked && method != "HEAD" {
        let trailers = plan.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let end = format!("0\r\n{}\r\n", trailers.collect::<String>());
        stays &= write.write_all(end.as_bytes()).await.is_ok();
    }
    stays
}
