//! HTTP/2 that would become something else on its way: it never reaches a service.

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, block, frame};
use crate::honest::{Client, Protocol};

const HEAD: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/test.Probe/Echo"), (":authority", "edge.example")];

/// A good head, but for one line that is put in place of the one of its name, or behind all.
fn with(name: &'static str, value: &'static str) -> Vec<u8> {
    let mut head = HEAD.to_vec();
    match head.iter_mut().find(|(known, _)| *known == name) {
        Some(line) => line.1 = value,
        None => head.push((name, value)),
    }
    block(&head)
}

#[tokio::test]
async fn what_http_1_would_read_otherwise_never_reaches_a_service() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    for (name, head) in [
        ("connection", with("connection", "keep-alive")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "websocket")),
        ("keep-alive", with("keep-alive", "timeout=5")),
        ("proxy-connection", with("proxy-connection", "close")),
        ("te", with("te", "chunked")),
        ("an upper case name", with("X-Upper", "a")),
        ("a name with a colon", with("a:b", "c")),
        ("a name with a space", with("content-length ", "0")),
        ("a line feed in a name", with("a\r\nb", "c")),
        ("a line feed in a value", with("x-a", "b\r\ntransfer-encoding: chunked")),
        ("a NUL in a value", with("x-a", "b\0c")),
        ("a request in a path", with(":path", "/a HTTP/1.1\r\nhost: evil\r\n\r\nGET /b")),
        ("a space in a path", with(":path", "/a b")),
        ("an empty path", with(":path", "")),
        ("a path that is none", with(":path", "a")),
        ("a line feed in a method", with(":method", "GET / HTTP/1.1\r\n")),
        ("a line feed in an authority", with(":authority", "edge.example\r\nx: y")),
        ("two lengths", block(&[&HEAD[..], &[("content-length", "0"), ("content-length", "5")]].concat())),
        ("a length that is none", with("content-length", "+0")),
        ("a length that is not kept", with("content-length", "5")),
        ("two paths", block(&[&HEAD[..], &[(":path", "/b")]].concat())),
        ("a path behind headers", block(&[&[("x-a", "b")], &HEAD[..]].concat())),
        ("an unknown pseudo-header", with(":other", "a")),
        ("a pseudo-header of responses", with(":status", "200")),
        ("no method", block(&HEAD[1..])),
        ("no path", block(&[HEAD[0], HEAD[1], HEAD[3]])),
    ] {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await);
        let answer = raw.find(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY)).await;
        assert!(answer.is_some(), "{name}");
        assert_eq!(backend.calls(), 0, "{name}");
    }
    Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
}

#[tokio::test]
async fn a_body_longer_than_it_says_is_not_passed_on() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let mut raw = Raw::connect(edge.address(), &[]).await;
    assert!(raw.send(&frame(HEADERS, END_HEADERS, 1, &with("content-length", "2"))).await);
    assert!(raw.send(&frame(DATA, END_STREAM, 1, b"hi, and more")).await);
    let reset = raw.find(|frame| frame.kind == RST_STREAM).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (1, 1));
    assert!(raw.settle().await);
}
