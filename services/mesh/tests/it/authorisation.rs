//! Who may call what.

use mesh::{CONSUMER_HEADER, Config, PERMISSIONS_HEADER};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{READ, Running, SERVICE, WATCH, WRITE, said, unary, watch, with};

#[tokio::test]
async fn workloads_call_what_the_policy_lists() {
    let server = Running::start(Config::default(), None).await;
    for (workload, method, expected) in [
        ("reader", READ, Code::Ok),
        ("reader", WRITE, Code::PermissionDenied),
        ("lake", WRITE, Code::Ok),
        ("admin", WRITE, Code::Ok),
        ("stranger", READ, Code::PermissionDenied),
        ("admin", "NoSuchMethod", Code::Unimplemented),
    ] {
        let code = unary(server.channel(workload), method, Request::new(()))
            .await
            .map_or_else(|s| s.code(), |_| Code::Ok);
        assert_eq!(code, expected, "{workload} calls {method}");
    }
    let refused = watch(server.channel("stranger"), Request::new(())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{WATCH}");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_permission_for_programs() {
    let server = Running::start(Config::default(), None).await;
    let refused = unary(server.channel("reader"), WRITE, Request::new(())).await.unwrap_err();
    assert_eq!(refused.message(), "workload reader lacks the permission ingest.write");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PERMISSION_DENIED", "mesh.omnimesh"));
    assert_eq!(info.metadata["permission"], "ingest.write");
    server.stop().await;
}

#[tokio::test]
async fn the_edge_speaks_for_consumers_and_nobody_else_does() {
    let server = Running::start(Config::default(), None).await;
    let forwarded = |permissions: &'static str| {
        let mut request = with(CONSUMER_HEADER, "c1");
        request.metadata_mut().insert(PERMISSIONS_HEADER, permissions.parse().unwrap());
        request
    };
    let allowed = unary(server.channel("edge"), READ, forwarded("ingest.read")).await.unwrap();
    assert_eq!(said(&allowed, "x-caller"), Some("consumer c1"));
    let denied = unary(server.channel("edge"), WRITE, forwarded("ingest.read")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    // Another workload's headers neither add permissions nor hide who it is.
    let denied = unary(server.channel("stranger"), READ, forwarded("*")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let itself = unary(server.channel("reader"), READ, forwarded("")).await.unwrap();
    assert_eq!(said(&itself, "x-caller"), Some("workload reader"));
    let nameless = unary(server.channel("edge"), READ, with(CONSUMER_HEADER, "")).await.unwrap_err();
    assert_eq!(nameless.code(), Code::Unauthenticated);
    server.stop().await;
}

#[tokio::test]
async fn a_plaintext_caller_has_no_identity() {
    let mut config = Config::default();
    config.listen.tcp = Some("127.0.0.1:0".parse().unwrap());
    config.listen.plaintext = true;
    let server = Running::start(config, None).await;
    let address = format!("http://{}", server.address.unwrap());
    let channel = tonic::transport::Endpoint::try_from(address).unwrap().connect().await.unwrap();
    let refused = unary(channel.clone(), READ, with(CONSUMER_HEADER, "c1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{SERVICE}");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    server.stop().await;
}
