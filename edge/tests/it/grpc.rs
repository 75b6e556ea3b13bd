//! Native gRPC through the edge.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::backend::{Backend, PROBE, frame};
use crate::harness::{Edge, config, tcp, upstream};

async fn health_client(edge: &Edge) -> HealthClient<tonic::transport::Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", edge.address())).expect("endpoint");
    HealthClient::new(endpoint.connect().await.expect("channel"))
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn unary_and_error_through_a_tonic_client() {
    let edge = Edge::start().await;
    let mut client = health_client(&edge).await;
    edge.backend.health.set_service_status(PROBE, ServingStatus::Serving).await;
    let reply = client.check(about(PROBE)).await.expect("serving").into_inner();
    assert_eq!(reply.status, ServingStatus::Serving as i32);
    let status = client.check(about("nothing")).await.expect_err("unknown service");
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn server_stream_arrives_as_it_is_sent() {
    let edge = Edge::start().await;
    edge.backend.health.set_service_status(PROBE, ServingStatus::NotServing).await;
    let mut client = health_client(&edge).await;
    let mut stream = client.watch(about(PROBE)).await.expect("watch").into_inner();
    let first = stream.next().await.expect("an update").expect("status").status;
    edge.backend.health.set_service_status(PROBE, ServingStatus::Serving).await;
    let second = stream.next().await.expect("an update").expect("status").status;
    assert_ne!(first, second);
}

#[tokio::test]
async fn backend_over_tcp() {
    let mut backend = Backend::new();
    let addr = backend.serve_tcp(None).await;
    let directory = TempDir::new().expect("directory");
    let config = config(directory.path(), vec![upstream(tcp(addr, None))]);
    let edge = Edge::start_with(directory, backend, &config).await;
    let reply = edge.http2(edge.grpc("Echo", frame(b"hello"))).await;
    assert_eq!((reply.grpc_status(), &reply.body[..]), (Some(0), &frame(b"hello")[..]));
}

#[tokio::test]
async fn bidirectional_stream_answers_each_message() {
    let edge = Edge::start().await;
    let stream = TcpStream::connect(edge.address()).await.expect("connect");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("handshake");
    tokio::spawn(connection);
    let (messages, body) = mpsc::channel(1);
    let body = StreamBody::new(ReceiverStream::new(body).map(|bytes| Ok::<_, std::io::Error>(bytes)));
    let (mut head, _) = edge.grpc("Duplex", Bytes::new()).into_parts();
    head.headers.remove("host");
    let reply = sender.send_request(http::Request::from_parts(head, body)).await.expect("a reply");
    let mut reply = reply.into_body();
    for turn in 0..3_u8 {
        let message = frame(&[turn; 100]);
        messages.send(http_body::Frame::data(message.clone())).await.expect("open");
        let data = reply.frame().await.expect("a frame").expect("frame").into_data().expect("data");
        assert_eq!(data, message);
    }
    drop(messages);
    let trailers = reply.frame().await.expect("a frame").expect("frame").into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn message_sizes_come_through_byte_for_byte() {
    let edge = Edge::start().await;
    for size in [0, 1, 16_383, 16_384, 16_385, 65_530, 65_535, 65_540, 16 * 1024 * 1024] {
        let message: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let reply = edge.http2(edge.grpc("Echo", frame(&message))).await;
        assert_eq!(reply.grpc_status(), Some(0), "{size}");
        assert!(reply.body == frame(&message), "{size}");
        let reply = edge.http1(edge.web("Echo", frame(&message))).await;
        assert_eq!(reply.grpc_status(), Some(0), "gRPC-Web, {size}");
        assert!(reply.body.starts_with(&frame(&message)), "gRPC-Web, {size}");
    }
}

#[tokio::test]
async fn trailers_only_stays_in_the_header() {
    let edge = Edge::start().await;
    let reply = edge.http2(edge.grpc("Fail", frame(b""))).await;
    assert_eq!(reply.header("grpc-status"), "5");
    assert_eq!(reply.header("grpc-message"), "no such thing");
    assert!(reply.trailers.is_empty() && reply.body.is_empty());
}
