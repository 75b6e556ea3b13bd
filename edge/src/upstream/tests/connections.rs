//! Connections: how they are made, shared, limited and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::CircuitBreakers;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::config::core::v3::{HttpProtocolOptions, KeepaliveSettings};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf;
use futures::future::join_all;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::servers::{cluster, echo, http1_config, http2, http2_config, listen, request, serve_http2, whole};
use crate::upstream::{FailureKind, Want};

pub(super) fn time(duration: Duration) -> Option<protobuf::Duration> {
    let nanos = i32::try_from(duration.subsec_nanos()).expect("nanos");
    Some(protobuf::Duration { seconds: duration.as_secs().cast_signed(), nanos })
}

pub(super) fn number(value: u32) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value })
}

#[tokio::test]
async fn a_host_that_refuses_connections_is_told_in_envoys_words() {
    let (listener, address) = listen().await;
    drop(listener);
    for config in [http2_config(&[address]), http1_config(&[address])] {
        let backend = cluster(&config);
        let failure = whole(&backend, "hello").await.expect_err("nobody listens");
        assert_eq!(failure.kind, FailureKind::ConnectFailure);
        assert_eq!(&*failure.reason, "delayed connect error: Connection refused");
        assert!(!failure.sent);
        assert_eq!(*failure.host.expect("a host").address, *address.to_string());
        assert_eq!(backend.stats.upstream_cx_connect_fail.value(), 1);
        assert_eq!(backend.stats.upstream_cx_active.value(), 0);
        assert_eq!(backend.stats.upstream_rq_pending_active.value(), 0);
    }
}

#[tokio::test]
async fn a_host_that_does_not_shake_hands_times_out() {
    let (listener, address) = listen().await;
    let mut config = http2_config(&[address]);
    config.connect_timeout = time(Duration::from_millis(20));
    config.transport_socket = Some(super::secure::socket(&Default::default()));
    let backend = cluster(&config);
    let failure = whole(&backend, "hello").await.expect_err("nobody answers");
    assert_eq!(failure.kind, FailureKind::ConnectTimeout);
    assert_eq!(backend.stats.upstream_cx_connect_timeout.value(), 1);
    drop(listener);
}

/// Answers when told to.
async fn patient(max_streams: u32) -> (std::net::SocketAddr, Arc<Notify>, mpsc::Receiver<()>) {
    let (listener, address) = listen().await;
    let go = Arc::new(Notify::new());
    let (begun, begins) = mpsc::channel(64);
    let gone = Arc::clone(&go);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (go, begun) = (Arc::clone(&gone), begun.clone());
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let handshake = builder.max_concurrent_streams(max_streams).handshake::<_, Bytes>(socket);
                let mut connection = handshake.await.expect("a preface");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let (go, begun) = (Arc::clone(&go), begun.clone());
                    tokio::spawn(async move {
                        begun.send(()).await.expect("a listener");
                        go.notified().await;
                        // The client may be gone.
                        let _ = respond.send_response(Response::new(()), true);
                    });
                }
            });
        }
    });
    (address, go, begins)
}

#[tokio::test]
async fn connections_are_added_where_the_upstream_limits_streams() {
    let (address, go, mut begins) = patient(2).await;
    let backend = cluster(&http2_config(&[address]));
    // The limit is known once the first answer is there.
    go.notify_one();
    whole(&backend, "hello").await.expect("an answer");
    begins.recv().await.expect("a call");
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { whole(&backend, "hello").await.map(|(status, _)| status) })
        })
        .collect();
    for _ in 0..6 {
        begins.recv().await.expect("a call");
    }
    assert_eq!(backend.stats.upstream_cx_active.value(), 3);
    for _ in 0..6 {
        go.notify_one();
        tokio::task::yield_now().await;
    }
    for call in join_all(calls).await {
        assert_eq!(call.expect("no panic").expect("an answer"), 200);
    }
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let backend = cluster(&http2_config(&[http2(echo).await]));
    let calls = (0..100).map(|_| whole(&backend, "hello"));
    for answer in join_all(calls).await {
        assert_eq!(answer.expect("an answer").1, "hello");
    }
    assert_eq!(backend.stats.upstream_cx_total.value(), 1);
}

#[tokio::test]
async fn a_connection_that_says_goodbye_ends_its_calls_and_gets_no_more() {
    let (listener, address) = listen().await;
    let (told, mut tells) = mpsc::channel(1);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut first = h2::server::handshake(socket).await.expect("a preface");
        let (_, mut respond) = first.accept().await.expect("a call").expect("a call");
        first.graceful_shutdown();
        tokio::spawn(async move {
            while let Some(Ok((request, respond))) = first.accept().await {
                tokio::spawn(echo(request, respond));
            }
            told.send(()).await.expect("a listener");
        });
        // The goodbye is on its way; the next connection proves that it was heard.
        let (socket, _) = listener.accept().await.expect("another connection");
        tokio::spawn(serve_http2(socket, echo));
        respond.send_response(Response::new(()), true).expect("an answer");
    });
    let backend = cluster(&http2_config(&[address]));
    let first = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { whole(&backend, "first").await }
    });
    // Calls until one of them meets the second connection.
    while backend.stats.upstream_rq_active.value() == 0 {
        tokio::task::yield_now().await;
    }
    while backend.stats.upstream_cx_total.value() < 2 {
        assert_eq!(whole(&backend, "second").await.expect("an answer").1, "second");
    }
    assert_eq!(first.await.expect("no panic").expect("the call is not cut").0, 200);
    assert_eq!(tells.recv().await, Some(()), "the first connection closes when its call has ended");
}

