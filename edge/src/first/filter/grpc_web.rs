//! The gRPC-Web bridge: what a browser can send and read, in terms of gRPC.
//!
//! A browser reads no trailers, so they travel as the last frame of the body, flagged 0x80. In text mode the body
//! is base64, whose padding may stand wherever the sender flushed, not only at the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use crate::first::call::Protocol;

const TRAILER_FLAG: u8 = 0x80;
/// Base64 comes in groups of this many characters.
const GROUP: usize = 4;

/// What the request's content type says that its client speaks.
pub(crate) fn protocol(headers: &HeaderMap) -> Option<Protocol> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(match base_type(content_type).as_str() {
        "application/grpc" => Protocol::Grpc,
        "application/grpc-web" => {
            Protocol::GrpcWeb { text_request: false, text_reply: accepts_text(headers) }
        }
        "application/grpc-web-text" => {
            Protocol::GrpcWeb { text_request: true, text_reply: accepts_text(headers) }
        }
        _ => return None,
    })
}

/// The media type in lower case, without parameters and without the `+proto` part.
fn base_type(content_type: &str) -> String {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.split('+').next().unwrap_or_default().to_ascii_lowercase()
}

/// The `+proto` part of a media type; a bare one means protobuf.
fn message_format(content_type: Option<&HeaderValue>) -> &str {
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next()?.trim().split_once('+'))
        .map_or("proto", |(_, format)| format)
}

fn accepts_text(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| base_type(range) == "application/grpc-web-text")
}

/// The content type towards the backend.
pub(crate) fn request_type(headers: &HeaderMap) -> String {
    format!("application/grpc+{}", message_format(headers.get(CONTENT_TYPE)))
}

/// The content type towards the client. `backend` is the backend's own.
pub(crate) fn reply_type(protocol: Protocol, backend: Option<&HeaderValue>) -> String {
    let format = message_format(backend);
    match protocol {
        Protocol::Grpc => match backend.and_then(|value| value.to_str().ok()) {
            Some(unchanged) => unchanged.to_owned(),
            None => "application/grpc".to_owned(),
        },
        Protocol::GrpcWeb { text_reply: false, .. } => format!("application/grpc-web+{format}"),
        Protocol::GrpcWeb { text_reply: true, .. } => format!("application/grpc-web-text+{format}"),
    }
}

/// Whether a backend's reply is gRPC at all.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    matches!(protocol(headers), Some(Protocol::Grpc))
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
            assert!(decoder.is_complete());
        }
    }

    #[test]
    fn refuses_what_is_not_base64() {
        assert!(TextDecoder::default().decode(b"a*aa").is_none());
        assert!(TextDecoder::default().decode(b"=aaa").is_none());
        let mut cut = TextDecoder::default();
        assert_eq!(cut.decode(b"AAA"), Some(Bytes::new()));
        assert!(!cut.is_complete());
    }

    #[test]
    fn reads_media_types_as_browsers_write_them() {
        let web = |content_type: &str, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().expect("value"));
            headers.insert(ACCEPT, accept.parse().expect("value"));
            protocol(&headers)
        };
        let binary = Some(Protocol::GrpcWeb { text_request: false, text_reply: false });
        let text = Some(Protocol::GrpcWeb { text_request: true, text_reply: true });
        assert_eq!(web("application/grpc-web+proto; charset=utf-8", "*/*"), binary);
        assert_eq!(web("application/gRPC-Web+json", "application/grpc-web"), binary);
        assert_eq!(web("application/grpc-web-text", "application/grpc-web-text, */*"), text);
        assert_eq!(web("application/grpc+proto", "*/*"), Some(Protocol::Grpc));
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
