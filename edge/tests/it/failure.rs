//! What clients are told when a call cannot succeed: always a gRPC status that they can read.

use std::time::Duration;

use edge::Address;
use http::StatusCode;
use tempfile::TempDir;

use crate::backend::{Backend, frame, serve_one_goaway};
use crate::harness::{Edge, config, tcp, upstream, with};

#[tokio::test]
async fn unknown_services_are_unimplemented() {
    let edge = Edge::start().await;
    for path in ["/no.such.Service/Get", "/", "/test.v1.Probe"] {
        let reply = edge.http2(edge.request(path, "application/grpc", frame(b""))).await;
        assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::OK, "12"), "{path}");
        let reply = edge.http1(edge.request(path, "application/grpc-web", frame(b""))).await;
        assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::NOT_FOUND, "12"), "{path}");
    }
}

#[tokio::test]
async fn dead_backends_are_unavailable() {
    let directory = TempDir::new().expect("directory");
    let nobody = Address::Unix(directory.path().join("nobody.sock"));
    let config = config(directory.path(), vec![upstream(nobody)]);
    let edge = Edge::start_with(directory, Backend::new(), &config).await;
    let reply = edge.http2(edge.grpc("Echo", frame(b"hi"))).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::OK, "14"));
    let reply = edge.http1(edge.web("Echo", frame(b"hi"))).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::SERVICE_UNAVAILABLE, "14"));
    assert_eq!(reply.header("content-type"), "application/grpc-web+proto");
}

#[tokio::test]
async fn deadlines_are_kept_by_the_edge() {
    let edge = Edge::start().await;
    let reply = edge.http2(with(edge.grpc("Stall", frame(b"")), "grpc-timeout", "50m")).await;
    assert_eq!(reply.header("grpc-status"), "4");
    edge.backend.probe.until_stalled(0).await;
    let reply = edge.http1(with(edge.web("Stall", frame(b"")), "grpc-timeout", "50m")).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::OK, "4"));
    edge.backend.probe.until_stalled(0).await;
}

#[tokio::test]
async fn what_is_left_of_a_deadline_is_handed_on() {
    let edge = Edge::start().await;
    let reply = edge.http2(with(edge.grpc("Headers", frame(b"")), "grpc-timeout", "1M")).await;
    let seen = String::from_utf8_lossy(&reply.body).into_owned();
    let (_, timeout) = seen.split_once(r#""grpc-timeout": ""#).expect("a timeout");
    let (millis, _) = timeout.split_once("m\"").expect("milliseconds");
    let millis: u64 = millis.parse().expect("a number");
    assert!((50_000..=60_000).contains(&millis), "{millis}");
}

#[tokio::test]
async fn missing_statuses_are_never_success() {
    let edge = Edge::start().await;
    let reply = edge.http2(edge.grpc("Truncate", frame(b""))).await;
    assert_eq!((reply.grpc_status(), &reply.body[..]), (Some(2), &frame(b"half")[..]));
    let reply = edge.http1(edge.web("Truncate", frame(b""))).await;
    assert_eq!(reply.grpc_status(), Some(2));
    assert!(reply.body.starts_with(&frame(b"half")));
}

#[tokio::test]
async fn backends_that_go_away_are_unavailable() {
    let addr = serve_one_goaway().await;
    let directory = TempDir::new().expect("directory");
    let config = config(directory.path(), vec![upstream(tcp(addr, None))]);
    let edge = Edge::start_with(directory, Backend::new(), &config).await;
    let reply = edge.http2(edge.grpc("Echo", frame(b"hi"))).await;
    assert_eq!(reply.grpc_status(), Some(14));
}

#[tokio::test]
async fn replies_that_are_not_grpc_are_translated_for_browsers() {
    let edge = Edge::start().await;
    // A gRPC client makes a status of the HTTP status itself.
    let reply = edge.http2(edge.grpc("Html", frame(b""))).await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::BAD_GATEWAY, "text/html"));
    let reply = edge.http1(edge.web("Html", frame(b""))).await;
    assert_eq!((reply.header("grpc-status"), reply.body.is_empty()), ("14", true));
}

#[tokio::test]
async fn oversized_messages_are_refused_with_a_status() {
    let edge = Edge::start().await;
    let body = frame(&vec![0; 16 * 1024 * 1024 + 1]);
    let reply = edge.http2(edge.grpc("Echo", body.clone())).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::OK, "8"));
    let reply = edge.http1(edge.web("Echo", body)).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::TOO_MANY_REQUESTS, "8"));
}

#[tokio::test]
async fn cancelled_calls_are_cancelled_at_the_backend() {
    let edge = Edge::start().await;
    let address = edge.address();
    let request = edge.grpc("Stall", frame(b""));
    let native = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        crate::harness::http2_over(stream, request).await
    });
    edge.backend.probe.until_stalled(1).await;
    native.abort();
    edge.backend.probe.until_stalled(0).await;

    let web = edge.web("Stall", frame(b""));
    let web = tokio::spawn(crate::harness::http1(address, web));
    edge.backend.probe.until_stalled(1).await;
    web.abort();
    edge.backend.probe.until_stalled(0).await;
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_has_begun() {
    let edge = Edge::start().await;
    let path = format!("/{}/Watch", crate::backend::HEALTH);
    let request = with(edge.request(&path, "application/grpc", frame(b"")), "grpc-timeout", "100m");
    let reply = tokio::time::timeout(Duration::from_secs(30), edge.http2(request)).await.expect("an end");
    assert_eq!(reply.trailers["grpc-status"], "4");
    assert!(!reply.body.is_empty());
}
