//! tonic's client, over plain HTTP/2, TLS and with a certificate.

use std::collections::BTreeMap;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Ran, Stage};
use crate::case::ClientTls;
use crate::certificates;

type Call = for<'a> fn(&'a Stage) -> Ran<'a>;

pub(super) const CALLS: [(&str, Call); 8] = [
    ("sizes", |stage| Box::pin(sizes(stage))),
    ("metadata", |stage| Box::pin(metadata(stage))),
    ("errors", |stage| Box::pin(errors(stage))),
    ("deadlines", |stage| Box::pin(deadlines(stage))),
    ("cancellation", |stage| Box::pin(cancellation(stage))),
    ("full_duplex", |stage| Box::pin(full_duplex(stage))),
    ("compression", |stage| Box::pin(compression(stage))),
    ("certificates", |stage| Box::pin(with_certificates(stage))),
];

/// About the boundaries of frames and windows, with and without what surrounds a message.
const SIZES: [std::ops::Range<usize>; 4] = [0..2, 16_374..16_386, 65_520..65_541, 1 << 24..(1 << 24) + 1];

/// The bytes of a `google.protobuf.BytesValue`, which is what these vectors are on the wire.
type Codec = ProstCodec<Vec<u8>, Vec<u8>>;

/// `certificate`: whose; none means no TLS for `plain` and no certificate else.
async fn channel(
    stage: &Stage,
    listener: &str,
    certificate: Option<&str>,
) -> Result<Channel, tonic::transport::Error> {
    let port = stage.port(listener);
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    if listener == "plain" {
        return endpoint.connect().await;
    }
    let tls = ClientTls { sni: None, certificate: certificate.map(str::to_owned), alpn: None, version: None };
    let connector = TlsConnector::from(certificates::client(stage.certificates(), &tls, "h2"));
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = "edge.test".try_into().expect("a name");
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

async fn client(stage: &Stage, listener: &str) -> Result<Grpc<Channel>, String> {
    let channel = channel(stage, listener, Some("pos")).await.map_err(|error| format!("{error:?}"))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|error| error.to_string())?;
    Ok(client)
}

