//! Streams: both directions at once, resets, cancellation, flow control.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

use super::servers::{channel, cluster, echo, frame, http2, http2_config, request, streaming};
use crate::upstream::{FailureKind, Want};

#[tokio::test]
async fn both_directions_flow_at_once_and_request_trailers_pass() {
    let backend = cluster(&http2_config(&[http2(echo).await]));
    let (mut client, body) = channel().await;
    let mut answered =
        backend.call(streaming(body), &Want::default()).await.expect("an answer before the end");
    for word in ["one", "two", "three"] {
        client.data(word);
        assert_eq!(frame(&mut answered.body).await.into_data().expect("data"), word);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-said", "all".parse().expect("a value"));
    client.trailers(trailers);
    let trailers = frame(&mut answered.body).await.into_trailers().expect("trailers");
    assert_eq!(
        (&trailers["x-said"], &trailers["grpc-status"]),
        (&"all".parse().expect("ok"), &"0".parse().expect("ok"))
    );
    assert!(answered.body.is_end_stream());
    assert_eq!(backend.stats.upstream_rq_active.value(), 0);
}

#[tokio::test]
async fn a_request_goes_on_while_nobody_reads_the_answer() {
    let (heard, mut hears) = mpsc::channel(1);
    let address = http2(move |request, mut respond| {
        let heard = heard.clone();
        async move {
            let _stream = respond.send_response(Response::new(()), false).expect("an answer");
            let mut body = request.into_body();
            let mut size = 0;
            while let Some(Ok(data)) = body.data().await {
                size += data.len();
                body.flow_control().release_capacity(data.len()).expect("capacity");
            }
            heard.send(size).await.expect("a listener");
        }
    })
    .await;
    let backend = cluster(&http2_config(&[address]));
    let (mut client, body) = channel().await;
    let _answered = backend.call(streaming(body), &Want::default()).await.expect("an answer");
    for _ in 0..64 {
        client.data(vec![7; 65_536]);
        tokio::task::yield_now().await;
    }
    drop(client);
    assert_eq!(hears.recv().await, Some(64 * 65_536));
}

#[tokio::test]
async fn a_reset_of_the_upstream_is_told() {
    for (reason, kind) in [
        (Reason::REFUSED_STREAM, FailureKind::RefusedStream),
        (Reason::INTERNAL_ERROR, FailureKind::Reset(Reason::INTERNAL_ERROR)),
        (Reason::NO_ERROR, FailureKind::Reset(Reason::NO_ERROR)),
    ] {
        let address = http2(move |_, mut respond| async move { respond.send_reset(reason) });
        let backend = cluster(&http2_config(&[address.await]));
        let failure = backend.call(request("hello"), &Want::default()).await.expect_err("a reset");
        assert_eq!(failure.kind, kind);
        assert_eq!(failure.sent, kind != FailureKind::RefusedStream);
        assert_eq!(backend.stats.upstream_rq_rx_reset.value(), 1);
        assert_eq!(backend.stats.upstream_rq_active.value(), 0);
    }
}

#[tokio::test]
async fn a_reset_without_error_ends_an_answer_and_any_other_breaks_it() {
    for (reason, whole) in [(Reason::NO_ERROR, true), (Reason::CANCEL, false)] {
        let read = Arc::new(Notify::new());
        let was_read = Arc::clone(&read);
        let address = http2(move |_, mut respond| {
            let was_read = Arc::clone(&was_read);
            async move {
                let mut stream = respond.send_response(Response::new(()), false).expect("an answer");
                stream.send_data("half".into(), false).expect("data");
                was_read.notified().await;
                stream.send_reset(reason);
            }
        });
        let backend = cluster(&http2_config(&[address.await]));
        let mut answered = backend.call(request("hello"), &Want::default()).await.expect("an answer");
        assert_eq!(frame(&mut answered.body).await.into_data().expect("data"), "half");
        read.notify_one();
        let ended = answered.body.collect().await;
        assert_eq!(ended.is_ok(), whole, "{reason:?}");
        if let Err(failure) = ended {
            assert_eq!(failure.kind, FailureKind::Reset(reason));
            assert!(failure.host.is_some());
        }
    }
}

#[tokio::test]
async fn giving_a_call_up_cancels_the_upstream_stream() {
    for answers in [false, true] {
        let (begun, mut begins) = mpsc::channel(1);
        let (told, mut tells) = mpsc::channel(1);
        let address = http2(move |_, mut respond| {
            let (begun, told) = (begun.clone(), told.clone());
            async move {
                begun.send(()).await.expect("a listener");
                let reason = if answers {
                    let mut stream = respond.send_response(Response::new(()), false).expect("an answer");
                    poll_fn(|cx| stream.poll_reset(cx)).await
                } else {
                    poll_fn(|cx| respond.poll_reset(cx)).await
                };
                told.send(reason.expect("a reset")).await.expect("a listener");
            }
        })
        .await;
        let backend = cluster(&http2_config(&[address]));
        let want = Want::default();
        if answers {
            drop(backend.call(request("hello"), &want).await.expect("an answer"));
        } else {
            let mut call = Box::pin(backend.call(request("hello"), &want));
            tokio::select! {
                _ = &mut call => panic!("nobody answers"),
                _ = begins.recv() => {}
            }
            assert!(want.chosen.host().is_some(), "it is known who did not answer");
        }
        assert_eq!(tells.recv().await, Some(Reason::CANCEL), "answered: {answers}");
        assert_eq!(backend.stats.upstream_rq_tx_reset.value(), 1);
        assert_eq!(backend.stats.upstream_rq_active.value(), 0);
    }
}

#[tokio::test]
async fn a_client_that_is_gone_cancels_the_upstream_stream() {
    let (told, mut tells) = mpsc::channel(1);
    let address = http2(move |_, mut respond| {
        let told = told.clone();
        async move {
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await.expect("a reset");
            told.send(reason).await.expect("a listener");
        }
    })
    .await;
    let backend = cluster(&http2_config(&[address]));
    let (mut client, body) = channel().await;
    client.data("hello");
    client.gone();
    let failure = backend.call(streaming(body), &Want::default()).await.expect_err("no answer");
    assert_eq!(failure.kind, FailureKind::ClientGone);
    assert_eq!(tells.recv().await, Some(Reason::CANCEL));
    assert_eq!(backend.stats.upstream_rq_tx_reset.value(), 1);
}

#[tokio::test]
async fn a_slow_reader_holds_its_upstream_back() {
    const WINDOW: usize = 1 << 20;
    let (told, mut tells) = mpsc::channel(1);
    let address = http2(move |_, mut respond| {
        let told = told.clone();
        async move {
            let mut stream = respond.send_response(Response::new(()), false).expect("an answer");
            let mut sent = 0;
            while sent < 3 * WINDOW {
                stream.reserve_capacity(16_384);
                let room = tokio::select! {
                    biased;
                    room = poll_fn(|cx| stream.poll_capacity(cx)) => room.expect("open").expect("open"),
                    () = told_when(sent == WINDOW, &told) => continue,
                };
                let room = room.min(16_384);
                stream.send_data(vec![1; room].into(), false).expect("data");
                sent += room;
            }
            stream.send_data(Bytes::new(), true).expect("an end");
        }
    })
    .await;
    let backend = cluster(&http2_config(&[address]));
    let answered = backend.call(request("hello"), &Want::default()).await.expect("an answer");
    assert_eq!(tells.recv().await, Some(()), "the upstream stops when the window is full");
    let received = answered.body.collect().await.expect("a whole answer").to_bytes();
    assert_eq!(received.len(), 3 * WINDOW);
}

async fn told_when(now: bool, told: &mpsc::Sender<()>) {
    if !now || told.try_send(()).is_err() {
        std::future::pending().await
    }
}
