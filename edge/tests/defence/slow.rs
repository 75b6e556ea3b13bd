//! Clients that take their time: to say something, to finish it, or to take what they are sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::ends;
use crate::frames::{self, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, SETTINGS, frame};
use crate::honest::{Client, Protocol, contains};
use crate::rotation::Authority;

/// Sends `begin` and then `drop` again and again, until the server has had enough.
async fn drip(to: SocketAddr, begin: Vec<u8>, drop: &'static [u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    stream.write_all(&begin).await.expect("sent");
    let (mut from, mut into) = stream.split();
    let mut answer = Vec::new();
    let mut ticks = interval(Duration::from_millis(100));
    let mut space = [0; 1024];
    loop {
        tokio::select! {
            read = from.read(&mut space) => match read {
                Ok(0) | Err(_) => return answer,
                Ok(len) => answer.extend_from_slice(&space[..len]),
            },
            _ = ticks.tick() => {
                // A server that has closed does not take more.
                let _ = into.write_all(drop).await;
            }
        }
    }
}

fn unfinished_block() -> Vec<u8> {
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    hello.extend(frame(HEADERS, END_STREAM, 1, &frames::call("Echo")));
    hello
}

#[tokio::test]
async fn a_thousand_slow_heads_are_closed_by_default_while_honest_calls_go_on() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let (address, ended) = (edge.address(), Arc::new(AtomicUsize::new(0)));
    let mut slow = JoinSet::new();
    for number in 0..1000 {
        let begin = match number % 4 {
            0 => b"GET / HTTP/1.1\r\nhost: edge.example\r\nx-slow: ".to_vec(),
            1 => b"PRI * HT".to_vec(),
            2 => unfinished_block(),
            _ => Vec::new(),
        };
        let (drop, ended): (&[u8], _) = (if number % 4 == 0 { b"a" } else { b"" }, Arc::clone(&ended));
        slow.spawn(async move {
            let answer = drip(address, begin, drop).await;
            ended.fetch_add(1, Ordering::Relaxed);
            (number, answer)
        });
    }
    let mut clients = Vec::new();
    for protocol in [Protocol::Grpc, Protocol::GrpcWeb] {
        clients.push(Client::connect(protocol, address, None).await);
    }
    ends(async {
        while ended.load(Ordering::Relaxed) < 1000 {
            for client in &mut clients {
                client.call().await;
            }
        }
    })
    .await;
    while let Some(answered) = slow.join_next().await {
        let (number, answer) = answered.expect("no panic");
        let told = contains(&answer, b"HTTP/1.1 408 Request Timeout");
        assert_eq!(told, number % 4 < 2, "{number}: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_head_behind_another_request_has_no_more_time() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::hcm(json!({"request_headers_timeout": "0.3s"}))).await;
    let begin = b"GET /test.Probe/Echo HTTP/1.1\r\nhost: edge.example\r\n\r\nGET / HT".to_vec();
    let answer = ends(drip(edge.address(), begin, b"")).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    assert!(contains(&answer, b"HTTP/1.1 408 Request Timeout"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn handshakes_that_stop_are_closed() {
    let backend = Backend::start().await;
    let authority = Authority::new("edge");
    let directory = tempfile::tempdir().expect("directory");
    let chain = json!({
        "transport_socket_connect_timeout": "0.3s",
        "transport_socket": authority.server(directory.path()),
    });
    let config = Config { chain, ..Config::default() };
    let edge = Edge::start(&backend, &config).await;
    let hello = rustls::ClientConnection::new(authority.client(), "edge.example".try_into().expect("name"));
    let mut first = Vec::new();
    hello.expect("client").write_tls(&mut first).expect("a hello");
    assert!(!ends(drip(edge.address(), first, b"")).await.is_empty());
}

#[tokio::test]
async fn bodies_that_never_end_are_answered() {
    let backend = Backend::start().await;
    let head = "POST /test.Probe/Echo HTTP/1.1\r\nhost: edge.example\r\n\
                content-type: application/grpc-web+proto\r\ncontent-length: 100000\r\n\r\n";
    for (limit, drop) in [("stream_idle_timeout", &b""[..]), ("request_timeout", b"a")] {
        let edge = Edge::start(&backend, &Config::hcm(json!({limit: "0.3s"}))).await;
        let answer = ends(drip(edge.address(), head.into(), drop)).await;
        assert!(contains(&answer, b"grpc-status: "), "{limit}: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let backend = Backend::start().await;
    let idle = json!({"common_http_protocol_options": {"idle_timeout": "0.3s"}});
    let edge = Edge::start(&backend, &Config::hcm(idle)).await;
    let raw = Raw::connect(edge.address(), &[]).await;
    assert_eq!(raw.end().await, Some(0));
}

/// The window of streams is closed from the start.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

#[tokio::test]
async fn a_reply_that_is_not_taken_is_reset_alone() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::hcm(json!({"stream_flush_timeout": "0.3s"}))).await;
    let mut raw = Raw::connect(edge.address(), &NO_WINDOW).await;
    // Of a reply without a body nothing has to be taken: it needs no window, and another stream goes on.
    assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::call("Big"))).await);
    assert!(raw.send(&frame(HEADERS, END_HEADERS, 3, &frames::call("Hold"))).await);
    let reset = raw.find(|frame| frame.kind == RST_STREAM).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (1, 8));
    assert!(raw.settle().await);
    assert_eq!(edge.stat("http.web.downstream_rq_active").await, 1);
}

#[tokio::test]
async fn a_client_that_takes_nothing_at_all_is_closed() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::hcm(json!({"stream_flush_timeout": "0.3s"}))).await;
    let mut stream = TcpStream::connect(edge.address()).await.expect("it listens");
    let request = "POST /test.Probe/Big HTTP/1.1\r\nhost: edge.example\r\n\
                   content-type: application/grpc-web+proto\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    ends(async {
        while edge.stat("http.web.downstream_rq_total").await == 0
            || edge.stat("http.web.downstream_cx_active").await > 0
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let taken = read_all(stream).await;
    assert!(taken < 32 << 20, "{taken}");
}

async fn read_all(mut stream: impl AsyncRead + Unpin) -> usize {
    let mut all = Vec::new();
    // However it ended.
    let _ = ends(stream.read_to_end(&mut all)).await;
    all.len()
}
