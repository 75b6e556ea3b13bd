//! Upstreams for the tests, and clusters that point at them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Http2ProtocolOptions, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::body::{RequestBody, Source, Transformed};
use crate::clock::Meter;
use crate::problem::Path;
use crate::stats::Stats;
use crate::upstream::{Answered, Cluster, Failure, UpstreamBody, Want};

pub(super) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Answers each call of an HTTP/2 connection with `answer`.
pub(super) async fn serve_http2<F, A>(socket: TcpStream, answer: A)
where
    A: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::handshake(socket).await.expect("a preface");
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

/// An HTTP/2 server; each call is answered with `answer`.
pub(super) async fn http2<F, A>(answer: A) -> SocketAddr
where
    A: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve_http2(socket, answer.clone()));
        }
    });
    address
}

/// Says back what it hears, trailers included.
pub(super) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let mut stream = respond.send_response(http::Response::new(()), false).expect("an answer");
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        body.flow_control().release_capacity(data.len()).expect("capacity");
        stream.send_data(data, false).expect("data");
    }
    let mut trailers = body.trailers().await.expect("an end").unwrap_or_default();
    trailers.insert("grpc-status", 0.into());
    stream.send_trailers(trailers).expect("trailers");
}

pub(super) fn endpoint(address: SocketAddr) -> LbEndpoint {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    let address = Address { address: Some(AddressKind::SocketAddress(socket)) };
    let endpoint = Endpoint { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}

/// A cluster of HTTP/1.1 hosts.
pub(super) fn http1_config(addresses: &[SocketAddr]) -> ClusterConfig {
    let locality = LocalityLbEndpoints {
        lb_endpoints: addresses.iter().copied().map(endpoint).collect(),
        ..Default::default()
    };
    ClusterConfig {
        name: "backend".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment { endpoints: vec![locality], ..Default::default() }),
        ..Default::default()
    }
}

/// A cluster of HTTP/2 hosts.
pub(super) fn http2_config(addresses: &[SocketAddr]) -> ClusterConfig {
    ClusterConfig { http2_protocol_options: Some(Http2ProtocolOptions::default()), ..http1_config(addresses) }
}

pub(super) fn cluster(config: &ClusterConfig) -> Arc<Cluster> {
    cluster_with(config, &Stats::default())
}

pub(super) fn cluster_with(config: &ClusterConfig, stats: &Stats) -> Arc<Cluster> {
    Arc::new(Cluster::compile(config, &Path::root().field("cluster"), stats).expect("a good configuration"))
}

pub(super) fn request(body: impl Into<Bytes>) -> Box<Request<RequestBody>> {
    let body = body.into();
    let source = if body.is_empty() { Source::Empty } else { Source::Full(Some(body)) };
    let request = Request::post("http://backend.test/retail.Catalog/Get");
    Box::new(request.body(Transformed::new(source)).expect("a request"))
}

/// Calls, and reads the whole answer.
pub(super) async fn whole(cluster: &Cluster, body: impl Into<Bytes>) -> Result<(u16, Bytes), Failure> {
    let Answered { head, body, .. } = cluster.call(request(body), &Want::default()).await?;
    Ok((head.status.as_u16(), body.collect().await?.to_bytes()))
}

/// A request whose body comes piece by piece.
pub(super) fn streaming(body: RequestBody) -> Box<Request<RequestBody>> {
    Box::new(Request::post("http://backend.test/retail.Catalog/Get").body(body).expect("a request"))
}

/// A client that sends a request's body piece by piece; dropped, it ends the body.
pub(super) struct Client(Option<SendStream<Bytes>>);

impl Client {
    pub(super) fn data(&mut self, data: impl Into<Bytes>) {
        self.0.as_mut().expect("open").send_data(data.into(), false).expect("data");
    }

    pub(super) fn trailers(mut self, trailers: HeaderMap) {
        self.0.take().expect("open").send_trailers(trailers).expect("trailers");
    }

    pub(super) fn gone(mut self) {
        self.0.take().expect("open").send_reset(Reason::CANCEL);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(mut stream) = self.0.take() {
            // The edge may have gone first.
            let _ = stream.send_data(Bytes::new(), true);
        }
    }
}

/// A client that sends its request in pieces, and the body of that request as the edge gets it.
pub(super) async fn channel() -> (Client, RequestBody) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (told, tells) = oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let service = service_fn(move |request: Request<Incoming>| {
        let told = told.lock().expect("no panic").take().expect("one request");
        told.send(request.into_body()).expect("a listener");
        std::future::pending::<Result<Response<String>, hyper::Error>>()
    });
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), service),
    );
    let (sender, connection) = h2::client::handshake(near).await.expect("a connection");
    tokio::spawn(connection);
    let request = Request::post("http://edge.test/").body(()).expect("a request");
    let mut sender = sender.ready().await.expect("a connection");
    let (answer, stream) = sender.send_request(request, false).expect("a stream");
    tokio::spawn(async move {
        // Keeps the call and its connection.
        let _sender = sender;
        answer.await.map(drop)
    });
    let body = tells.await.expect("a request");
    (
        Client(Some(stream)),
        Transformed::new(Source::Client { body, meter: Arc::new(Meter::new(false)), trailers: true }),
    )
}

/// The next frame of a body.
pub(super) async fn frame(body: &mut UpstreamBody) -> Frame<Bytes> {
    body.frame().await.expect("a frame").expect("no failure")
}
