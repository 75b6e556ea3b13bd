//! Leaving: who is there is asked to go, and nothing is cut.

use std::time::Duration;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::frames::{self, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Raw, frame};
use crate::honest::{Client, Protocol, message, whole};
use crate::{ends, until};

#[tokio::test]
async fn calls_end_as_they_would_while_the_edge_leaves() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let address = edge.address();
    let mut calls = Vec::new();
    for protocol in [Protocol::Grpc, Protocol::GrpcWeb] {
        let mut streaming = Client::connect(protocol, address, None).await;
        let stream = ends(streaming.begin("Stream")).await.expect("it begins");
        let mut waiting = Client::connect(protocol, address, None).await;
        let unary = tokio::spawn(async move { waiting.begin("Hold").await });
        calls.push((streaming, stream, unary));
    }
    let mut raw = Raw::connect(address, &[]).await;
    assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::call("Hold"))).await);
    until("every call is at the backend", || backend.calls() == 5).await;

    let leaving = tokio::spawn(edge.running.shutdown(Duration::from_secs(60)));
    raw.find(|frame| frame.kind == GOAWAY).await.expect("a goodbye");
    until("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(!leaving.is_finished());
    backend.release();
    for (_client, stream, unary) in calls {
        let (_, body, _) = ends(whole(stream)).await.expect("nothing is cut");
        assert!(body.starts_with(&[message(b"first"), message(b"last")].concat()));
        let unary = ends(unary).await.expect("no panic").expect("an answer");
        let (_, body, _) = ends(whole(unary)).await.expect("nothing is cut");
        assert!(body.starts_with(&message(b"hello")));
    }
    raw.find(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0).await.expect("the end of the call");
    assert_eq!(raw.end().await, Some(0));
    assert!(ends(leaving).await.expect("no panic"), "it had to cut");
}