#[tokio::test]
async fn a_connection_takes_only_so_many_requests() {
    let mut config = http2_config(&[http2(echo).await]);
    config.max_requests_per_connection = number(2);
    let backend = cluster(&config);
    for _ in 0..5 {
        assert_eq!(whole(&backend, "hello").await.expect("an answer").1, "hello");
    }
    assert_eq!(backend.stats.upstream_cx_total.value(), 3);
    assert_eq!(backend.stats.upstream_cx_max_requests.value(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (listener, address) = listen().await;
    let (told, mut tells) = mpsc::channel(1);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        serve_http2(socket, echo).await;
        told.send(()).await.expect("a listener");
    });
    let mut config = http2_config(&[address]);
    let idle_timeout = time(Duration::from_millis(20));
    config.common_http_protocol_options = Some(HttpProtocolOptions { idle_timeout, ..Default::default() });
    let backend = cluster(&config);
    whole(&backend, "hello").await.expect("an answer");
    assert_eq!(tells.recv().await, Some(()));
    assert_eq!(backend.stats.upstream_cx_idle_timeout.value(), 1);
    assert_eq!(backend.stats.upstream_cx_destroy_remote.value(), 0);
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        // Settings, and then silence.
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await.expect("an end");
    });
    let mut config = http2_config(&[address]);
    let (interval, timeout) = (time(Duration::from_millis(20)), time(Duration::from_millis(20)));
    config.http2_protocol_options.as_mut().expect("options").connection_keepalive =
        Some(KeepaliveSettings { interval, timeout, ..Default::default() });
    let backend = cluster(&config);
    let failure = whole(&backend, "hello").await.expect_err("no answer");
    assert_eq!(failure.kind, FailureKind::ConnectionTermination);
}

#[tokio::test]
async fn a_cluster_that_is_gone_closes_its_connections() {
    let (listener, address) = listen().await;
    let (told, mut tells) = mpsc::channel(1);
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        serve_http2(socket, echo).await;
        told.send(()).await.expect("a listener");
    });
    let backend = cluster(&http2_config(&[address]));
    let answered = backend.call(request("hello"), &Want::default()).await.expect("an answer");
    drop(backend);
    // The call that is under way is not cut.
    assert_eq!(answered.body.collect().await.expect("a whole answer").to_bytes(), "hello");
    assert_eq!(tells.recv().await, Some(()));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_call() {
    let (listener, address) = listen().await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        // Says that it keeps the connection, and closes it.
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut heard = [0; 4096];
            let size = socket.read(&mut heard).await.expect("a request");
            assert!(size > 0);
            socket
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .expect("sent");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let backend = cluster(&http1_config(&[address]));
    for _ in 0..20 {
        let (status, body) = whole(&backend, Bytes::new()).await.expect("an answer");
        assert_eq!((status, &*body), (200, &b"ok"[..]));
    }
    assert_eq!(served.load(Ordering::Relaxed), 20);
}

fn breakers(thresholds: Thresholds) -> Option<CircuitBreakers> {
    Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() })
}

#[tokio::test]
async fn no_more_requests_than_the_breaker_allows() {
    let (address, go, mut begins) = patient(100).await;
    let mut config = http2_config(&[address]);
    config.circuit_breakers = breakers(Thresholds { max_requests: number(1), ..Default::default() });
    let backend = cluster(&config);
    let first = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { whole(&backend, "hello").await }
    });
    begins.recv().await.expect("a call");
    let failure = whole(&backend, "hello").await.expect_err("one too many");
    assert_eq!(failure.kind, FailureKind::Overflow);
    assert_eq!(backend.stats.upstream_rq_pending_overflow.value(), 1);
    // The other priority has limits of its own.
    go.notify_one();
    first.await.expect("no panic").expect("an answer");
    go.notify_one();
    whole(&backend, "hello").await.expect("room again");
}

#[tokio::test]
async fn no_more_connections_than_the_breaker_allows() {
    let (address, go, mut begins) = patient(1).await;
    let mut config = http2_config(&[address]);
    config.http2_protocol_options.as_mut().expect("options").max_concurrent_streams = number(1);
    config.circuit_breakers = breakers(Thresholds { max_connections: number(1), ..Default::default() });
    let backend = cluster(&config);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { whole(&backend, "hello").await })
        })
        .collect();
    for _ in 0..3 {
        begins.recv().await.expect("a call");
        go.notify_one();
    }
    for call in join_all(calls).await {
        call.expect("no panic").expect("an answer");
    }
    assert_eq!(backend.stats.upstream_cx_total.value(), 1);
    assert_eq!(backend.stats.upstream_cx_overflow.value(), 2);
}

#[tokio::test]
async fn retries_have_limits_and_budgets() {
    let backend = cluster(&http1_config(&[]));
    let permits: Vec<_> = (0..4).map(|_| backend.try_retry(false)).collect();
    assert_eq!(permits.iter().flatten().count(), 3, "three are the default");
    assert!(backend.try_retry(true).is_some(), "the other priority counts for itself");
    drop(permits);
    assert!(backend.try_retry(false).is_some());

    let mut config = http1_config(&[]);
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: 50.0 }),
        min_retry_concurrency: number(1),
        ..Default::default()
    };
    config.circuit_breakers = breakers(Thresholds { retry_budget: Some(budget), ..Default::default() });
    let backend = cluster(&config);
    let first = backend.try_retry(false);
    assert!(first.is_some() && backend.try_retry(false).is_none(), "one even where nothing is under way");
}
