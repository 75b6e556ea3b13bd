//! The one gRPC server of a process: every role adds its services to it, every caller comes through its stack.

pub(crate) mod body;
mod listen;
mod observe;
mod stack;

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::config::{Config, Limits, Listen};
use crate::connection::Connection;
use crate::error::{ServeError, StartError};
use crate::identity::{self, Identity};
use crate::method::{Foreign, Methods};
use crate::peers::{self, Directory, Peers};
use crate::policy::Policy;

/// Connections that wait for the server to take them up.
const BACKLOG: usize = 128;
/// Streams that one connection may have open: the edge and pipes carry many callers' calls on one.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// Calls that a client may cancel at one moment before it looks like an attack. h2's own limit of 20 broke
/// such internal traffic as ours (grpc-rust#1401), where one connection carries many callers.
const PENDING_RESETS: usize = 1000;

/// Collects the services of a process before it serves.
pub struct ServerBuilder {
    listen: Listen,
    limits: Limits,
    policy: Policy,
    identity: Option<Identity>,
    directory: Arc<Directory>,
    incoming: mpsc::Receiver<Connection>,
    routes: Routes,
    names: BTreeSet<&'static str>,
    foreign: Vec<Foreign>,
    shared: HashMap<TypeId, Box<dyn Any + Send>>,
    started: CancellationToken,
}

impl ServerBuilder {
    /// A server without services. `identity` is needed to talk to other processes, not within one.
    pub fn new(config: Config, policy: Policy, identity: Option<Identity>) -> Self {
        let (accept, incoming) = mpsc::channel(BACKLOG);
        Self {
            listen: config.listen,
            limits: config.limits,
            policy,
            identity: identity.clone(),
            directory: Arc::new(Directory::new(config.peers, identity, accept)),
            incoming,
            routes: Routes::default(),
            names: BTreeSet::new(),
            foreign: Vec::new(),
            shared: HashMap::new(),
            started: CancellationToken::new(),
        }
    }

    /// Makes this process the home of a role: peers' channels to it lead here. Returns the role's own peers.
    pub fn host(&mut self, role: &'static str) -> Peers {
        self.directory.host(role);
        self.peers(role)
    }

    /// Peers for a workload that serves nothing itself.
    pub fn peers(&self, workload: &'static str) -> Peers {
        Peers::new(Arc::clone(&self.directory), workload)
    }

    /// Adds a generated server, such as `FooServiceServer::new(grpc)`.
    pub fn add<S>(&mut self, service: S) -> &mut Self
    where
        S: tower::Service<http::Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.insert(S::NAME);
        self.routes = std::mem::take(&mut self.routes).add_service(service);
        self
    }

    /// Adds the server of a service that the contract does not describe.
    pub fn add_foreign<S>(&mut self, service: S, description: Foreign) -> &mut Self
    where
        S: tower::Service<http::Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.foreign.push(description);
        self.add(service)
    }

    /// The process's one `T`, and whether this call made it: for a gRPC service that several roles feed, of
    /// which the first to come adds the server.
    pub fn shared<T: Default + Clone + Send + Sync + 'static>(&mut self) -> (T, bool) {
        let entry = self.shared.entry(TypeId::of::<T>());
        let is_new = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        let value = entry.or_insert_with(|| Box::new(T::default()));
        // The key is the value's type, so the cast finds it.
        (value.downcast_ref::<T>().cloned().unwrap_or_default(), is_new)
    }

    /// Is cancelled when the server begins to serve: work beside its services waits for it.
    pub fn started(&self) -> CancellationToken {
        self.started.clone()
    }

    /// Adds health and reflection, puts the stack around the services and binds the listeners. Fails if a peer
    /// that a service asked for leads nowhere.
    pub async fn build(mut self) -> Result<Server, StartError> {
        let health = HealthReporter::new();
        for name in &self.names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        let served = self.names.clone();
        self.add(tonic_health::pb::health_server::HealthServer::new(HealthService::from_health_reporter(
            health.clone(),
        )));
        let reflection = reflection(&served)
            .build_v1()
            .map_err(|error| StartError::failed("describe the services for reflection", error))?;
        self.add(reflection);
        self.directory.check(&self.names)?;
        if let Some(identity) = &self.identity {
            self.directory.hosted().into_iter().try_for_each(|role| identity.ensure(role))?;
        }

        let mut methods = Methods::of_contract()?;
        self.foreign.iter().for_each(|service| methods.add(service));
        let stopping = CancellationToken::new();
        let routes = stack::around(self.routes, methods, &self.limits, self.policy, stopping.clone());
        let bound = listen::bind(&self.listen, self.identity.as_ref(), &self.directory.accept()).await?;
        Ok(Server {
            routes,
            incoming: self.incoming,
            tcp_address: bound.tcp_address,
            unix_path: bound.unix_path,
            identity: self.identity,
            health,
            served,
            drain: self.limits.drain(),
            started: self.started,
            stopping,
        })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("services", &self.names).finish_non_exhaustive()
    }
}

/// Reflection that lists what this process serves, of all that the contract describes.
fn reflection(served: &BTreeSet<&'static str>) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(omnimesh_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection");
    served.iter().fold(builder, |builder, name| builder.with_service_name(*name))
}

/// A server whose listeners are bound.
pub struct Server {
    routes: Routes,
    incoming: mpsc::Receiver<Connection>,
    tcp_address: Option<SocketAddr>,
    unix_path: Option<PathBuf>,
    identity: Option<Identity>,
    health: HealthReporter,
    served: BTreeSet<&'static str>,
    drain: Duration,
    started: CancellationToken,
    stopping: CancellationToken,
}

impl Server {
    /// The TCP address that it listens on, if it does: the port is known here even if 0 was asked for.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// Serves until `shutdown` completes. Then it takes no more connections, ends streams (their readers
    /// resume elsewhere), lets other calls finish for as long as configured, and returns. What is still running
    /// then ends with the process.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(peers::STREAM_WINDOW)
            .initial_connection_window_size(peers::CONNECTION_WINDOW)
            .max_frame_size(peers::FRAME_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(peers::KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(peers::KEEPALIVE_TIMEOUT))
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(self.incoming).map(Ok::<_, Infallible>),
                self.stopping.clone().cancelled_owned(),
            );
        tokio::pin!(serving);
        self.started.cancel();
        tokio::select! {
            ended = &mut serving => return Ok(ended?),
            () = renew_certificates(self.identity) => {}
            () = shutdown => {}
        }

        // Health first, so that nobody is sent here while connections close.
        for name in self.served.into_iter().chain([""]) {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
        }
        self.stopping.cancel();
        let drained = tokio::time::timeout(self.drain, serving).await;
        if let Some(path) = self.unix_path
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "the socket stays behind");
        }
        match drained {
            Ok(ended) => Ok(ended?),
            Err(_) => {
                tracing::warn!(after = ?self.drain, "some calls did not finish in time; they end with the process");
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("services", &self.served)
            .field("tcp_address", &self.tcp_address)
            .finish_non_exhaustive()
    }
}

/// Renews certificates for as long as the server runs. A failure leaves the standing ones, which last longer
/// than it takes to try again.
async fn renew_certificates(identity: Option<Identity>) {
    let Some(identity) = identity else { return std::future::pending().await };
    loop {
        tokio::time::sleep(identity::RENEWAL).await;
        if let Err(error) = identity.renew() {
            tracing::error!(%error, "cannot renew the workload certificates");
        }
    }
}
