//! Text of gRPC-Web that is no text of gRPC-Web.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::ends;
use crate::honest::{Client, Protocol, whole};

async fn post(edge: &Edge, content_type: &str, body: Vec<u8>) -> (u16, Option<String>, Bytes) {
    let Client::GrpcWeb(mut client) = Client::connect(Protocol::GrpcWeb, edge.address(), None).await else {
        unreachable!("it speaks HTTP/1.1")
    };
    let request = Request::post("/test.Probe/Echo").header("host", "edge.example");
    let request = request.header("content-type", content_type).body(Full::new(body.into()));
    let reply = ends(client.send_request(request.expect("request"))).await.expect("an answer");
    let status = reply.headers().get("grpc-status").map(|value| value.to_str().expect("text").to_owned());
    let (http, body, _) = ends(whole(reply)).await.expect("a whole answer");
    (http.as_u16(), status, body)
}

#[tokio::test]
async fn base64_that_is_none_is_refused_however_long_it_is() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    for (name, body) in [
        ("padding without end", vec![b'='; 4 << 20]),
        ("padding between", b"AA==".iter().copied().chain([b'='; 1024]).collect()),
        ("no letter of it", vec![0xff; 4 << 20]),
        ("cut off", b"AAAAAAV".to_vec()),
    ] {
        let (http, status, _) = post(&edge, "application/grpc-web-text", body).await;
        assert_eq!((http, status.as_deref()), (400, Some("13")), "{name}");
    }
}

#[tokio::test]
async fn long_text_passes_piece_by_piece() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    // Each message padded for itself, the shortest pieces there are.
    let body = b"AAAAAAE=YQ==".repeat(100_000);
    let (http, _, reply) = post(&edge, "application/grpc-web-text", body).await;
    assert_eq!(http, 200);
    assert_eq!(&reply[..12], b"\0\0\0\0\x01a\0\0\0\0\x01a");
}
