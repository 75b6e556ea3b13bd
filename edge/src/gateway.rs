//! Starts a gateway of a configuration, replaces the configuration while it serves, and stops it without cutting
//! a call.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::Files;
use crate::admin::{self, SetLogFilter};
use crate::bootstrap::Loaded;
use crate::certificates;
use crate::consumers::Rosters;
use crate::downstream::listener::{Accepting, Listener, Shared};
use crate::drain::Drainer;
use crate::problem::{Path, Problem};
use crate::stats::Stats;
use crate::upstream::Clusters;
use crate::worker::Worker;

/// How long a reload waits for new clusters to look names up and check hosts.
const WARM: Duration = Duration::from_secs(10);

/// Why a gateway did not start; nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    #[error("cannot listen on {address} for {name}: {reason}; free the port or choose another one")]
    Bind { name: String, address: SocketAddr, reason: io::Error },
    #[error("the gateway cannot start its threads: {0}")]
    Threads(io::Error),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl From<Problem> for StartError {
    fn from(problem: Problem) -> Self {
        Self::Config(vec![problem])
    }
}

/// Renders more figures of the process in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What is not in the configuration.
#[derive(Clone)]
pub struct Options {
    /// Threads that serve traffic.
    pub concurrency: usize,
    /// How long connections have to leave before `/drain_listeners?graceful` closes listeners.
    pub drain_time: Duration,
    /// How `/logging` changes what the process logs.
    pub set_log_filter: Option<SetLogFilter>,
    /// What `/stats/prometheus` shows besides the gateway's own.
    pub render_metrics: Option<RenderMetrics>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { concurrency, drain_time, set_log_filter: _, render_metrics: _ } = self;
        let mut debug = f.debug_struct("Options");
        debug.field("concurrency", concurrency).field("drain_time", drain_time).finish_non_exhaustive()
    }
}

/// The parts of a configuration, ready to serve.
pub(crate) struct Table {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) clusters: Arc<Clusters>,
    listeners: Vec<Listener>,
    admin: Option<admin::Settings>,
}

impl Table {
    /// Compiles everything before anything is changed; what `before` has in the same form is taken over.
    fn compile(
        bootstrap: Bootstrap,
        before: Option<&Clusters>,
        stats: &Stats,
        files: &Files,
        rosters: &Rosters,
    ) -> Result<Self, Problem> {
        let root = Path::root();
        let at = root.field("static_resources");
        let resources = bootstrap.static_resources.clone().unwrap_or_default();
        let clusters =
            Arc::new(Clusters::compile(&resources.clusters, before, stats, &at.field("clusters"))?);
        let node_cluster = bootstrap.node.as_ref().map_or("", |node| &node.cluster);
        let shared = Shared { clusters: &clusters, stats, files, rosters, node_cluster };
        let listeners_at = at.field("listeners");
        let listeners = resources.listeners.iter().enumerate();
        let listeners = listeners
            .map(|(i, listener)| Listener::compile(listener, &shared, &listeners_at.index(i)))
            .collect::<Result<_, _>>()?;
        let admin_at = root.field("admin");
        let admin = match &bootstrap.admin {
            Some(admin) => admin::Settings::compile(admin, &admin_at, files)?,
            None => None,
        };
        Ok(Self { bootstrap, clusters, listeners, admin })
    }
}

/// How many threads can work at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Says whether a configuration would start.
pub fn validate(loaded: &Loaded) -> Result<(), Problem> {
    let stats = Stats::default();
    Table::compile(loaded.bootstrap.clone(), None, &stats, &Files::new(&stats), &Rosters::default())
        .map(drop)
        .map_err(|problem| loaded.lines.locate(problem))
}

