//! Starts the edge's listeners on threads of their own, and stops them without cutting a call.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::Stream;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use rustls::server::ResolvesServerCert;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::first::admin::{Admin, RenderMetrics};
use crate::first::config::{Config, ServerTls};
use crate::first::error::StartError;
use crate::first::proxy::Gateway;
use crate::first::table::Tables;
use crate::first::tls;
use crate::keys::Keys;

/// What is left of a shutdown after the calls have ended.
const THREADS_END: Duration = Duration::from_secs(1);

/// Starts an edge. When this returns, its listeners are bound and serve; a configuration that cannot work is an
/// error, and then nothing was started. `metrics` renders what `/stats/prometheus` shows. The keys are followed on the
/// caller's runtime, which is their database's too.
pub fn start(config: Config, keys: Arc<Keys>, metrics: RenderMetrics) -> Result<Running, StartError> {
    let (mut traffic, mut admin) = bind(config.listen, config.tls.as_ref(), config.admin)?;
    let tables = Arc::new(Tables::load(&config)?);
    let draining = Arc::new(AtomicBool::new(false));
    let threads = config.limits.threads;
    let gateway = Gateway::new(config.cors, config.limits, Arc::clone(&keys), Arc::clone(&tables));
    let connections = TaskTracker::new();
    let tls = config.tls.as_ref().map(|tls| tls_settings(tls, &tables)).transpose()?;
    let traffic_service = traffic.service(gateway, &connections, tls);
    let admin_service = admin.service(Admin::new(metrics, Arc::clone(&draining)), &TaskTracker::new(), None);

    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads.max(1));
    }
    let runtime = runtime.thread_name("edge").enable_all().build().map_err(StartError::Runtime)?;
    runtime.spawn(traffic.run(traffic_service));
    runtime.spawn(admin.run(admin_service));
    runtime.spawn(tables.follow());
    tracing::info!(listen = %traffic.address, admin = %admin.address, "the edge serves");
    let _keys = AbortOnDropHandle::new(tokio::spawn(keys.follow()));
    Ok(Running { traffic, admin, connections, draining, runtime: Some(runtime), _keys })
}

/// Whether an edge could listen so. To be asked before anything else is started, so that an address that cannot be
/// served leaves nothing behind.
pub fn check(listen: SocketAddr, tls: Option<&ServerTls>, admin: SocketAddr) -> Result<(), StartError> {
    bind(listen, tls, admin).map(drop)
}

fn bind(
    listen: SocketAddr,
    tls: Option<&ServerTls>,
    admin: SocketAddr,
) -> Result<(Listener, Listener), StartError> {
    match tls {
        Some(tls) => drop(tls::load_identity(&tls.cert, &tls.key)?),
        None if listen.ip().is_loopback() => {}
        None => return Err(StartError::PlaintextBeyondLoopback(listen)),
    }
    if !admin.ip().is_loopback() {
        return Err(StartError::AdminBeyondLoopback(admin));
    }
    Ok((Listener::bind(listen, "--listen")?, Listener::bind(admin, "--admin")?))
}

/// A bound port, and the switch that stops it.
struct Listener {
    address: SocketAddr,
    /// Until it is handed to Pingora.
    socket: Option<TcpListener>,
    stop: watch::Sender<bool>,
}

impl Listener {
    /// Binds here rather than in Pingora, which would try for half a minute and then panic.
    fn bind(address: SocketAddr, flag: &'static str) -> Result<Self, StartError> {
        let failed = |reason| StartError::Bind { address, flag, reason };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { address, socket: Some(socket), stop: watch::Sender::new(false) })
    }

    /// Pingora's service for `app` on this port.
    fn service<A>(&self, app: A, connections: &TaskTracker, tls: Option<TlsSettings>) -> Service<Tracked<A>> {
        let app = Tracked { app: Arc::new(app), connections: connections.clone() };
        let mut service = Service::new(format!("edge {}", self.address), app);
        match tls {
            Some(tls) => service.add_tls_with_settings(&self.address.to_string(), None, tls),
            None => service.add_tcp(&self.address.to_string()),
        }
        service
    }

    fn run<A>(&mut self, mut service: Service<A>) -> impl Future<Output = ()> + Send + use<A>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let mut sockets = Fds::new();
        if let Some(socket) = self.socket.take() {
            sockets.add(self.address.to_string(), socket.into_raw_fd());
        }
        let sockets: ListenFds = Arc::new(sockets.into());
        let stopping = self.stop.subscribe();
        async move { service.start_service(Some(sockets), stopping, 1).await }
    }
}

/// TLS that shows the certificate of the table in force.
fn tls_settings(tls: &ServerTls, tables: &Arc<Tables>) -> Result<TlsSettings, StartError> {
    let unusable =
        |error: Box<pingora::Error>| StartError::Tls { path: tls.cert.clone(), reason: error.to_string() };
    let mut settings = TlsSettings::intermediate("", "").map_err(unusable)?;
    settings.set_cert_resolver(Arc::clone(tables) as Arc<dyn ResolvesServerCert>);
    settings.enable_h2();
    Ok(settings)
}

/// Returns once a shutdown has begun.
pub(crate) async fn stopping(mut shutdown: ShutdownWatch) {
    // An error means that the edge itself is gone.
    let _ = shutdown.wait_for(|stopping| *stopping).await;
}

/// Counts an app's connections, so that a shutdown knows when the last has ended.
struct Tracked<A> {
    app: Arc<A>,
    connections: TaskTracker,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Tracked<A> {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _connection = self.connections.token();
        let mut first = [0];
        // A connection that has not said anything yet need not be waited for.
        tokio::select! {
            peeked = stream.try_peek(&mut first) => peeked.ok().map(drop)?,
            () = stopping(shutdown.clone()) => return None,
        }
        self.app.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

/// An edge that serves. Dropped, it ends at once and cuts the calls that it serves.
pub struct Running {
    traffic: Listener,
    admin: Listener,
    connections: TaskTracker,
    draining: Arc<AtomicBool>,
    runtime: Option<Runtime>,
    _keys: AbortOnDropHandle<()>,
}

impl Running {
    /// Where clients connect: with the port that the system chose, where the configuration left it open.
    pub fn listen(&self) -> SocketAddr {
        self.traffic.address
    }

    /// Where operators connect.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address
    }

    /// Takes no new calls, waits up to `grace` for those under way, and ends the edge's threads.
    /// Says whether every connection had ended by itself.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        self.traffic.stop.send_replace(true);
        self.connections.close();
        let drained = tokio::time::timeout(grace, self.connections.wait()).await.is_ok();
        if !drained {
            tracing::warn!(connections = self.connections.len(), "the edge cuts what outlived its grace");
        }
        self.admin.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            let _ = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(THREADS_END)).await;
        }
        drained
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("listen", &self.traffic.address)
            .field("admin", &self.admin.address)
            .finish_non_exhaustive()
    }
}
