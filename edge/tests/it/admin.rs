//! The operators' interface.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::harness::{Edge, Reply, http1};

async fn ask(edge: &Edge, method: &str, path: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "admin")
        .body(Full::new(Bytes::new()))
        .expect("request");
    http1(edge.running.admin().expect("an admin interface"), request).await
}

#[tokio::test]
async fn readiness_follows_the_operator() {
    let edge = Edge::start().await;
    let reply = ask(&edge, "GET", "/ready").await;
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"LIVE\n"[..]));
    assert_eq!(ask(&edge, "GET", "/healthcheck/fail").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&edge, "POST", "/healthcheck/fail").await.status, StatusCode::OK);
    let reply = ask(&edge, "GET", "/ready").await;
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::SERVICE_UNAVAILABLE, &b"DRAINING\n"[..]));
    assert_eq!(ask(&edge, "POST", "/healthcheck/ok").await.status, StatusCode::OK);
    assert_eq!(ask(&edge, "GET", "/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_and_server_info() {
    let edge = Edge::start().await;
    let metrics = ask(&edge, "GET", "/stats/prometheus").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.ends_with("calls_total 1\n"), "{metrics}");
    assert!(metrics.contains("envoy_http_downstream_rq_total"), "{metrics}");
    let info = ask(&edge, "GET", "/server_info").await;
    assert_eq!(info.header("content-type"), "application/json");
    let info: serde_json::Value = serde_json::from_slice(&info.body).expect("JSON");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(ask(&edge, "GET", "/quit").await.status, StatusCode::NOT_FOUND);
}