/// Starts a gateway. When this returns its listeners are bound, and serve as soon as the clusters can be called.
pub fn start(loaded: Loaded, options: &Options) -> Result<Running, StartError> {
    let stats = Stats::default();
    let lines = loaded.lines;
    let (logs, rosters) = (Files::new(&stats), Rosters::default());
    let table = Table::compile(loaded.bootstrap, None, &stats, &logs, &rosters)
        .map_err(|problem| lines.locate(problem))?;
    let core = Arc::new(Core {
        stats,
        logs,
        rosters,
        options: options.clone(),
        drainer: Drainer::new(),
        quit: CancellationToken::new(),
        stop: watch::Sender::new(false),
        background: CancellationToken::new(),
        connections: TaskTracker::new(),
        ids: Arc::new(AtomicU64::new(1)),
        started: Instant::now(),
        start_time: SystemTime::now(),
        serving: Mutex::new(Serving {
            bootstrap: table.bootstrap,
            clusters: table.clusters,
            ports: Vec::new(),
        }),
    });
    let admin = table.admin.map(admin::Port::bind).transpose()?;
    let mut ports = Vec::with_capacity(table.listeners.len());
    for listener in table.listeners {
        ports.push(Port::bind(listener)?);
    }
    let mut running = Running { core, workers: Vec::new(), admin: None };
    for number in 0..options.concurrency.max(1) {
        let worker = Worker::start(format!("edge-{number}")).map_err(StartError::Threads)?;
        running.workers.push(worker);
    }
    let main = Worker::start("edge-main".to_owned()).map_err(StartError::Threads)?;
    running.core.serving().clusters.start(&main.handle, &running.core.background);
    running.core.rosters.start(&main.handle, &running.core.background);
    let following = certificates::follow(Arc::clone(&running.core));
    main.handle.spawn(running.core.background.clone().run_until_cancelled_owned(following));
    if let Some(port) = admin {
        running.admin = Some(port.address);
        admin::start(port, &running.core, &main.handle);
    }
    running.workers.push(main);
    for (port, socket) in ports {
        running.serve(port, &socket)?;
    }
    Ok(running)
}

/// What every thread of a gateway shares.
pub(crate) struct Core {
    pub(crate) stats: Stats,
    pub(crate) logs: Files,
    rosters: Rosters,
    pub(crate) options: Options,
    pub(crate) drainer: Drainer,
    /// Somebody wants the process to end.
    pub(crate) quit: CancellationToken,
    /// Listeners take no more connections.
    stop: watch::Sender<bool>,
    /// Ends health checks, name resolution and the like.
    pub(crate) background: CancellationToken,
    connections: TaskTracker,
    ids: Arc<AtomicU64>,
    pub(crate) started: Instant,
    pub(crate) start_time: SystemTime,
    serving: Mutex<Serving>,
}

/// The configuration that serves now.
pub(crate) struct Serving {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) ports: Vec<Arc<Port>>,
}

impl Core {
    pub(crate) fn serving(&self) -> std::sync::MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads certificates and keys again; one that cannot be used stays as it was.
    pub(crate) fn reload_certificates(&self) -> Vec<Problem> {
        let serving = self.serving();
        let mut problems = serving.clusters.reload();
        for port in &serving.ports {
            let listener = port.listener.load();
            problems.extend(listener.tls().filter_map(|tls| tls.reload(&Path::root()).err()));
        }
        problems
    }

    /// The files of certificates and keys.
    pub(crate) fn certificate_files(&self) -> Vec<String> {
        let serving = self.serving();
        let mut files: Vec<_> = serving.clusters.files().into_iter().map(str::to_owned).collect();
        for port in &serving.ports {
            let listener = port.listener.load();
            files.extend(listener.tls().flat_map(|tls| tls.files()).map(str::to_owned));
        }
        files
    }

    /// Where clients connect, by listener name.
    pub(crate) fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let serving = self.serving();
        serving.ports.iter().map(|port| (port.listener.load().name.clone(), port.address)).collect()
    }

    /// Takes no new connections.
    pub(crate) fn close_listeners(&self) {
        if !self.stop.send_replace(true) {
            let listeners = self.serving().ports.len() as u64;
            self.stats.scope("listener_manager").counter("listener_stopped").add(listeners);
        }
    }
}

/// A bound port and what listens there.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Arc<ArcSwap<Listener>>,
}

