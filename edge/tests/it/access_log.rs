//! The access log tells the truth: the status that the client saw, on every protocol.

use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::frame;
use crate::harness::{Edge, with, without};

#[tokio::test]
async fn each_call_is_one_line_with_its_true_status() {
    let edge = Edge::start().await;
    let late = with(edge.web("Stall", frame(b"")), "grpc-timeout", "10m");
    let unknown = without(edge.grpc("Echo", frame(b"")), "x-api-key");
    edge.http1(edge.web("Echo", frame(b"hi"))).await;
    edge.http2(edge.grpc("Fail", frame(b""))).await;
    edge.http1(late).await;
    edge.http2(unknown).await;

    let Edge { running, directory, .. } = edge;
    running.shutdown(Duration::from_secs(60)).await;
    let log = std::fs::read_to_string(directory.path().join("access.log")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told =
        |line: &Value| json!([line["path"], line["consumer"], line["http_status"], line["grpc_status"]]);
    let path = |method: &str| format!("/test.v1.Probe/{method}");
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [
            json!([path("Echo"), "admin", 200, 0]),
            json!([path("Fail"), "admin", 200, 5]),
            json!([path("Stall"), "admin", 200, 4]),
            json!([path("Echo"), null, 200, 16]),
        ]
    );
    assert_eq!(lines[0]["bytes_received"], 7);
}
