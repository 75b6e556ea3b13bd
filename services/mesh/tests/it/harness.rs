//! A server with one service whose behaviour each call chooses, and the calls to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use mesh::{Caller, Channel, Config, Identity, Peers, Policy, Server, ServerBuilder};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// A service of the contract: the mesh serves what the contract describes. The probe takes its name.
pub(crate) const SERVICE: &str = "omnimesh.ingest.v1.IngestService";
pub(crate) const ROLE: &str = "ingest";
/// A unary method that needs `ingest.read`.
pub(crate) const READ: &str = "GetSource";
/// A unary method that needs `ingest.write`.
pub(crate) const WRITE: &str = "ReplayQuarantinedRecord";
/// A server stream that needs `ingest.read`.
pub(crate) const WATCH: &str = "WatchSources";

/// Says what the probe does with a call.
const BEHAVIOUR: &str = "x-probe";

pub(crate) fn policy() -> Policy {
    Policy::new([("reader", &["ingest.read"] as &[_]), ("admin", &["*"]), ("lake", &["ingest.*"])])
}

/// Answers with what it learned of the call in headers: `x-caller`, `x-timeout`, `x-traceparent`.
#[derive(Clone)]
pub(crate) struct Probe {
    /// Counts held calls and streams that have begun.
    pub(crate) entered: Arc<Semaphore>,
    /// A permit lets a held call go on.
    pub(crate) released: Arc<Semaphore>,
    /// Where `relay` goes.
    pub(crate) next: Option<Channel>,
}

impl Default for Probe {
    fn default() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)), next: None }
    }
}

impl Probe {
    pub(crate) async fn wait_entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    async fn wait_released(&self) {
        self.entered.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    async fn answer(self, request: Request<()>) -> Result<Response<()>, Status> {
        let mut response = Response::new(());
        if let Some(caller) = request.extensions().get::<Caller>() {
            response.metadata_mut().insert("x-caller", caller.to_string().parse().unwrap());
        }
        for (from, to) in [("grpc-timeout", "x-timeout"), ("traceparent", "x-traceparent")] {
            if let Some(value) = request.metadata().get(from) {
                response.metadata_mut().insert(to, value.clone());
            }
        }
        match request.metadata().get(BEHAVIOUR).map(|value| value.to_str().unwrap()) {
            None => Ok(response),
            Some("panic") => panic!("secret of the house"),
            Some("hang") => std::future::pending().await,
            Some("hold") => {
                self.wait_released().await;
                Ok(response)
            }
            Some("relay") => unary(self.next.clone().unwrap(), READ, Request::new(())).await,
            Some(other) => panic!("unknown behaviour {other}"),
        }
    }

    /// One message at once, one for each release.
    async fn watch(
        self,
        request: Request<()>,
    ) -> Result<Response<BoxStream<'static, Result<(), Status>>>, Status> {
        let panics = request.metadata().get(BEHAVIOUR).is_some();
        let first = stream::once(async { Ok(()) });
        let more = stream::unfold(self, move |probe| async move {
            probe.wait_released().await;
            assert!(!panics, "secret of the house");
            Some((Ok(()), probe))
        });
        Ok(Response::new(first.chain(more).boxed()))
    }
}

impl NamedService for Probe {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for Probe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let probe = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<(), ()>::default());
            let is_watch = request.uri().path().ends_with(WATCH);
            Ok(if is_watch {
                grpc.server_streaming(service_fn(|request| probe.clone().watch(request)), request).await
            } else {
                grpc.unary(service_fn(|request| probe.clone().answer(request)), request).await
            })
        })
    }
}

/// A server under way.
pub(crate) struct Running {
    pub(crate) peers: Peers,
    pub(crate) probe: Probe,
    pub(crate) address: Option<std::net::SocketAddr>,
    stopping: CancellationToken,
    served: JoinHandle<Result<(), mesh::ServeError>>,
}

impl Running {
    /// A server with the probe.
    pub(crate) async fn start(config: Config, identity: Option<Identity>) -> Self {
        let mut builder = ServerBuilder::new(config, policy(), identity);
        let peers = builder.host(ROLE);
        let probe = Probe { next: Some(peers.for_workload("reader").channel(SERVICE)), ..Probe::default() };
        builder.add(probe.clone());
        Self::serve(builder.build().await.unwrap(), peers, probe)
    }

    fn serve(server: Server, peers: Peers, probe: Probe) -> Self {
        let stopping = CancellationToken::new();
        let address = server.tcp_address();
        let served = tokio::spawn(server.serve(stopping.clone().cancelled_owned()));
        Self { peers, probe, address, stopping, served }
    }

    /// A channel to the probe for a workload.
    pub(crate) fn channel(&self, workload: &'static str) -> Channel {
        self.peers.for_workload(workload).channel(SERVICE)
    }

    pub(crate) fn begin_stop(&self) {
        self.stopping.cancel();
    }

    pub(crate) async fn stop(self) {
        self.begin_stop();
        self.served.await.unwrap().unwrap();
    }
}

/// A request that tells the probe what to do.
pub(crate) fn probe(behaviour: &'static str) -> Request<()> {
    with(BEHAVIOUR, behaviour)
}

/// A request with a header.
pub(crate) fn with(header: &'static str, value: &'static str) -> Request<()> {
    let mut request = Request::new(());
    request.metadata_mut().insert(header, value.parse().unwrap());
    request
}

fn path(method: &str) -> PathAndQuery {
    format!("/{SERVICE}/{method}").parse().unwrap()
}

pub(crate) async fn unary<C>(channel: C, method: &str, request: Request<()>) -> Result<Response<()>, Status>
where
    C: GrpcService<Body>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    grpc.unary(request, path(method), ProstCodec::<(), ()>::default()).await
}

pub(crate) async fn watch(channel: Channel, request: Request<()>) -> Result<Streaming<()>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let response = grpc.server_streaming(request, path(WATCH), ProstCodec::<(), ()>::default()).await?;
    Ok(response.into_inner())
}

/// What the probe said in a header of its answer.
pub(crate) fn said<'a>(response: &'a Response<()>, header: &str) -> Option<&'a str> {
    response.metadata().get(header).map(|value| value.to_str().unwrap())
}
