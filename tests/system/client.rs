//! Clients of the edge: a service's typed stub over gRPC, and a browser's call over gRPC-Web.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use omnimesh_proto::ingest::v1::{RunSourceRequest, ingest_service_client::IngestServiceClient};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{
    Code, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// Adds the API key to every call, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Key(pub(crate) Option<String>);

impl Interceptor for Key {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("x-api-key", key.parse().expect("a key is a header's value"));
        }
        Ok(request)
    }
}

/// A channel to every service, through the edge.
pub(crate) async fn grpc(edge: SocketAddr, key: Option<String>) -> InterceptedService<Channel, Key> {
    let endpoint = Endpoint::from_shared(format!("http://{edge}")).expect("an address is an authority");
    InterceptedService::new(endpoint.connect().await.expect("the edge listens"), Key(key))
}

/// Runs sources to their ends, one after the other.
pub(crate) async fn run_sources(edge: SocketAddr, key: String, sources: &[&str]) {
    let mut client = IngestServiceClient::new(grpc(edge, Some(key)).await);
    for source in sources {
        let request = RunSourceRequest { name: format!("sources/{source}") };
        let mut messages = client.run_source(request).await.expect("a run").into_inner();
        let mut done = false;
        while let Some(message) = messages.message().await.expect("a run that goes on") {
            done = message.done;
        }
        assert!(done, "the run over {source} ended before the source did");
    }
}

/// A unary call as a browser makes it: one message, and a trailer frame after the answer.
pub(crate) async fn grpc_web<A: Message + Default>(
    edge: SocketAddr,
    key: &str,
    method: &str,
    message: &impl Message,
) -> Result<A, Code> {
    let mut body = BytesMut::from(&[0][..]);
    body.put_u32(message.encoded_len().try_into().expect("a small message"));
    message.encode(&mut body).expect("a growing buffer");
    let request = Request::post(format!("/{method}"))
        .header("host", edge.to_string())
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .header("x-api-key", key)
        .body(Full::new(body.freeze()))
        .expect("a request");
    let stream = TcpStream::connect(edge).await.expect("the edge listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    if let Some(code) = answer.headers().get("grpc-status") {
        return Err(Code::from_bytes(code.as_bytes()));
    }
    read(answer.into_body().collect().await.expect("the whole answer").to_bytes())
}

/// The answer in its frames: a message unless the call failed, then the trailers.
fn read<A: Message + Default>(mut body: Bytes) -> Result<A, Code> {
    let mut answer = A::default();
    while body.has_remaining() {
        let is_trailer = body.get_u8() & 0x80 != 0;
        let length = body.get_u32().try_into().expect("a frame that fits into memory");
        let frame = body.split_to(length);
        if !is_trailer {
            answer = A::decode(frame).expect("the message that was asked for");
            continue;
        }
        let trailers = String::from_utf8(frame.into()).expect("trailers are text");
        let code = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:")).expect("a status");
        return match Code::from_bytes(code.trim().as_bytes()) {
            Code::Ok => Ok(answer),
            code => Err(code),
        };
    }
    panic!("an answer without trailers");
}