impl Port {
    /// The port, and its socket for those who serve it: it closes when the last of them stops.
    fn bind(listener: Listener) -> Result<(Arc<Self>, TcpListener), StartError> {
        let failed =
            |reason| StartError::Bind { name: listener.name.clone(), address: listener.address, reason };
        let socket = TcpListener::bind(listener.address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok((Arc::new(Self { address, listener: Arc::new(ArcSwap::from_pointee(listener)) }), socket))
    }
}

/// A gateway that serves. Dropped, it ends at once and cuts the calls that it serves.
pub struct Running {
    core: Arc<Core>,
    workers: Vec<Worker>,
    admin: Option<SocketAddr>,
}

impl Running {
    /// Takes connections of `port` on every worker, once the clusters can be called: until then they wait.
    fn serve(&self, port: Arc<Port>, socket: &TcpListener) -> Result<(), StartError> {
        // The last worker does what belongs to no connection.
        let traffic = &self.workers[..self.workers.len().saturating_sub(1)];
        let clusters = Arc::clone(&self.core.serving().clusters);
        for worker in traffic {
            let (clusters, rosters) = (Arc::clone(&clusters), self.core.rosters.clone());
            let socket = socket.try_clone().map_err(StartError::Threads)?;
            let app = Accepting {
                listener: Arc::clone(&port.listener),
                drain: self.core.drainer.drain(),
                ids: Arc::clone(&self.core.ids),
                connections: self.core.connections.clone(),
            };
            let mut service = Service::new(port.listener.load().name.clone(), app);
            let address = port.address.to_string();
            service.add_tcp(&address);
            let mut sockets = Fds::new();
            sockets.add(address, socket.into_raw_fd());
            let stopping = self.core.stop.subscribe();
            worker.handle.spawn(async move {
                clusters.warm().await;
                rosters.warm().await;
                service.start_service(Some(Arc::new(sockets.into())), stopping, 1).await;
            });
        }
        self.core.serving().ports.push(port);
        Ok(())
    }

    /// Takes another configuration while calls go on; one that cannot work changes nothing. Its listeners must be
    /// where the others were: sockets are opened at the start alone.
    pub async fn reload(&self, loaded: Loaded) -> Result<(), StartError> {
        let core = &self.core;
        let before = Arc::clone(&core.serving().clusters);
        let table = Table::compile(loaded.bootstrap, Some(&before), &core.stats, &core.logs, &core.rosters)
            .map_err(|problem| loaded.lines.locate(problem))?;
        let ports = core.serving().ports.clone();
        let places =
            |problem: &str| Path::root().field("static_resources").field("listeners").problem(problem);
        if table.listeners.len() != ports.len() {
            return Err(places("a listener was added or taken away: restart the gateway for that").into());
        }
        for (port, listener) in ports.iter().zip(&table.listeners) {
            if port.listener.load().address != listener.address {
                let problem =
                    format!("{} has another address now: restart the gateway for that", listener.name);
                return Err(places(&problem).into());
            }
        }
        if let Some(main) = self.workers.last() {
            table.clusters.start(&main.handle, &core.background);
            core.rosters.start(&main.handle, &core.background);
        }
        // A name that cannot be looked up must not keep the rest from its new routes.
        let warm = async { tokio::join!(table.clusters.warm(), core.rosters.warm()) };
        if tokio::time::timeout(WARM, warm).await.is_err() {
            tracing::warn!("some clusters have not met their hosts yet, or a database has not answered");
        }
        for (port, listener) in ports.iter().zip(table.listeners) {
            let before = port.listener.load_full();
            port.listener.store(Arc::new(listener.take_over(&before)));
        }
        let mut serving = core.serving();
        (serving.bootstrap, serving.clusters) = (table.bootstrap, table.clusters);
        Ok(())
    }

    /// Where clients connect, by listener name: with the port that the system chose where the file left it open.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.core.listeners()
    }

    /// Where the admin interface listens, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns once somebody has asked the process to end, by `/quitquitquit`.
    pub async fn quit_requested(&self) {
        self.core.quit.cancelled().await;
    }

    /// Opens log files again, after they were moved away.
    pub fn reopen_logs(&self) {
        self.core.logs.reopen();
    }

    /// Takes no new connections, lets those that are there end for up to `grace`, and stops. Says whether all had
    /// ended by themselves.
    pub async fn shutdown(mut self, grace: Duration) -> bool {
        self.core.drainer.begin();
        self.core.close_listeners();
        self.core.connections.close();
        let drained = tokio::time::timeout(grace, self.core.connections.wait()).await.is_ok();
        if !drained {
            tracing::warn!(
                connections = self.core.connections.len(),
                "the gateway cuts what outlived its grace"
            );
        }
        self.core.background.cancel();
        self.core.rosters.stopped().await;
        let workers = std::mem::take(&mut self.workers);
        // Joining threads waits, which is not for a runtime's thread to do.
        let _ = tokio::task::spawn_blocking(move || drop(workers)).await;
        drained
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("listeners", &self.listeners()).finish_non_exhaustive()
    }
}
