//! The way to other services: typed channels that lead to a role wherever it runs.
//!
//! A role in this process is reached over an in-memory pipe into our own server, a role elsewhere over TCP
//! with mutual TLS. Which of the two is decided when a channel connects, so that roles can ask for channels to
//! each other in any order while the process starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tower::service_fn;

use crate::connection::Connection;
use crate::error::StartError;
use crate::identity::{self, Identity};
use crate::propagate::Propagate;

/// A channel to a service, for its generated client. Carries trace and deadline along.
pub type Channel = InterceptedService<tonic::transport::Channel, Propagate>;

/// What an in-memory pipe holds in each direction before the writer waits, in bytes.
const PIPE_BYTES: usize = 1024 * 1024;
/// HTTP/2 windows: large enough that one stream can fill a link, small enough for hundreds of connections.
pub(crate) const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
pub(crate) const FRAME_BYTES: u32 = 256 * 1024;
/// A peer that does not answer a ping in time is gone, though TCP would wait for minutes.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Channels to other services, made on behalf of one workload.
#[derive(Debug, Clone)]
pub struct Peers {
    directory: Arc<Directory>,
    workload: &'static str,
}

impl Peers {
    pub(crate) fn new(directory: Arc<Directory>, workload: &'static str) -> Self {
        Self { directory, workload }
    }

    /// The same peers, called by another workload.
    pub fn for_workload(&self, role: &'static str) -> Self {
        Self::new(Arc::clone(&self.directory), role)
    }

    /// A channel to a service of the contract. The contract names the role in the package:
    /// `omnimesh.<role>.v1.<Service>`.
    pub fn channel(&self, service: &str) -> Channel {
        let role = service.split('.').nth(1).unwrap_or(service);
        self.channel_to(role, service)
    }

    /// A channel to a service that several roles have, at one of them.
    pub fn channel_to(&self, role: &str, service: &str) -> Channel {
        self.directory.ask_for(role, service);
        let route = Arc::new(Route {
            directory: Arc::clone(&self.directory),
            workload: self.workload,
            role: role.into(),
        });
        let connector = service_fn(move |_| {
            let route = Arc::clone(&route);
            async move { route.connect().await.map(TokioIo::new) }
        });
        // The connector knows where to go; the address is only what requests carry as their authority.
        let channel = Endpoint::from_static("http://mesh.omnimesh")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect_with_connector_lazy(connector);
        InterceptedService::new(channel, Propagate)
    }
}

/// What a process knows of where roles are.
pub(crate) struct Directory {
    addresses: BTreeMap<String, String>,
    identity: Option<Identity>,
    /// Our own server's side of the pipes.
    accept: mpsc::Sender<Connection>,
    hosted: Mutex<BTreeSet<&'static str>>,
    asked: Mutex<BTreeSet<(String, String)>>,
}

impl Directory {
    pub(crate) fn new(
        addresses: BTreeMap<String, String>,
        identity: Option<Identity>,
        accept: mpsc::Sender<Connection>,
    ) -> Self {
        Self { addresses, identity, accept, hosted: Mutex::default(), asked: Mutex::default() }
    }

    pub(crate) fn host(&self, role: &'static str) {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner).insert(role);
    }

    pub(crate) fn hosted(&self) -> Vec<&'static str> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(crate) fn accept(&self) -> mpsc::Sender<Connection> {
        self.accept.clone()
    }

    fn ask_for(&self, role: &str, service: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert((role.to_owned(), service.to_owned()));
    }

    fn is_hosted(&self, role: &str) -> bool {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner).contains(role)
    }

    /// Fails if a channel that was asked for leads nowhere.
    pub(crate) fn check(&self, registered: &BTreeSet<&'static str>) -> Result<(), StartError> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for (role, service) in asked.iter() {
            if self.is_hosted(role) {
                if !registered.contains(service.as_str()) {
                    return Err(StartError::config(format!(
                        "role {role} runs in this process but does not serve {service}"
                    )));
                }
            } else if !self.addresses.contains_key(role) {
                return Err(StartError::config(missing(role)));
            }
        }
        if !self.addresses.is_empty() && self.identity.is_none() {
            return Err(StartError::config("peers in other processes need a workload certificate"));
        }
        Ok(())
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn missing(role: &str) -> String {
    format!(
        "role {role} is needed but unknown: run it in this process, or set its address (host:port) in `peers.{role}`"
    )
}

/// The way from one workload to one role.
struct Route {
    directory: Arc<Directory>,
    workload: &'static str,
    role: String,
}

impl Route {
    async fn connect(&self) -> io::Result<Connection> {
        if self.directory.is_hosted(&self.role) {
            return self.connect_pipe().await;
        }
        let address = self.directory.addresses.get(&self.role);
        let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing(&self.role)))?;
        self.connect_tls(address).await
    }

    /// The other end of the pipe carries the caller's name: in one process there is nothing to prove.
    async fn connect_pipe(&self) -> io::Result<Connection> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let connection = Connection::new(far, Some(self.workload.into()));
        self.directory.accept.send(connection).await.map_err(|_| {
            io::Error::new(io::ErrorKind::ConnectionRefused, "this process's server has stopped")
        })?;
        Ok(Connection::new(near, Some(self.role.as_str().into())))
    }

    async fn connect_tls(&self, address: &str) -> io::Result<Connection> {
        let no_certificate = || io::Error::other("calls to other processes need a workload certificate");
        let identity = self.directory.identity.as_ref().ok_or_else(no_certificate)?;
        let config = identity.client_config(self.workload).map_err(io::Error::other)?;
        let name = ServerName::try_from(identity::dns_name(&self.role)).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        // Calls are small and wait for their answers: never hold a packet back.
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let role = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(identity::role_of);
        if role.as_deref() != Some(self.role.as_str()) {
            let found = role.as_deref().unwrap_or("no role");
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{address} proved to be {found}, not {}", self.role),
            ));
        }
        Ok(Connection::new(stream, role.map(Into::into)))
    }
}
