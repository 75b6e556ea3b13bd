//! How this binary's commands talk to the services on the same machine: over the data directory's socket, whose file
//! mode decides who may.

use std::path::Path;

use anyhow::Context;
use events::Consumers;
use hyper_util::rt::TokioIo;
use mesh::{CONSUMER_HEADER, PERMISSIONS_HEADER, ServerBuilder, config::Listen};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    config::Config,
    error::Failure,
    node::Whereabouts,
    roles::{self, ROLES},
};

/// A channel to the services of the node that runs on a data directory.
pub(crate) type Client = InterceptedService<Channel, Operator>;

/// Names the caller as the operator of the machine, who may do everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator;

impl Interceptor for Operator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(CONSUMER_HEADER, MetadataValue::from_static("operator"));
        request.metadata_mut().insert(PERMISSIONS_HEADER, MetadataValue::from_static("*"));
        Ok(request)
    }
}

/// Connects to the node that runs on `data_dir`.
pub(crate) async fn connect(data_dir: &Path) -> anyhow::Result<Client> {
    connect_to(&Whereabouts::socket(data_dir)).await
}

async fn connect_to(socket: &Path) -> anyhow::Result<Client> {
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://operator.omnimesh")
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("cannot reach the services over {}", socket.display()))?;
    Ok(InterceptedService::new(channel, Operator))
}

/// Runs `read` against the node that runs on the data directory; where none does, against its services without their
/// consumers. Either way nothing is written and no lock is taken: a node may start meanwhile.
pub(crate) async fn with_services<T, F>(config: &Config, read: impl FnOnce(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = anyhow::Result<T>>,
{
    if Whereabouts::read(&config.data_dir).is_some() {
        return Ok(read(connect(&config.data_dir).await?).await?);
    }
    config.must_exist()?;
    let mut mesh = config.mesh.clone();
    let socket = config.data_dir.join("run").join(format!("read-{}.sock", std::process::id()));
    mesh.listen = Listen { unix: Some(socket.clone()), ..Listen::default() };
    let mut server = ServerBuilder::new(mesh, roles::policy(), None);
    for role in ROLES.iter().filter(|role| !role.services.is_empty()) {
        let peers = server.host(role.name);
        roles::register(role, config, &peers, &mut server).await.map_err(Failure::Usage)?;
    }
    let (consumers, _) = server.shared::<Consumers>();
    let server = server.build().await.map_err(Failure::usage)?;
    // Before they begin: to read is not to go on with what an earlier process left half-told.
    consumers.stop().await;
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    let outcome = async { read(connect_to(&socket).await?).await }.await;
    stop.cancel();
    server.await.context("the server's task failed")?.context("the services failed")?;
    Ok(outcome?)
}
