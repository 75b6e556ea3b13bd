//! What the server does with calls that fail, take too long, come too many or are under way when it stops.

use std::time::Duration;

use mesh::{Code as MeshCode, Config, PeerError};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{READ, Running, SERVICE, probe, said, unary, watch};

#[tokio::test]
async fn a_panic_is_internal_and_the_server_goes_on() {
    let server = Running::start(Config::default(), None).await;
    let status = unary(server.channel("reader"), READ, probe("panic")).await.unwrap_err();
    let id = status.get_details_error_info().unwrap().metadata["error_id"].clone();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), format!("internal error (error id {id})"));
    unary(server.channel("reader"), READ, Request::new(())).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_panic_in_a_stream_ends_it_as_internal() {
    let server = Running::start(Config::default(), None).await;
    let mut stream = watch(server.channel("reader"), probe("panic")).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), Some(()));
    server.probe.released.add_permits(1);
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("secret"), "{}", status.message());
    server.stop().await;
}

#[tokio::test]
async fn a_unary_call_ends_at_the_servers_limit_and_a_stream_does_not() {
    let mut config = Config::default();
    config.limits.unary_timeout_ms = 50;
    let server = Running::start(config, None).await;
    let mut stream = watch(server.channel("reader"), Request::new(())).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), Some(()));
    let status = unary(server.channel("reader"), READ, probe("hang")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    server.probe.released.add_permits(1);
    assert_eq!(stream.message().await.unwrap(), Some(()), "the stream outlives the limit of unary calls");
    server.stop().await;
}

#[tokio::test]
async fn calls_and_streams_end_at_the_clients_deadline() {
    let server = Running::start(Config::default(), None).await;
    let with_timeout = |mut request: Request<()>| {
        request.set_timeout(Duration::from_millis(100));
        request
    };
    let status = unary(server.channel("reader"), READ, with_timeout(probe("hang"))).await.unwrap_err();
    // Client and server watch the same deadline, and either may be first to say so.
    assert_eq!(PeerError::new(SERVICE, status).code, MeshCode::DeadlineExceeded);
    let mut stream = watch(server.channel("reader"), with_timeout(Request::new(()))).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), Some(()));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_is_handed_on_to_peers() {
    let server = Running::start(Config::default(), None).await;
    let answer = unary(server.channel("reader"), READ, probe("relay")).await.unwrap();
    let handed_on = said(&answer, "x-timeout").expect("the server's own limit reaches the peer");
    assert!(handed_on.ends_with(['n', 'u', 'm', 'S']), "{handed_on}");
    server.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_turned_away_at_once() {
    let mut config = Config::default();
    config.limits.concurrent_calls = 1;
    let server = Running::start(config, None).await;
    let held = tokio::spawn(unary(server.channel("reader"), READ, probe("hold")));
    server.probe.wait_entered().await;

    let status = unary(server.channel("reader"), READ, Request::new(())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert!(PeerError::new(SERVICE, status).is_retryable());
    let health = server.peers.channel_to("ingest", "grpc.health.v1.Health");
    let mut health = tonic_health::pb::health_client::HealthClient::new(health);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();

    server.probe.released.add_permits(1);
    held.await.unwrap().unwrap();
    unary(server.channel("reader"), READ, Request::new(())).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_finishes_calls_and_refuses_new_ones() {
    let server = Running::start(Config::default(), None).await;
    let channel = server.channel("reader");
    let held = tokio::spawn(unary(channel.clone(), READ, probe("hold")));
    server.probe.wait_entered().await;
    let mut stream = watch(channel, Request::new(())).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), Some(()));

    server.begin_stop();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "SERVER_STOPPING");
    let refused = unary(server.channel("reader"), READ, Request::new(())).await.unwrap_err();
    assert_eq!(PeerError::new(SERVICE, refused).code, MeshCode::Unavailable);

    server.probe.released.add_permits(1);
    held.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_does_not_finish_holds_the_server_no_longer_than_the_drain_time() {
    let mut config = Config::default();
    config.limits.drain_ms = 20;
    let server = Running::start(config, None).await;
    let hung = tokio::spawn(unary(server.channel("reader"), READ, probe("hold")));
    server.probe.wait_entered().await;
    server.stop().await;
    hung.abort();
}
