//! What a call's content type says of its protocol; the bridge itself is that of the configurable gateway.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

pub(crate) use crate::filter::grpc_web::{TextDecoder, encode_text, trailer_frame};
use crate::filter::grpc_web::{accepts_text, base_type, format_of};
use crate::first::call::Protocol;

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

/// The content type towards the backend.
pub(crate) fn request_type(headers: &HeaderMap) -> String {
    format!("application/grpc{}", format_of(headers.get(CONTENT_TYPE)))
}

/// The content type towards the client. `backend` is the backend's own.
pub(crate) fn reply_type(protocol: Protocol, backend: Option<&HeaderValue>) -> String {
    let format = format_of(backend);
    match protocol {
        Protocol::Grpc => match backend.and_then(|value| value.to_str().ok()) {
            Some(unchanged) => unchanged.to_owned(),
            None => "application/grpc".to_owned(),
        },
        Protocol::GrpcWeb { text_reply: false, .. } => format!("application/grpc-web{format}"),
        Protocol::GrpcWeb { text_reply: true, .. } => format!("application/grpc-web-text{format}"),
    }
}

/// Whether a backend's reply is gRPC at all.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    matches!(protocol(headers), Some(Protocol::Grpc))
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

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
