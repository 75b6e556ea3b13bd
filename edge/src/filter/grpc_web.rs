//! The gRPC-Web bridge: what a browser can send and read, in terms of gRPC.
//!
//! A browser reads no trailers, so they travel as the last frame of the body, flagged 0x80. In text mode the body is
//! base64, whose padding may stand wherever the sender flushed, not only at the end.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::google::protobuf::Any;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};

use crate::body::{Answer, ReplyBody, Transform, Transformed};
use crate::call::{Call, Protocol};
use crate::filter::{Context, Filter, Flow};
use crate::problem::{Path, Problem};
use crate::reply::{GRPC_MESSAGE, GRPC_STATUS, LocalReply, Reply, encode_message, grpc_status_of, is_grpc};

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// How messages are written where nothing else is said.
const PROTO: &str = "+proto";
const TRAILER_FLAG: u8 = 0x80;
/// Base64 comes in groups of this many characters.
const GROUP: usize = 4;
/// Of a body that is not passed on: what is longer or slower costs its connection.
const DISCARD_UP_TO: usize = 64 << 10;
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// Makes a call gRPC on the way up and gRPC-Web on the way down.
#[derive(Debug)]
pub(crate) struct GrpcWeb;

pub(crate) fn make(_: &Any, _: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(GrpcWeb))
}

impl Filter for GrpcWeb {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let headers = &mut call.request.headers;
        let Some((text_request, format)) = asked(headers) else { return Flow::Continue };
        let content_type = match format {
            // Bare, it is protobuf to every server.
            PROTO => Ok(HeaderValue::from_static("application/grpc")),
            other => HeaderValue::try_from(format!("application/grpc{other}")),
        };
        call.protocol = Protocol::GrpcWeb { text_reply: accepts_text(headers) };
        if call.request.method != Method::POST {
            let refused = LocalReply::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "calls are made with POST",
                "grpc_web_method",
            );
            let allow = HeaderValue::from_static("POST, OPTIONS");
            return Flow::Reply(refused.with_grpc(12).with_header(http::header::ALLOW, allow));
        }
        if let Ok(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        // The length is of the body as the browser wrote it.
        headers.remove(CONTENT_LENGTH);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if text_request {
            call.body.push(Box::new(TextDecoder::default()));
        }
        Flow::Continue
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        let Protocol::GrpcWeb { text_reply } = call.protocol else { return };
        if is_grpc(&reply.headers) {
            if let Some(content_type) = web_type(text_reply, format_of(reply.headers.get(CONTENT_TYPE))) {
                reply.headers.insert(CONTENT_TYPE, content_type);
            }
            if reply.headers.contains_key(GRPC_STATUS) && reply.body.is_end_stream() {
                return;
            }
            reply.headers.remove(CONTENT_LENGTH);
            reply.body.push(Box::new(Encoder { text: text_reply }));
            return;
        }
        // Somebody who does not speak gRPC has answered: the browser is told in its own words all the same.
        let code = grpc_status_of(reply.status);
        if let Some(content_type) = web_type(text_reply, PROTO) {
            reply.headers.insert(CONTENT_TYPE, content_type);
        }
        reply.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        reply.headers.insert(GRPC_STATUS, HeaderValue::from(code));
        let message = format!("the upstream answered HTTP {} without a gRPC status", reply.status.as_u16());
        if let Ok(message) = HeaderValue::try_from(encode_message(&message)) {
            reply.headers.insert(GRPC_MESSAGE, message);
        }
        discard(std::mem::replace(&mut reply.body, Transformed::new(Answer::Full(None))));
    }
}

/// The media type of a reply.
fn web_type(text: bool, format: &str) -> Option<HeaderValue> {
    match (text, format) {
        (false, PROTO) => Some(HeaderValue::from_static("application/grpc-web+proto")),
        (true, PROTO) => Some(HeaderValue::from_static("application/grpc-web-text+proto")),
        (false, other) => HeaderValue::try_from(format!("application/grpc-web{other}")).ok(),
        (true, other) => HeaderValue::try_from(format!("application/grpc-web-text{other}")).ok(),
    }
}

/// Whether a request is gRPC-Web: in text or not, and the `+proto` part of its type.
fn asked(headers: &HeaderMap) -> Option<(bool, &str)> {
    let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
    // Most requests are decided by this comparison.
    if !content_type.get(..20)?.eq_ignore_ascii_case(b"application/grpc-web") {
        return None;
    }
    let content_type = std::str::from_utf8(content_type).ok()?;
    let base = base_type(content_type);
    let text = is_text(base);
    let asks = text || base.eq_ignore_ascii_case("application/grpc-web");
    asks.then(|| (text, format_of(headers.get(CONTENT_TYPE))))
}

/// A media type without parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The media type without parameters and without the `+proto` part.
fn base_type(content_type: &str) -> &str {
    media_type(content_type).split('+').next().unwrap_or_default()
}

fn is_text(base_type: &str) -> bool {
    base_type.eq_ignore_ascii_case("application/grpc-web-text")
}

/// The `+proto` part of a media type; a bare one means protobuf.
fn format_of(content_type: Option<&HeaderValue>) -> &str {
    let media_type = content_type.and_then(|value| value.to_str().ok()).map(media_type).unwrap_or_default();
    media_type.find('+').map_or(PROTO, |at| &media_type[at..])
}

