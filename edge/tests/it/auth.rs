//! API keys: who gets in, and what services hear of it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use edge::{Address, Grant, Keys};
use http::StatusCode;
use tempfile::TempDir;

use crate::backend::{Backend, HEALTH, frame};
use crate::harness::{Edge, config, open_keys, upstream, with, without};

#[tokio::test]
async fn calls_without_a_valid_key_are_refused_on_both_protocols() {
    let edge = Edge::start().await;
    let mut wrong_secret = edge.admin_key.clone();
    let last = if wrong_secret.pop() == Some('a') { 'b' } else { 'a' };
    wrong_secret.push(last);
    for key in [None, Some(""), Some("om_unknown_secret"), Some(wrong_secret.as_str()), Some("om_x")] {
        let grpc = edge.grpc("Echo", frame(b"hi"));
        let web = edge.web("Echo", frame(b"hi"));
        let (grpc, web) = match key {
            Some(key) => (with(grpc, "x-api-key", key), with(web, "x-api-key", key)),
            None => (without(grpc, "x-api-key"), without(web, "x-api-key")),
        };
        let reply = edge.http2(grpc).await;
        assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::OK, "16"), "{key:?}");
        let reply = edge.http1(web).await;
        assert_eq!((reply.status, reply.header("grpc-status")), (StatusCode::UNAUTHORIZED, "16"), "{key:?}");
        assert!(!reply.header("grpc-message").is_empty());
    }
}

#[tokio::test]
async fn services_hear_of_the_consumer_and_never_of_the_key() {
    let edge = Edge::start().await;
    let key = edge.issue("till-7", &["order.read", "catalog.*"]).await;
    let request = with(edge.grpc("Headers", frame(b"")), "x-api-key", &key);
    let request = with(request, "x-omnimesh-consumer", "forged");
    let request = with(request, "x-omnimesh-role", "forged");
    let reply = edge.http2(with(request, "x-store", "7")).await;
    let seen = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(seen.contains(r#""x-omnimesh-consumer": "till-7""#), "{seen}");
    assert!(seen.contains(r#""x-omnimesh-permissions": "order.read,catalog.*""#), "{seen}");
    assert!(seen.contains(r#""x-store": "7""#), "{seen}");
    assert!(!seen.contains("forged") && !seen.contains("x-api-key") && !seen.contains(&key), "{seen}");
}

#[tokio::test]
async fn health_needs_no_key() {
    let edge = Edge::start().await;
    let request = edge.request(&format!("/{HEALTH}/Check"), "application/grpc", frame(b""));
    let reply = edge.http2(without(request, "x-api-key")).await;
    assert_eq!(reply.grpc_status(), Some(0));
}

#[tokio::test]
async fn expired_keys_are_refused() {
    let edge = Edge::start().await;
    let grant = Grant {
        consumer: "partner".to_owned(),
        permissions: vec!["*".to_owned()],
        lifetime: Some(Duration::ZERO),
    };
    let key = edge.keys.issue(grant).await.expect("key");
    let reply = edge.http2(with(edge.grpc("Echo", frame(b"hi")), "x-api-key", &key)).await;
    assert_eq!(reply.grpc_status(), Some(16));
}

#[tokio::test]
async fn keys_outlive_the_process_on_both_engines() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let directory = TempDir::new().expect("directory");
        let open = || Keys::open(&database.config, directory.path());
        let grant = Grant {
            consumer: "till-7".to_owned(),
            permissions: vec!["order.read".to_owned()],
            lifetime: Some(Duration::from_secs(3600)),
        };
        let key = open().await.expect("keys").issue(grant).await.expect("key");
        let keys = Arc::new(open().await.expect("keys"));
        let mut backend = Backend::new();
        let addr = backend.serve_tcp(None).await;
        let config = config(vec![upstream(Address::Tcp { addr, tls: None })]);
        let edge = Edge::start_with_keys(directory, backend, config, keys);
        for key in [&key, &edge.admin_key] {
            let reply = edge.http2(with(edge.grpc("Echo", frame(b"hi")), "x-api-key", key)).await;
            assert_eq!(reply.grpc_status(), Some(0));
        }
    }
}

#[tokio::test]
async fn the_admin_key_lasts_until_its_file_is_lost() {
    let directory = TempDir::new().expect("directory");
    let file = directory.path().join("admin.key");
    let read = || std::fs::read_to_string(&file).expect("admin key");
    open_keys(directory.path()).await;
    let first = read();
    assert_eq!(std::fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
    open_keys(directory.path()).await;
    assert_eq!(read(), first, "kept");
    std::fs::remove_file(&file).expect("removed");
    let edge = Edge::start_with(directory, Backend::new(), config(vec![])).await;
    assert_ne!(format!("{}\n", edge.admin_key), first, "replaced");
    let old = with(edge.grpc("Echo", frame(b"hi")), "x-api-key", first.trim());
    assert_eq!(edge.http2(old).await.grpc_status(), Some(16));
    assert_eq!(edge.http2(edge.grpc("Echo", frame(b"hi"))).await.grpc_status(), Some(12));
}

#[tokio::test]
async fn secrets_are_not_in_the_database() {
    let edge = Edge::start().await;
    let secret = edge.admin_key.rsplit('_').next().expect("secret");
    let database = edge.directory.path().join("db");
    for file in std::fs::read_dir(database).expect("database") {
        let bytes = std::fs::read(file.expect("file").path()).expect("readable");
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}
