//! The Unix socket of the edge.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mesh::{CONSUMER_HEADER, Config, PERMISSIONS_HEADER, StartError};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{READ, Running, policy, said, unary, with};

fn listening_on(path: &Path) -> Config {
    let mut config = Config::default();
    config.listen.unix = Some(path.to_owned());
    config
}

async fn connect(path: &Path) -> Channel {
    Endpoint::try_from(format!("unix://{}", path.display())).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_caller_on_the_unix_socket_is_the_edge() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/mesh.sock");
    let server = Running::start(listening_on(&path), None).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

    let mut request = with(CONSUMER_HEADER, "c1");
    request.metadata_mut().insert(PERMISSIONS_HEADER, "ingest.*".parse().unwrap());
    let answer = unary(connect(&path).await, READ, request).await.unwrap();
    assert_eq!(said(&answer, "x-caller"), Some("consumer c1"));
    server.stop().await;
    assert!(!path.exists(), "the socket goes with its server");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Running::start(listening_on(&path), None).await;

    let second = mesh::ServerBuilder::new(listening_on(&path), policy(), None).build().await;
    assert!(
        matches!(&second, Err(StartError::Config(text)) if text.contains("another process")),
        "{second:?}"
    );
    server.stop().await;

    std::fs::write(&path, "somebody's notes").unwrap();
    let third = mesh::ServerBuilder::new(listening_on(&path), policy(), None).build().await;
    assert!(matches!(third, Err(StartError::Config(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's notes");
}