/// Whether a client wants its reply in text.
pub(crate) fn accepts_text(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| is_text(base_type(range)))
}

/// The trailers as the last frame of the body.
pub(crate) fn trailer_frame(trailers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::with_capacity(5 + 64 * trailers.len());
    block.put_u8(TRAILER_FLAG);
    block.put_u32(0);
    for (name, value) in trailers {
        block.put_slice(name.as_str().as_bytes());
        block.put_u8(b':');
        block.put_slice(value.as_bytes());
        block.put_slice(b"\r\n");
    }
    // A header list is bounded far below 4 GiB by HTTP/2.
    let length = u32::try_from(block.len() - 5).unwrap_or(u32::MAX);
    block[1..5].copy_from_slice(&length.to_be_bytes());
    block.freeze()
}

/// One flush of a text reply.
pub(crate) fn encode_text(bytes: &[u8]) -> Bytes {
    STANDARD.encode(bytes).into()
}

/// A gRPC reply as gRPC-Web writes it.
struct Encoder {
    text: bool,
}

impl Transform for Encoder {
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply> {
        Ok(if self.text { encode_text(&data) } else { data })
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), LocalReply> {
        let Some(trailers) = trailers else { return Ok((Bytes::new(), None)) };
        let frame = trailer_frame(&trailers);
        Ok((if self.text { encode_text(&frame) } else { frame }, None))
    }
}

/// Reads a body that no gRPC-Web client could read, within reason: its connection can be used again.
fn discard(body: ReplyBody) {
    tokio::spawn(tokio::time::timeout(DISCARD_WITHIN, Limited::new(body, DISCARD_UP_TO).collect()));
}

/// The body of a text request, as its chunks arrive.
#[derive(Debug, Default)]
pub(crate) struct TextDecoder {
    /// The beginning of a group that the last chunk cut.
    cut: BytesMut,
}

impl TextDecoder {
    /// Decodes every group that is complete. `None`: not base64.
    pub(crate) fn decode(&mut self, chunk: &[u8]) -> Option<Bytes> {
        self.cut.extend_from_slice(chunk);
        let whole = self.cut.len() - self.cut.len() % GROUP;
        let groups = self.cut.split_to(whole);
        let mut decoded = Vec::with_capacity(whole / GROUP * 3);
        let mut rest = &groups[..];
        while !rest.is_empty() {
            // The engine takes padding at the end only: stop behind each padded group.
            let padding = rest.iter().position(|&byte| byte == b'=');
            let (flushed, next) = rest.split_at(padding.map_or(rest.len(), |at| (at / GROUP + 1) * GROUP));
            STANDARD.decode_vec(flushed, &mut decoded).ok()?;
            rest = next;
        }
        Some(decoded.into())
    }

    /// Whether the body may end here.
    pub(crate) fn is_complete(&self) -> bool {
        self.cut.is_empty()
    }
}

fn not_base64() -> LocalReply {
    LocalReply::new(
        StatusCode::BAD_REQUEST,
        "Bad gRPC-web request, invalid base64 data.",
        "grpc_base_64_decode_failed",
    )
}

impl Transform for TextDecoder {
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply> {
        self.decode(&data).ok_or_else(not_base64)
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), LocalReply> {
        if self.is_complete() { Ok((Bytes::new(), trailers)) } else { Err(not_base64()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_padding_in_the_middle_under_any_chunking() {
        let text = b"AAAAAAE=YQ==AAAA";
        for size in 1..=text.len() {
            let mut decoder = TextDecoder::default();
            let mut decoded = Vec::new();
            for chunk in text.chunks(size) {
                decoded.extend_from_slice(&decoder.decode(chunk).expect("base64"));
            }
            assert_eq!(decoded, b"\0\0\0\0\x01a\0\0\0", "chunks of {size}");
            assert!(decoder.end(None).is_ok());
        }
    }

    #[test]
    fn refuses_what_is_not_base64() {
        assert!(TextDecoder::default().decode(b"a*aa").is_none());
        assert!(TextDecoder::default().decode(b"=aaa").is_none());
        let mut cut = TextDecoder::default();
        assert_eq!(cut.decode(b"AAA"), Some(Bytes::new()));
        assert!(cut.end(None).is_err());
    }

    #[test]
    fn reads_media_types_as_browsers_write_them() {
        let web = |content_type: &str, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().expect("value"));
            headers.insert(ACCEPT, accept.parse().expect("value"));
            asked(&headers).map(|(text, format)| (text, format.to_owned(), accepts_text(&headers)))
        };
        assert_eq!(
            web("application/grpc-web+proto; charset=utf-8", "*/*"),
            Some((false, "+proto".into(), false))
        );
        assert_eq!(
            web("application/gRPC-Web+json", "application/grpc-web"),
            Some((false, "+json".into(), false))
        );
        assert_eq!(
            web("application/grpc-web-text", "application/grpc-web-text, */*"),
            Some((true, "+proto".into(), true))
        );
        assert_eq!(web("application/grpc+proto", "*/*"), None);
        assert_eq!(web("application/grpcish", "*/*"), None);
        assert_eq!(web("text/html", "*/*"), None);
    }

    #[test]
    fn writes_trailers_as_envoy_does() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("grpc-message", HeaderValue::from_static(""));
        assert_eq!(&trailer_frame(&trailers)[..], b"\x80\0\0\0\x1egrpc-status:0\r\ngrpc-message:\r\n");
    }
}
