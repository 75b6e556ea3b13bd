//! A client's side of HTTP/1.1, which can also send what is none.

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Stream;
use super::message::{Message, response};
use crate::backend::Backends;
use crate::case::{Request, ResetAfter};
use crate::http1::{Content, Framing, Reader, chunk};
use crate::observation::Observation;
use crate::{DEADLINE, eventually};

pub(crate) struct Connection {
    reader: Reader<ReadHalf<Box<dyn Stream>>>,
    /// A head and what follows leave together: whether a server sees the body in time is no matter of chance.
    write: BufWriter<WriteHalf<Box<dyn Stream>>>,
}

impl Connection {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { reader: Reader::new(read), write: BufWriter::new(write) }
    }

    /// What came back, and whether the connection can be used again.
    pub(crate) async fn exchange(
        &mut self,
        request: &Request,
        message: Message,
        backends: &Backends,
    ) -> (Observation, bool) {
        let exchange = self.run(request, message, backends);
        let (mut reply, mut stays) = timeout(DEADLINE, exchange).await.unwrap_or_else(|_| {
            let mut reply = Observation::default();
            reply.put("end", "no response in time");
            (reply, false)
        });
        if request.closes {
            let is_closed = timeout(DEADLINE, self.reader.is_closed()).await.unwrap_or(false);
            reply.put("connection", if is_closed { "closed" } else { "stays open" });
            stays = false;
        }
        (reply, stays)
    }

    async fn run(&mut self, request: &Request, message: Message, backends: &Backends) -> (Observation, bool) {
        let before = backends.seen_by_all();
        let method = message.method.clone();
        if request.send == "raw" {
            // A server that refuses early closes; its response tells.
            for piece in message.pieces {
                self.write.write_all(&piece).await.ok();
                self.write.flush().await.ok();
            }
        } else if let Some(refusal) = self.send(request, message).await {
            return refusal;
        }
        let after = request.reset.as_ref().map(|reset| reset.after);
        if after == Some(ResetAfter::Seen) {
            eventually(|| (backends.seen_by_all() > before).then_some(())).await;
            self.write.shutdown().await.ok();
            let mut reply = Observation::default();
            reply.put("end", "reset by the client");
            return (reply, false);
        }
        let mut replies = Observation::default();
        for number in 0..request.responses {
            let (reply, stays) = self.receive(&method, after).await;
            let prefix = if request.responses == 1 { String::new() } else { format!("{number}.") };
            replies.merge(&prefix, reply);
            if !stays {
                return (replies, false);
            }
        }
        (replies, true)
    }

    /// Writes the request; a reply when the server gave one instead of `100 Continue`.
    async fn send(&mut self, request: &Request, message: Message) -> Option<(Observation, bool)> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n", message.method, message.path, message.authority);
        for (name, value) in &message.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has = |name: &str| message.headers.iter().any(|(key, _)| key == name);
        let is_chunked = request.chunked || request.half_open || !message.trailers.is_empty();
        let length: usize = message.pieces.iter().map(Bytes::len).sum();
        if is_chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if !has("content-length") && (length > 0 || message.method == "POST") {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        self.write.write_all(head.as_bytes()).await.ok();
        if has("expect") {
            self.write.flush().await.ok();
            let head = self.reader.head().await.ok().flatten();
            let is_continue = head.as_ref().is_some_and(|head| head.line.contains(" 100"));
            if let Some(head) = head.filter(|_| !is_continue) {
                return Some(self.rest_of(head, &message.method, None).await);
            }
        }
        for piece in &message.pieces {
            self.write.write_all(&if is_chunked { chunk(piece) } else { piece.to_vec() }).await.ok();
        }
        if is_chunked && !request.half_open {
            let trailers = message.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let end = format!("0\r\n{}\r\n", trailers.collect::<String>());
            self.write.write_all(end.as_bytes()).await.ok();
        }
        self.write.flush().await.ok();
        None
    }

    async fn receive(&mut self, method: &str, reset: Option<ResetAfter>) -> (Observation, bool) {
        let mut interim = Vec::new();
        loop {
            let Ok(Some(head)) = self.reader.head().await else {
                let mut reply = Observation::default();
                reply.put("end", "connection closed");
                return (reply, false);
            };
            let status = head.line.split(' ').nth(1).unwrap_or_default();
            if status.starts_with('1') && status != "101" {
                interim.push(status.to_owned());
                continue;
            }
            let (mut reply, stays) = self.rest_of(head, method, reset).await;
            if !interim.is_empty() {
                reply.put("interim", interim.join(", "));
            }
            return (reply, stays);
        }
    }

    async fn rest_of(
        &mut self,
        head: crate::http1::Head,
        method: &str,
        reset: Option<ResetAfter>,
    ) -> (Observation, bool) {
        let mut words = head.line.split(' ');
        let (protocol, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut content = Content::default();
        if reset == Some(ResetAfter::Headers) {
            self.write.shutdown().await.ok();
            content.cut = true;
        } else if method != "HEAD" && !["204", "304"].contains(&status) {
            let framing = head.framing(Framing::UntilClose);
            if self.reader.content(framing, &mut content).await.is_err() {
                content.cut = true;
            }
        }
        let mut reply = response(protocol, status, &head.headers, &content.body, &content.trailers);
        if content.cut {
            reply.put("end", if reset.is_some() { "reset by the client" } else { "connection closed" });
        }
        let closes = head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        (reply, !content.cut && !closes)
    }
}
