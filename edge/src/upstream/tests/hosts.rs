//! Which hosts are asked: health checks, outliers, names, and who is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{LbEndpoint, LocalityLbEndpoints};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connections::{number, time};
use super::servers::{cluster, endpoint, http1_config, listen, whole};
use crate::upstream::{Cluster, FailureKind, Want};

/// An HTTP/1.1 server whose answers have the status that `status` holds.
async fn http1(status: &Arc<AtomicU16>) -> SocketAddr {
    let (listener, address) = listen().await;
    let status = Arc::clone(status);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let status = Arc::clone(&status);
            let service = service_fn(move |_| {
                let answer =
                    http::Response::builder().status(status.load(Ordering::SeqCst)).body(String::new());
                async { Ok::<_, hyper::Error>(answer.expect("an answer")) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    address
}

fn check(checker: HealthChecker) -> HealthCheck {
    let often = time(Duration::from_millis(5));
    HealthCheck {
        timeout: time(Duration::from_secs(5)),
        interval: often,
        no_traffic_interval: often,
        unhealthy_threshold: number(1),
        healthy_threshold: number(1),
        health_checker: Some(checker),
        ..Default::default()
    }
}

async fn started(cluster: &Cluster) -> CancellationToken {
    let stop = CancellationToken::new();
    cluster.start(&Handle::current(), &stop);
    cluster.warm().await;
    stop
}

/// Waits until the health of the cluster's hosts is `healthy`.
async fn until_healthy(cluster: &Cluster, healthy: i64) {
    while cluster.stats.membership_healthy.value() != healthy {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_host_that_fails_its_http_check_is_not_asked_until_it_is_well() {
    let status = Arc::new(AtomicU16::new(503));
    let mut config = http1_config(&[http1(&status).await]);
    let http = HttpHealthCheck { path: "/healthz".to_owned(), ..Default::default() };
    config.health_checks = vec![check(HealthChecker::HttpHealthCheck(http))];
    config.common_lb_config.get_or_insert_default().healthy_panic_threshold = Some(Default::default());
    let backend = cluster(&config);
    let _stop = started(&backend).await;
    let failure = whole(&backend, "hello").await.expect_err("nobody is well");
    assert_eq!(failure.kind, FailureKind::NoHealthyHost);
    assert!(backend.describe().contains("::health_flags::/failed_active_hc\n"));
    status.store(200, Ordering::SeqCst);
    until_healthy(&backend, 1).await;
    assert_eq!(whole(&backend, "hello").await.expect("an answer").0, 200);
    status.store(503, Ordering::SeqCst);
    until_healthy(&backend, 0).await;
}

#[tokio::test]
async fn tcp_checks_find_who_listens() {
    let (here, address) = listen().await;
    let (gone, dead) = listen().await;
    drop(gone);
    let mut config = http1_config(&[address, dead]);
    config.health_checks = vec![check(HealthChecker::TcpHealthCheck(TcpHealthCheck::default()))];
    let backend = cluster(&config);
    assert_eq!(backend.stats.membership_healthy.value(), 0, "nobody is called unasked");
    let _stop = started(&backend).await;
    assert_eq!(backend.stats.membership_healthy.value(), 1);
    drop(here);
}

#[tokio::test]
async fn grpc_checks_ask_for_a_service() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("retail.Catalog", tonic_health::ServingStatus::Serving).await;
    let (listener, address) = listen().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut config = super::servers::http2_config(&[address]);
    let grpc = GrpcHealthCheck { service_name: "retail.Catalog".to_owned(), ..Default::default() };
    config.health_checks = vec![check(HealthChecker::GrpcHealthCheck(grpc))];
    let backend = cluster(&config);
    let _stop = started(&backend).await;
    until_healthy(&backend, 1).await;
    reporter.set_service_status("retail.Catalog", tonic_health::ServingStatus::NotServing).await;
    until_healthy(&backend, 0).await;
}

#[tokio::test]
async fn a_host_that_fails_again_and_again_is_left_out_for_a_while() {
    let mut config = http1_config(&["127.0.0.1:1".parse().expect("ok"), "127.0.0.1:2".parse().expect("ok")]);
    config.outlier_detection = Some(OutlierDetection {
        consecutive_5xx: number(3),
        max_ejection_percent: number(50),
        ..Default::default()
    });
    let backend = cluster(&config);
    let hosts = backend.core.members.hosts();
    for status in [500, 503, 200, 500, 500] {
        hosts[0].answered(status);
    }
    assert_eq!(backend.stats.membership_healthy.value(), 2, "a success in between begins anew");
    hosts[0].answered(500);
    assert_eq!(backend.stats.membership_healthy.value(), 1);
    assert!(backend.describe().contains("127.0.0.1:1::health_flags::/failed_outlier_check\n"));
    for _ in 0..3 {
        hosts[1].answered(500);
    }
    assert_eq!(backend.stats.membership_healthy.value(), 1, "not more than half of the hosts are left out");
    let detector = backend.core.detector.as_ref().expect("a detector");
    let now = Instant::now();
    detector.sweep(now + Duration::from_secs(29));
    assert_eq!(backend.stats.membership_healthy.value(), 1);
    detector.sweep(now + Duration::from_secs(31));
    assert_eq!(backend.stats.membership_healthy.value(), 2);
}

#[tokio::test]
async fn a_host_that_does_worse_than_the_others_is_left_out() {
    let addresses: Vec<_> = (1..=6).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let mut config = http1_config(&addresses);
    config.outlier_detection = Some(OutlierDetection { consecutive_5xx: number(1000), ..Default::default() });
    let backend = cluster(&config);
    let hosts = backend.core.members.hosts();
    for (at, host) in hosts.iter().enumerate() {
        for call in 0..100 {
            host.answered(if at == 5 && call % 2 == 0 { 500 } else { 200 });
        }
    }
    backend.core.detector.as_ref().expect("a detector").sweep(Instant::now());
    assert!(hosts[5].health_flags().contains("failed_outlier_check"));
    assert_eq!(backend.stats.membership_healthy.value(), 5);
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let status = Arc::new(AtomicU16::new(200));
    let address = http1(&status).await;
    for kind in [DiscoveryType::StrictDns, DiscoveryType::LogicalDns] {
        let mut config = http1_config(&[address]);
        config.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
        config.dns_lookup_family = 1;
        let endpoint = &mut config.load_assignment.as_mut().expect("hosts").endpoints[0].lb_endpoints[0];
        let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier else { unreachable!() };
        let address = endpoint.address.as_mut().and_then(|address| address.address.as_mut());
        let Some(AddressKind::SocketAddress(socket)) = address else { unreachable!() };
        socket.address = "localhost".to_owned();
        let backend = cluster(&config);
        let failure = whole(&backend, "hello").await.expect_err("not looked up yet");
        assert_eq!(failure.kind, FailureKind::NoHealthyHost);
        let _stop = started(&backend).await;
        assert_eq!(whole(&backend, "hello").await.expect("an answer").0, 200);
        assert!(backend.describe().contains("::hostname::localhost\n"));
    }
}

/// A cluster of ten hosts of each of so many priorities, of which so many are healthy and degraded.
fn with_priorities(levels: &[(usize, usize)]) -> Arc<Cluster> {
    let mut config = http1_config(&[]);
    let localities = &mut config.load_assignment.as_mut().expect("hosts").endpoints;
    localities.clear();
    for (priority, &(healthy, degraded)) in (0..).zip(levels) {
        let endpoints = (0..10).map(|at| LbEndpoint {
            health_status: match at {
                _ if at < healthy => HealthStatus::Healthy,
                _ if at < healthy + degraded => HealthStatus::Degraded,
                _ => HealthStatus::Unhealthy,
            } as i32,
            ..endpoint(SocketAddr::from(([127, 0, priority, 1], 1000 + u16::try_from(at).expect("small"))))
        });
        localities.push(LocalityLbEndpoints {
            priority: priority.into(),
            lb_endpoints: endpoints.collect(),
            ..Default::default()
        });
    }
    cluster(&config)
}

#[test]
fn calls_go_to_the_next_priority_as_envoy_documents() {
    // Envoy's documentation, "Priority levels" and "Panic threshold": percent of calls for each priority.
    let cases: [(&[(usize, usize)], &[usize]); 10] = [
        (&[(10, 0), (10, 0)], &[100, 0]),
        (&[(8, 0), (10, 0)], &[100, 0]),
        (&[(7, 0), (10, 0)], &[98, 2]),
        (&[(5, 0), (10, 0)], &[70, 30]),
        (&[(0, 0), (10, 0)], &[0, 100]),
        (&[(5, 0), (0, 0)], &[100, 0]),
        (&[(2, 0), (2, 0)], &[50, 50]),
        (&[(0, 0), (0, 0)], &[100, 0]),
        (&[(5, 5), (0, 0)], &[100, 0]),
        (&[(0, 10), (10, 0)], &[0, 100]),
    ];
    for (levels, expected) in cases {
        let backend = with_priorities(levels);
        let mut counts = vec![0; levels.len()];
        for random in 0..100 {
            let host = backend.core.members.pick(&Want { random, ..Want::default() }).expect("a host");
            counts[host.spec.priority as usize] += 1;
        }
        assert_eq!(counts, expected, "{levels:?}");
    }
}

#[test]
fn everybody_is_asked_where_too_few_are_well() {
    let asked = |healthy| {
        let backend = with_priorities(&[(healthy, 0)]);
        let hosts: std::collections::HashSet<_> = (0..100)
            .map(|random| backend.core.members.pick(&Want { random, ..Want::default() }).expect("a host").id)
            .collect();
        (hosts.len(), backend.stats.lb_healthy_panic.value())
    };
    assert_eq!(asked(5), (5, 0));
    assert_eq!(asked(4), (10, 100));
}

#[test]
fn hosts_that_were_tried_are_avoided() {
    let config = http1_config(&["127.0.0.1:1".parse().expect("ok"), "127.0.0.1:2".parse().expect("ok")]);
    let backend = cluster(&config);
    let tried = vec![Arc::clone(&backend.core.members.hosts()[0])];
    let mut want = Want { tried, redraws: 8, ..Want::default() };
    for _ in 0..10 {
        assert_eq!(&*backend.core.members.pick(&want).expect("a host").address, "127.0.0.1:2");
    }
    want.tried = backend.core.members.hosts();
    assert!(backend.core.members.pick(&want).is_some(), "better again than not at all");
}
