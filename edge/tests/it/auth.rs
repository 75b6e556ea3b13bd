//! API keys: who gets in, and what services hear of it.

use std::os::unix::fs::PermissionsExt;

use edge::{Consumers, DatabaseUrl, Grant};
use http::StatusCode;
use tempfile::TempDir;

use crate::backend::{Backend, HEALTH, frame};
use crate::harness::{Edge, config, grant, tcp, upstream, with, without};

#[tokio::test]
async fn calls_without_a_valid_key_are_refused_on_both_protocols() {
    let edge = Edge::start().await;
    let mut wrong_secret = edge.admin_key.clone();
    let last = if wrong_secret.pop() == Some('a') { 'b' } else { 'a' };
    wrong_secret.push(last);
    for key in [None, Some(""), Some("omk_unknown_secret"), Some(wrong_secret.as_str()), Some("omk_x")] {
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
    edge.becomes(&key, SERVED).await;
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
    let expiring = |expires_at| Grant { expires_at: Some(expires_at), ..grant("partner") };
    let (_, expired) = edge.consumers.issue(expiring(0), None).await.expect("key");
    let (_, valid) = edge.consumers.issue(expiring(i64::MAX), None).await.expect("key");
    edge.becomes(&valid, SERVED).await;
    assert_eq!(edge.status(&expired).await, UNAUTHENTICATED);
}

#[tokio::test]
async fn keys_outlive_the_process_on_both_engines() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let directory = TempDir::new().expect("directory");
        let open = async || Consumers::open(&database.config).await.expect("keys");
        let (_, key) = open().await.issue(grant("till-7"), None).await.expect("key");
        let edge = on_database(&database.config, directory).await;
        for key in [&key, &edge.admin_key] {
            assert_eq!(edge.status(key).await, SERVED);
        }
    }
}

#[tokio::test]
async fn keys_are_listed_and_revoked_on_both_engines() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let keys = Consumers::open(&database.config).await.expect("consumers");
        let mut issued = Vec::new();
        for consumer in ["till-7", "till-7", "till-7", "shop"] {
            issued.push(keys.issue(grant(consumer), None).await.expect("key"));
        }
        let list = async || {
            let keys = keys.list().await.expect("keys").into_iter();
            keys.map(|key| (key.grant.consumer.clone(), key.name())).collect::<Vec<_>>()
        };
        let name = |index: usize| (issued[index].0.grant.consumer.clone(), issued[index].0.name());
        assert_eq!(list().await, [name(3), name(0), name(1), name(2)]);
        assert!(issued[0].1.starts_with(&format!("{}_", issued[0].0.name())), "a key begins with its id");
        for (revoke, count, left) in [
            ("till", 0, vec![3, 0, 1, 2]),
            ("omk_unknown", 0, vec![3, 0, 1, 2]),
            (&*issued[0].0.name(), 1, vec![3, 1, 2]),
            (&*issued[1].1, 1, vec![3, 2]),
            ("till-7", 1, vec![3]),
            ("till-7", 0, vec![3]),
        ] {
            assert_eq!(keys.revoke(revoke).await.expect("revoked"), count, "{revoke}");
            assert_eq!(list().await, left.into_iter().map(name).collect::<Vec<_>>(), "{revoke}");
        }
    }
}

#[tokio::test]
async fn a_running_edge_hears_of_keys_that_another_process_adds_and_revokes() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let edge = on_database(&database.config, TempDir::new().expect("directory")).await;
        let elsewhere = Consumers::open(&database.config).await.expect("keys");
        let (_, key) = elsewhere.issue(grant("till-7"), None).await.expect("key");
        edge.becomes(&key, SERVED).await;
        elsewhere.revoke("till-7").await.expect("revoked");
        edge.becomes(&key, UNAUTHENTICATED).await;
        assert_eq!(edge.status(&edge.admin_key).await, SERVED);
    }
}

#[tokio::test]
async fn names_that_mislead_are_refused() {
    let edge = Edge::start().await;
    for consumer in
        ["", "admin", "operator", "omk_till", "-till", "till 7", "till\n", "ti,ll", &"x".repeat(64)]
    {
        let error = edge.consumers.issue(grant(consumer), None).await.expect_err("refused");
        assert!(error.to_string().starts_with(&format!("`{consumer}` cannot be")), "{error}");
    }
    edge.consumers.issue(grant("Till_7.berlin@shop-1"), None).await.expect("key");
}

#[tokio::test]
async fn an_admin_key_is_its_data_directorys_own() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let one = on_database(&database.config, TempDir::new().expect("directory")).await;
        let other = on_database(&database.config, TempDir::new().expect("directory")).await;
        assert_ne!(one.admin_key, other.admin_key);
        let file = one.directory.path().join("admin.key");
        assert_eq!(std::fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);

        // A start with the file keeps its key, one without it makes another; neither ends anybody's.
        let keys = Consumers::open(&database.config).await.expect("keys");
        keys.ensure_admin(one.directory.path()).await.expect("kept");
        let read = || std::fs::read_to_string(&file).expect("admin key").trim().to_owned();
        assert_eq!(read(), one.admin_key);
        std::fs::remove_file(&file).expect("removed");
        keys.ensure_admin(one.directory.path()).await.expect("made");
        assert_ne!(read(), one.admin_key);
        for key in [&read(), &one.admin_key, &other.admin_key] {
            other.becomes(key, SERVED).await;
            one.becomes(key, SERVED).await;
        }
        // A revoked one is none.
        assert_eq!(keys.revoke("admin").await.expect("revoked"), 3);
        keys.ensure_admin(one.directory.path()).await.expect("made");
        other.becomes(&other.admin_key, UNAUTHENTICATED).await;
        other.becomes(&read(), SERVED).await;
    }
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

/// What the backend's answer to the call of [`status`] is, and the edge's where it does not know the key.
const SERVED: Option<i32> = Some(0);
const UNAUTHENTICATED: Option<i32> = Some(16);

/// An edge whose keys are in that database.
async fn on_database(database: &storage::Config, directory: TempDir) -> Edge {
    let mut backend = Backend::new();
    let address = backend.serve_tcp(None).await;
    let mut config = config(directory.path(), vec![upstream(tcp(address, None))]);
    config.consumers = DatabaseUrl::Plain(database.url.clone());
    Edge::start_with(directory, backend, &config).await
}
