//! Calls over both protocols.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::servers::{cluster, echo, http1_config, http2, http2_config, listen, request, whole};
use crate::upstream::Want;

const SIZES: [usize; 12] =
    [0, 1, 16_383, 16_384, 16_385, 65_530, 65_535, 65_536, 65_540, 1 << 20, 5 << 20, 16 << 20];

fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_message_of_any_size_passes_both_ways_over_http2() {
    let backend = cluster(&http2_config(&[http2(echo).await]));
    for size in SIZES {
        let sent = pattern(size);
        let answered = backend.call(request(sent.clone()), &Want::default()).await.expect("an answer");
        let received = answered.body.collect().await.expect("a whole answer");
        assert_eq!(received.trailers().expect("trailers")["grpc-status"], "0");
        assert!(received.to_bytes() == sent, "{size} bytes came back changed");
    }
}

#[tokio::test]
async fn a_message_of_any_size_passes_both_ways_over_http1() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
                assert_eq!(request.headers()["host"], "backend.test");
                Ok::<_, hyper::Error>(http::Response::new(request.into_body()))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let backend = cluster(&http1_config(&[address]));
    for size in SIZES {
        let sent = pattern(size);
        let (status, received) = whole(&backend, sent.clone()).await.expect("an answer");
        assert_eq!(status, 200);
        assert!(received == sent, "{size} bytes came back changed");
    }
    assert_eq!(backend.stats.upstream_cx_total.value(), 1, "the connection is kept");
    assert_eq!(backend.stats.upstream_rq_completed.value(), SIZES.len() as u64);
    assert_eq!(backend.stats.upstream_rq_tx_reset.value(), 0);
}
