//! Starting and stopping.

use std::net::TcpListener;
use std::time::Duration;

use edge::{Address, Config, DatabaseUrl};
use http::{Request, StatusCode};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::backend::{Backend, frame};
use crate::harness::{Edge, PATIENCE, config, http1, start, upstream};

#[tokio::test]
async fn what_cannot_work_is_said_in_one_line() {
    let directory = TempDir::new().expect("directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("address");
    let free = config(directory.path(), vec![]);
    let variable = DatabaseUrl::Variable("OMNIMESH_TEST_NO_SUCH_VARIABLE".to_owned());
    for (config, says) in [
        (Config { listen: taken.1, ..free.clone() }, taken.1.to_string()),
        (Config { admin: taken.1, ..free.clone() }, taken.1.to_string()),
        (Config { consumers: variable, ..free.clone() }, "set it to the URL".to_owned()),
        (
            Config { consumers: DatabaseUrl::Plain("mysql://x:secret@y".to_owned()), ..free },
            "x:***@y".to_owned(),
        ),
    ] {
        let error = start(&config).expect_err("refused").to_string();
        assert!(error.contains(&says) && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_comes_late_is_waited_for() {
    let directory = TempDir::new().expect("directory");
    let socket = directory.path().join("mesh.sock");
    let mut backend = Backend::new();
    backend.serve_unix(&socket);
    // Where the database's directory is to be stands a file.
    let database = directory.path().join("late");
    std::fs::write(&database, "").expect("written");
    let mut config = config(directory.path(), vec![upstream(Address::Unix(socket))]);
    config.consumers = DatabaseUrl::Plain(format!("sqlite:{}", database.display()));
    let running = start(&config).expect("edge");
    let call = Request::post("/test.v1.Probe/Echo").header("host", "edge").body(Full::default());
    let waiting = tokio::spawn(http1(running.listeners()[0].1, call.expect("request")));
    tokio::task::yield_now().await;
    std::fs::remove_file(&database).expect("removed");
    let reply = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("a reply");
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn shutdown_lets_calls_end_and_takes_no_new_ones() {
    let edge = Edge::start().await;
    let address = edge.address();
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
    let address = edge.address();
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
