//! How this binary's commands talk to the services on the same machine: over the data directory's socket, whose file
//! mode decides who may.

use std::path::Path;

use anyhow::{Context, anyhow};
use hyper_util::rt::TokioIo;
use mesh::{CONSUMER_HEADER, PERMISSIONS_HEADER};
use tokio::net::UnixStream;
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
    node::{Node, Whereabouts},
    roles::ROLES,
    settle::settle,
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
    let socket = Whereabouts::socket(data_dir);
    let path = socket.clone();
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

/// Runs `read` against the node that runs on the data directory; where none does, one is started for the moment,
/// without its edge.
pub(crate) async fn with_services<T, F>(config: &Config, read: impl FnOnce(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = anyhow::Result<T>>,
{
    if Whereabouts::read(&config.data_dir).is_some() {
        return Ok(read(connect(&config.data_dir).await?).await?);
    }
    if !config.data_dir.is_dir() {
        return Err(Failure::Usage(anyhow!(
            "there is no data directory {}: `omnimesh up --data-dir {0}` makes it",
            config.data_dir.display()
        )));
    }
    let services: Vec<_> = ROLES.iter().filter(|role| role.name != "edge").collect();
    let node = Node::start(config, &services).await?;
    let outcome = async {
        // What an earlier process left half-told is told first.
        settle(&node.logs, &node.consumers).await?;
        read(connect(&config.data_dir).await?).await
    };
    let outcome = outcome.await;
    node.shutdown().await?;
    Ok(outcome?)
}
