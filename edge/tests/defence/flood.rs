//! Floods of HTTP/2: the connection that carries one ends, and no other one notices.

use serde_json::json;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::ends;
use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, PRIORITY,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::honest::{Client, Protocol};

const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A call that is begun and left open.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &frames::call("Hold"))
}

fn odd(number: u32) -> u32 {
    2 * number + 1
}

/// A header of 4 KiB goes into the table once and is named many times.
fn hpack_bomb(times: usize) -> Vec<u8> {
    let mut block = frames::call("Echo");
    block.push(0x40);
    frames::integer(&mut block, 1);
    block.push(b'a');
    frames::integer(&mut block, 3900);
    block.extend([b'b'; 3900]);
    block.extend(vec![0xbe; times]);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

/// What is sent once, what is sent again and again, and how the connection must end.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>, Option<u32>);

#[tokio::test]
async fn a_flood_ends_its_connection_and_no_other() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let mut neighbour = Client::connect(Protocol::Grpc, edge.address(), None).await;
    let floods: [Flood; 9] = [
        (
            "rapid reset",
            Vec::new(),
            |n| [open(odd(n)), frame(RST_STREAM, 0, odd(n), &CANCEL)].concat(),
            Some(ENHANCE_YOUR_CALM),
        ),
        (
            "CONTINUATION",
            frame(HEADERS, END_STREAM, 1, &frames::call("Echo")),
            |n| frame(CONTINUATION, 0, 1, &frames::block(&[("x-more", &n.to_string())])),
            Some(ENHANCE_YOUR_CALM),
        ),
        ("empty CONTINUATION", frame(HEADERS, END_STREAM, 1, b""), |_| frame(CONTINUATION, 0, 1, b""), None),
        ("empty DATA", open(1), |_| frame(DATA, 0, 1, b""), None),
        ("small DATA", open(1), |_| frame(DATA, 0, 1, b"a"), Some(ENHANCE_YOUR_CALM)),
        ("PRIORITY", open(1), |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), None),
        ("WINDOW_UPDATE", open(1), |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), None),
        (
            "resets of ours",
            Vec::new(),
            |n| {
                let malformed = [frames::call("Echo"), frames::block(&[("connection", "close")])].concat();
                frame(HEADERS, END_HEADERS, odd(n), &malformed)
            },
            Some(ENHANCE_YOUR_CALM),
        ),
        ("HPACK", hpack_bomb(12_000), |_| frame(PING, 0, 0, b"a flood!"), Some(ENHANCE_YOUR_CALM)),
    ];
    for (name, begin, again, code) in floods {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&begin).await, "{name}");
        let mut number = 0;
        ends(async {
            // Many at a time, as an attacker would.
            while raw.send(&(number..number + 64).flat_map(again).collect::<Vec<_>>()).await {
                number += 64;
            }
        })
        .await;
        let ended = raw.end().await;
        // A connection that is closed under a flood may lose its last words.
        assert!(ended.is_none() || ended == code, "{name}: {ended:?}");
        neighbour.call().await;
    }
    let floods =
        ["empty", "priority", "window_update"].map(|kind| format!("http2.inbound_{kind}_frames_flood"));
    for (name, times) in floods.iter().zip([2, 1, 1]) {
        assert_eq!(edge.stat(name).await, times, "{name}");
    }
}

#[tokio::test]
async fn calls_that_are_reset_as_soon_as_they_are_taken_end_the_connection() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let mut raw = Raw::connect(edge.address(), &[]).await;
    let mut calls = 0;
    loop {
        let (call, reset) = (open(odd(calls)), frame(RST_STREAM, 0, odd(calls), &CANCEL));
        if !(raw.send(&call).await && raw.settle().await && raw.send(&reset).await && raw.settle().await) {
            break;
        }
        calls += 1;
        assert!(calls < 1000, "nobody stops it");
    }
    assert!(calls >= 249, "{calls}: an honest client resets, too");
    assert_eq!(edge.stat("http.web.downstream_rq_too_many_premature_resets").await, 1);
    assert_eq!(edge.stat("http.web.downstream_rq_active").await, 0);
    Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
}

#[tokio::test]
async fn who_takes_no_answers_is_not_heard_any_more() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::hcm(json!({"stream_flush_timeout": "0.3s"}))).await;
    for flood in [frame(PING, 0, 0, b"a flood!"), frame(SETTINGS, 0, 0, &[])] {
        let flood = flood.repeat(1000);
        let mut raw = Raw::connect(edge.address(), &[]).await;
        // Its answers fill the sockets, and then the server neither reads nor waits for ever.
        ends(async { while raw.send(&flood).await {} }).await;
        Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
    }
}

#[tokio::test]
async fn headers_above_the_limit_are_answered_with_431() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let many = |mut head: Vec<u8>| {
        for number in 0..120 {
            head.extend(frames::block(&[(&format!("x-{number}"), "a")]));
        }
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)
    };
    let plain = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "edge.example")];
    for (name, head, told) in [
        ("too large", hpack_bomb(20), HUFFMAN_431),
        ("too many", many(frames::block(&plain)), HUFFMAN_431),
        // A call of gRPC is told RESOURCE_EXHAUSTED.
        ("too many of a call", many(frames::call("Echo")), HUFFMAN_8),
    ] {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&head).await);
        let reply = raw.find(|frame| frame.kind == HEADERS).await.expect("an answer");
        assert!(crate::honest::contains(&reply.payload, told), "{name}: {:?}", reply.payload);
        assert!(raw.settle().await, "{name}: the connection goes on");
    }
    let head = format!("GET / HTTP/1.1\r\nhost: edge.example\r\nx-big: {}\r\n\r\n", "a".repeat(61 << 10));
    let answer = crate::honest::exchange(edge.address(), head.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

/// "431" as HPACK writes it: 011010, 011001 and 00001, filled up with ones.
const HUFFMAN_431: &[u8] = &[0b0110_1001, 0b1001_0000, 0b1111_1111];
/// "8" with its length: 011110.
const HUFFMAN_8: &[u8] = &[0x81, 0b0111_1011];
