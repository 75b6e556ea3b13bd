//! gRPC-Web through the edge, byte by byte.

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::backend::{PROBE, frame};
use crate::harness::{Edge, with, without};

/// base64 of `frame("hi")`, and of the trailer frame that follows it.
const HI: &str = "AAAAAAJoaQ==";
const OK_TRAILERS: &[u8] = b"\x80\x00\x00\x00\x0fgrpc-status:0\r\n";
const OK_TRAILERS_TEXT: &str = "gAAAAA9ncnBjLXN0YXR1czowDQo=";

#[tokio::test]
async fn binary_over_both_versions_of_http() {
    let edge = Edge::start().await;
    let one = edge.http1(edge.web("Echo", frame(b"hi"))).await;
    let two = edge.http2(edge.web("Echo", frame(b"hi"))).await;
    for reply in [one, two] {
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("content-type"), "application/grpc-web+proto");
        assert_eq!(reply.body, [&frame(b"hi")[..], OK_TRAILERS].concat());
        assert!(reply.trailers.is_empty());
    }
}

#[tokio::test]
async fn text_with_padding_in_the_middle() {
    let edge = Edge::start().await;
    let path = format!("/{PROBE}/Echo");
    for body in [HI.to_owned(), "AA==AAAAAmhp".to_owned()] {
        let request = edge.request(&path, "application/grpc-web-text", body.into());
        let reply = edge.http1(with(request, "accept", "application/grpc-web-text, */*")).await;
        assert_eq!(reply.header("content-type"), "application/grpc-web-text+proto");
        assert_eq!(reply.body, format!("{HI}{OK_TRAILERS_TEXT}"));
    }
}

#[tokio::test]
async fn text_request_without_accept_is_answered_in_binary() {
    let edge = Edge::start().await;
    let request = edge.request(&format!("/{PROBE}/Echo"), "application/grpc-web-text+proto", HI.into());
    let reply = edge.http1(request).await;
    assert_eq!(reply.header("content-type"), "application/grpc-web+proto");
    assert_eq!(reply.body, [&frame(b"hi")[..], OK_TRAILERS].concat());
}

#[tokio::test]
async fn content_types_as_clients_write_them() {
    let edge = Edge::start().await;
    let path = format!("/{PROBE}/Echo");
    for content_type in
        ["application/grpc-web", "application/grpc-web+proto; charset=utf-8", "application/gRPC-Web+proto"]
    {
        let reply = edge.http1(edge.request(&path, content_type, frame(b"hi"))).await;
        assert_eq!(reply.grpc_status(), Some(0), "{content_type}");
    }
    let reply = edge.http1(edge.request(&path, "text/plain", frame(b"hi"))).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut reading = edge.request(&path, "text/plain", Bytes::new());
    *reading.method_mut() = Method::GET;
    let reply = edge.http1(reading).await;
    assert_eq!((reply.status, reply.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST, OPTIONS"));
}

#[tokio::test]
async fn trailers_only_becomes_the_header() {
    let edge = Edge::start().await;
    let reply = edge.http1(edge.web("Fail", frame(b""))).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!((reply.header("grpc-status"), reply.header("grpc-message")), ("5", "no such thing"));
    assert_eq!(reply.header("content-length"), "0");
    assert!(reply.body.is_empty());
}

#[tokio::test]
async fn bad_base64_is_refused() {
    let edge = Edge::start().await;
    for body in ["AAAA*AAA", "AAA"] {
        let request = edge.request(&format!("/{PROBE}/Echo"), "application/grpc-web-text", body.into());
        let reply = edge.http1(request).await;
        assert_eq!((reply.status, reply.grpc_status()), (StatusCode::BAD_REQUEST, Some(13)), "{body}");
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let edge = Edge::start().await;
    let mut request = edge.web("Echo", Bytes::new());
    *request.method_mut() = Method::GET;
    let reply = edge.http1(request).await;
    assert_eq!((reply.status, reply.grpc_status()), (StatusCode::METHOD_NOT_ALLOWED, Some(12)));
    assert_eq!(reply.header("allow"), "POST, OPTIONS");
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let edge = Edge::start().await;
    let stream = tokio::net::TcpStream::connect(edge.address()).await.expect("connect");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("handshake");
    tokio::spawn(connection);
    // The edge refuses the one without a key before it has read the body.
    let calls = [
        edge.web("Echo", frame(b"hi")),
        without(edge.web("Echo", frame(&[0; 1 << 20])), "x-api-key"),
        edge.web("Fail", frame(b"hi")),
        edge.web("Echo", frame(b"hi")),
    ];
    for call in calls {
        let (mut head, body) = call.into_parts();
        head.uri = head.uri.path().parse().expect("path");
        sender.ready().await.expect("the connection is kept");
        let reply = sender.send_request(http::Request::from_parts(head, body)).await.expect("a reply");
        http_body_util::BodyExt::collect(reply.into_body()).await.expect("body");
    }
}

fn preflight(edge: &Edge, origin: &str) -> http::Request<http_body_util::Full<Bytes>> {
    let mut request = edge.web("Echo", Bytes::new());
    *request.method_mut() = Method::OPTIONS;
    let request = without(without(request, "x-api-key"), "content-type");
    let request = with(request, "origin", origin);
    let request = with(request, "access-control-request-method", "POST");
    with(request, "access-control-request-headers", "x-api-key,x-grpc-web")
}

#[tokio::test]
async fn preflights_are_answered_by_the_edge() {
    let edge = Edge::start().await;
    let reply = edge.http1(preflight(&edge, "https://shop.example")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(reply.header("access-control-allow-headers"), "*, authorization");
    assert_eq!(reply.header("access-control-allow-methods"), "POST, OPTIONS");
    let reply = edge.http1(preflight(&edge, "https://evil.example")).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn allowed_pages_can_read_replies_and_refusals() {
    let edge = Edge::start().await;
    let ask = || with(edge.web("Echo", frame(b"hi")), "origin", "https://shop.example");
    for request in [ask(), without(ask(), "x-api-key")] {
        let reply = edge.http1(request).await;
        assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example");
        assert!(reply.header("access-control-expose-headers").contains("grpc-status"));
    }
}
