//! Starting and stopping.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use edge::{Address, StartError};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::backend::frame;
use crate::harness::{Edge, config, open_keys, upstream};

#[tokio::test]
async fn what_cannot_work_is_said_in_one_line() {
    let directory = TempDir::new().expect("directory");
    let keys = open_keys(directory.path()).await;
    let refuse = |config| {
        let error = edge::start(config, Arc::clone(&keys), Arc::new(String::new)).expect_err("refused");
        assert!(!error.to_string().contains('\n'));
        error
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("address");

    let mut port_in_use = config(vec![]);
    port_in_use.listen = taken.1;
    let text = refuse(port_in_use).to_string();
    assert!(text.contains(&taken.1.to_string()) && text.contains("--listen"), "{text}");

    let mut admin_in_use = config(vec![]);
    admin_in_use.admin = taken.1;
    assert!(refuse(admin_in_use).to_string().contains("--admin"));

    let mut open_to_all = config(vec![]);
    open_to_all.listen = "0.0.0.0:0".parse().expect("address");
    assert!(matches!(refuse(open_to_all), StartError::PlaintextBeyondLoopback(_)));

    let mut open_admin = config(vec![]);
    open_admin.admin = "0.0.0.0:0".parse().expect("address");
    assert!(matches!(refuse(open_admin), StartError::AdminBeyondLoopback(_)));

    let socket = || upstream(Address::Unix("/nowhere".into()));
    assert!(matches!(refuse(config(vec![socket(), socket()])), StartError::ServiceTwice(_)));
}

#[test]
fn unknown_configuration_keys_are_errors() {
    let text = r#"{"listen": "127.0.0.1:1", "admin": "127.0.0.1:2", "upstreams": [], "limit": {}}"#;
    let error = serde_json::from_str::<edge::Config>(text).expect_err("refused");
    assert!(error.to_string().contains("limit"));
}

#[tokio::test]
async fn shutdown_lets_calls_end_and_takes_no_new_ones() {
    let edge = Edge::start().await;
    let address = edge.running.listen();
    let probe = edge.backend.probe.clone();
    let idle = TcpStream::connect(address).await.expect("an idle connection");
    let native = edge.grpc("Stall", frame(b""));
    let native = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.expect("connect");
        crate::harness::http2_over(stream, native).await
    });
    let web = tokio::spawn(crate::harness::http1(address, edge.web("Stall", frame(b""))));
    probe.until_stalled(2).await;

    let Edge { running, backend, directory: _directory, .. } = edge;
    let shutdown = tokio::spawn(running.shutdown(Duration::from_secs(60)));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_finished());
    probe.release.notify_waiters();
    assert_eq!(native.await.expect("call").grpc_status(), Some(0));
    assert_eq!(web.await.expect("call").grpc_status(), Some(0));
    assert!(shutdown.await.expect("shutdown"), "every call ended by itself");
    drop((idle, backend));
}

#[tokio::test]
async fn shutdown_cuts_what_outlives_its_grace() {
    let edge = Edge::start().await;
    let address = edge.running.listen();
    let probe = edge.backend.probe.clone();
    let request = edge.grpc("Stall", frame(b""));
    let call = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.expect("connect");
        crate::harness::http2_over(stream, request).await
    });
    probe.until_stalled(1).await;
    assert!(!edge.running.shutdown(Duration::from_millis(10)).await);
    probe.until_stalled(0).await;
    assert!(call.await.is_err(), "the call was cut");
}