fn request<T>(message: T, headers: &[(&str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    let fields = headers.iter().map(|(name, value)| {
        let key: MetadataKey<tonic::metadata::Ascii> = name.parse().expect("a name");
        (key, MetadataValue::try_from(*value).expect("a value"))
    });
    for (name, value) in fields {
        request.metadata_mut().insert(name, value);
    }
    request
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/edge.test.Echo/{method}").parse().expect("a path")
}

async fn unary(
    client: &Grpc<Channel>,
    message: &[u8],
    headers: &[(&str, &str)],
) -> Result<Response<Vec<u8>>, Status> {
    call(client, request(message.to_vec(), headers)).await
}

async fn call(client: &Grpc<Channel>, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Status> {
    let mut client = client.clone();
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    client.unary(request, path("Unary"), Codec::default()).await
}

async fn streams(
    client: &Grpc<Channel>,
    method: &str,
    messages: &[Vec<u8>],
    headers: &[(&str, &str)],
) -> Result<Vec<Vec<u8>>, Status> {
    let mut client = client.clone();
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let messages = request(tokio_stream::iter(messages.to_vec()), headers);
    let replies = client.streaming(messages, path(method), Codec::default()).await?;
    replies.into_inner().collect().await
}

/// A stream both ways, on which one message was sent.
async fn open(
    client: &Grpc<Channel>,
    headers: &[(&str, &str)],
) -> Result<(Sender<Vec<u8>>, Streaming<Vec<u8>>), String> {
    let mut client = client.clone();
    client.ready().await.map_err(|error| error.to_string())?;
    let (asks, receiver) = tokio::sync::mpsc::channel(1);
    asks.send(vec![0]).await.expect("open");
    let messages = request(ReceiverStream::new(receiver), headers);
    let replies = client.streaming(messages, path("BidiStream"), Codec::default()).await.map_err(told)?;
    Ok((asks, replies.into_inner()))
}

fn equal<T: PartialEq + std::fmt::Debug>(observed: T, expected: T) -> Result<(), String> {
    if observed == expected { Ok(()) } else { Err(format!("{observed:?} instead of {expected:?}")) }
}

fn told(status: Status) -> String {
    format!("{status:?}")
}

fn message(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

async fn sizes(stage: &Stage) -> Result<(), String> {
    for listener in ["plain", "tls", "mtls"] {
        let client = client(stage, listener).await?;
        for size in SIZES.into_iter().flatten() {
            let sent = message(size);
            let reply = unary(&client, &sent, &[]).await.map_err(told)?;
            if reply.into_inner() != sent {
                return Err(format!("{size} bytes came back otherwise"));
            }
        }
        let sent: Vec<_> = SIZES[..3].iter().cloned().flatten().map(message).collect();
        let last = sent.last().cloned().into_iter().collect();
        let twice = sent.iter().flat_map(|message| [message.clone(), message.clone()]).collect::<Vec<_>>();
        let one = &sent[sent.len() - 1..];
        let five = vec![one[0].clone(); 5];
        for (method, sent, headers, expected) in [
            ("ServerStream", one, [("x-replies", "5")].as_slice(), five),
            ("ClientStream", sent.as_slice(), &[], last),
            ("BidiStream", sent.as_slice(), &[("x-replies", "2")], twice),
        ] {
            let replies = streams(&client, method, sent, headers).await.map_err(told)?;
            if replies != expected {
                return Err(format!("{method} got {} messages of {}", replies.len(), expected.len()));
            }
        }
    }
    Ok(())
}

/// What of the metadata begins so.
fn of(metadata: &MetadataMap, prefix: &str) -> BTreeMap<String, String> {
    let headers = metadata.clone().into_headers();
    let of_prefix = headers.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
    of_prefix.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect()
}

async fn metadata(stage: &Stage) -> Result<(), String> {
    let client = client(stage, "plain").await?;
    let long = "v".repeat(12_000);
    let headers = [
        ("x-header-note", "one, two"),
        ("x-header-note-long", long.as_str()),
        ("x-header-note-text", "a \"b\" %41"),
        ("x-trailer-note-late", "three"),
    ];
    let mut request = request(tokio_stream::iter([vec![1]]), &headers);
    let binary = MetadataValue::from_bytes(&[0, 255, 128, 10]);
    request.metadata_mut().insert_bin("x-header-note-bin", binary.clone());
    request.metadata_mut().insert_bin("x-trailer-note-late-bin", binary.clone());
    let mut client = client.clone();
    client.ready().await.map_err(|error| error.to_string())?;
    let replies = client.streaming(request, path("BidiStream"), Codec::default()).await.map_err(told)?;
    let (head, mut body, _) = replies.into_parts();
    equal(of(&head, "note").len(), 4)?;
    equal(head.get("note").and_then(|value| value.to_str().ok()), Some("one, two"))?;
    equal(head.get("note-text").and_then(|value| value.to_str().ok()), Some("a \"b\" %41"))?;
    equal(head.get("note-long").map(|value| value.as_encoded_bytes().len()), Some(long.len()))?;
    equal(head.get_bin("note-bin"), Some(&binary))?;
    while body.message().await.map_err(told)?.is_some() {}
    let trailers = body.trailers().await.map_err(told)?.ok_or("no trailers")?;
    equal(trailers.get("note-late").and_then(|value| value.to_str().ok()), Some("three"))?;
    equal(trailers.get_bin("note-late-bin"), Some(&binary))
}

async fn errors(stage: &Stage) -> Result<(), String> {
    let client = client(stage, "tls").await?;
    let fails = [
        ("x-trailer-grpc-status", "9"),
        ("x-trailer-grpc-message", "%E2%82%AC 5 %25"),
        ("x-trailer-note", "kept"),
    ];
    let only = [fails.as_slice(), &[("x-trailers-only", "1")]].concat();
    let after = [fails.as_slice(), &[("x-replies", "0")]].concat();
    for headers in [only.as_slice(), &after] {
        let mut request = request(vec![1], headers);
        let details = MetadataValue::from_bytes(b"\x08\x09\x12\x04test");
        request.metadata_mut().insert_bin("x-trailer-grpc-status-details-bin", details);
        let status = call(&client, request).await.expect_err("a status");
        equal((status.code(), status.message()), (Code::FailedPrecondition, "\u{20ac} 5 %"))?;
        equal(status.details(), b"\x08\x09\x12\x04test")?;
        equal(status.metadata().get("note").map(|value| value.as_encoded_bytes()), Some(b"kept".as_slice()))?;
    }
    let status = streams(&client, "ServerStream", &[vec![1]], &fails).await.expect_err("a status");
    equal(status.code(), Code::FailedPrecondition)?;
    for code in 1..=16 {
        let headers = [("x-trailer-grpc-status", code.to_string()), ("x-trailers-only", "1".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let status = unary(&client, b"a", &headers).await.expect_err("a status");
        equal(status.code(), Code::from_i32(code))?;
    }
    resets(&client).await
}

/// The service gives up.
async fn resets(client: &Grpc<Channel>) -> Result<(), String> {
    for (reset, code) in [("8", Code::Cancelled), ("11", Code::ResourceExhausted), ("2", Code::Internal)] {
        let (asks, mut replies) = open(client, &[("x-reset", reset)]).await?;
        equal(replies.message().await.map_err(told)?, Some(vec![0]))?;
        drop(asks);
        equal(replies.message().await.expect_err("a status").code(), code)?;
    }
    Ok(())
}

async fn deadlines(stage: &Stage) -> Result<(), String> {
    let client = client(stage, "plain").await?;
    for (method, replies) in
        [("Unary", "0"), ("ServerStream", "0"), ("ServerStream", "1"), ("BidiStream", "1")]
    {
        let name = format!("{method} {replies}");
        let headers = [("grpc-timeout", "500m"), ("x-hang", name.as_str()), ("x-replies", replies)];
        let status = streams(&client, method, &[vec![1]], &headers).await.expect_err("a status");
        // tonic has a clock of its own for the same header, which rings first or second.
        let expected = [Code::DeadlineExceeded, Code::Cancelled];
        equal((status.code(), expected.contains(&status.code())), (status.code(), true))?;
        unary(&client, b"", &[("x-await", &format!("{name} given up"))]).await.map_err(told)?;
    }
    Ok(())
}

async fn cancellation(stage: &Stage) -> Result<(), String> {
    let client = client(stage, "mtls").await?;
    tokio::select! {
        answered = unary(&client, b"a", &[("x-hang", "unary"), ("x-replies", "0")]) => {
            return Err(format!("{answered:?}"));
        }
        begun = unary(&client, b"", &[("x-await", "unary begun")]) => begun.map_err(told)?,
    };
    unary(&client, b"", &[("x-await", "unary given up")]).await.map_err(told)?;
    let (asks, mut replies) = open(&client, &[("x-hang", "stream")]).await?;
    equal(replies.message().await.map_err(told)?, Some(vec![0]))?;
    drop((asks, replies));
    unary(&client, b"", &[("x-await", "stream given up")]).await.map_err(told)?;
    Ok(())
}

/// Each message is answered before the next one is sent.
async fn full_duplex(stage: &Stage) -> Result<(), String> {
    for listener in ["plain", "tls"] {
        let (asks, mut replies) = open(&client(stage, listener).await?, &[]).await?;
        for turn in 0..50 {
            equal(replies.message().await.map_err(told)?, Some(vec![turn]))?;
            asks.send(vec![turn + 1]).await.expect("open");
        }
        drop(asks);
        equal(replies.message().await.map_err(told)?, Some(vec![50]))?;
        equal(replies.message().await.map_err(told)?, None)?;
    }
    Ok(())
}

async fn compression(stage: &Stage) -> Result<(), String> {
    let client = client(stage, "plain").await?;
    let zstd = CompressionEncoding::Zstd;
    let client = client.send_compressed(zstd).accept_compressed(zstd);
    let sent = vec![7; 100_000];
    let reply = unary(&client, &sent, &[]).await.map_err(told)?;
    let trailer = |reply: &Response<Vec<u8>>| {
        let received = reply.metadata().get("x-received")?.to_str().ok()?;
        received.split_once('/')?.1.parse::<usize>().ok()
    };
    let crossed = trailer(&reply).ok_or("no count of bytes")?;
    equal((crossed < 1000, reply.into_inner() == sent), (true, true))
}

async fn with_certificates(stage: &Stage) -> Result<(), String> {
    for (certificate, expected) in [(Some("pos"), true), (Some("stranger"), false), (None, false)] {
        let called = match channel(stage, "mtls", certificate).await {
            Ok(channel) => unary(&Grpc::new(channel), b"a", &[]).await.is_ok(),
            Err(_) => false,
        };
        equal((certificate, called), (certificate, expected))?;
    }
    Ok(())
}
