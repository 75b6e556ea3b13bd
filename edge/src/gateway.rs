//! Starts a gateway of a configuration, replaces the configuration while it serves, and stops it without cutting
//! a call.

mod port;
mod table;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::Files;
use crate::admin::{self, SetLogFilter};
use crate::bootstrap::Loaded;
use crate::certificates;
use crate::consumers::Rosters;
use crate::downstream::listener::Accepting;
use crate::drain::Drainer;
use crate::problem::{Path, Problem};
use crate::stats::Stats;
use crate::telemetry::Exporting;
use crate::upstream::Clusters;
use crate::worker::Worker;
pub(crate) use port::Port;
pub(crate) use table::Table;

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
    /// How long connections have to leave what a reload has taken away, or before `/drain_listeners?graceful` closes
    /// listeners.
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

/// How many threads can work at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Says whether a configuration would start.
pub fn validate(loaded: &Loaded) -> Result<(), Problem> {
    compiled(loaded).map(drop)
}

/// A configuration as it would serve.
pub(crate) fn compiled(loaded: &Loaded) -> Result<Table, Problem> {
    let stats = Stats::default();
    let (files, rosters, drainer) = (Files::new(&stats), Rosters::default(), Drainer::default());
    Table::compile(loaded.bootstrap.clone(), None, &stats, &files, &rosters, &drainer)
        .map_err(|problem| loaded.lines.locate(problem))
}

/// Starts a gateway. When this returns its listeners are bound, and serve as soon as the clusters can be called.
pub fn start(loaded: Loaded, options: &Options) -> Result<Running, StartError> {
    let stats = Stats::default();
    let lines = loaded.lines;
    let (logs, rosters, drainer) = (Files::new(&stats), Rosters::default(), Drainer::default());
    let table = Table::compile(loaded.bootstrap, None, &stats, &logs, &rosters, &drainer)
        .map_err(|problem| lines.locate(problem))?;
    let core = Arc::new(Core {
        stats,
        logs,
        rosters,
        options: options.clone(),
        drainer,
        quit: CancellationToken::new(),
        closed: AtomicBool::new(false),
        background: CancellationToken::new(),
        connections: TaskTracker::new(),
        exporting: Exporting::default(),
        ids: Arc::new(AtomicU64::new(1)),
        started: Instant::now(),
        start_time: SystemTime::now(),
        serving: Mutex::new(Serving {
            bootstrap: table.bootstrap,
            clusters: table.clusters,
            secret_files: table.secret_files,
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
    table.exports.start(&main.handle, &running.core.exporting);
    let following = certificates::follow(Arc::clone(&running.core));
    main.handle.spawn(running.core.background.clone().run_until_cancelled_owned(following));
    if let Some(port) = admin {
        running.admin = Some(port.address);
        admin::start(port, &running.core, &main.handle);
    }
    running.workers.push(main);
    let clusters = Arc::clone(&running.core.serving().clusters);
    for (port, socket) in &ports {
        running.serve(port, socket, &clusters)?;
    }
    running.core.serving().ports = ports.into_iter().map(|(port, _)| port).collect();
    running.core.tell_parts();
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
    /// No listener takes connections any more.
    closed: AtomicBool,
    /// Ends health checks, name resolution and the like.
    pub(crate) background: CancellationToken,
    connections: TaskTracker,
    exporting: Exporting,
    ids: Arc<AtomicU64>,
    pub(crate) started: Instant,
    pub(crate) start_time: SystemTime,
    serving: Mutex<Serving>,
}

/// The configuration that serves now.
pub(crate) struct Serving {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) clusters: Arc<Clusters>,
    /// Files that hold certificates by name.
    secret_files: Vec<String>,
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

    /// Says in the figures how many clusters and listeners serve.
    fn tell_parts(&self) {
        let serving = self.serving();
        let tell = |part: &str, name: &str, number: usize| {
            self.stats.scope(part).gauge(name).set(number.try_into().unwrap_or(i64::MAX));
        };
        tell("cluster_manager", "active_clusters", serving.clusters.all().len());
        tell("listener_manager", "total_listeners_active", serving.ports.len());
    }

    /// How many connections of clients there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes no new connections.
    pub(crate) fn close_listeners(&self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            let serving = self.serving();
            serving.ports.iter().for_each(|port| port.close());
            let listeners = serving.ports.len() as u64;
            self.stats.scope("listener_manager").counter("listener_stopped").add(listeners);
        }
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
    fn serve(&self, port: &Port, socket: &TcpListener, clusters: &Arc<Clusters>) -> Result<(), StartError> {
        // The last worker does what belongs to no connection.
        let traffic = &self.workers[..self.workers.len().saturating_sub(1)];
        for worker in traffic {
            let (clusters, rosters) = (Arc::clone(clusters), self.core.rosters.clone());
            let socket = socket.try_clone().map_err(StartError::Threads)?;
            let app = Accepting {
                listener: Arc::clone(&port.listener),
                ids: Arc::clone(&self.core.ids),
                connections: self.core.connections.clone(),
            };
            let mut service = Service::new(port.listener.load().name.clone(), app);
            let address = port.address.to_string();
            // What reads and writes has buffers of its own.
            let unbuffered = L4BufferSettings::unbuffered();
            service.add_listener(ListenerConfig::tcp(&address).l4_buffer(unbuffered));
            let mut sockets = Fds::new();
            sockets.add(address, socket.into_raw_fd());
            let stopping = port.stop.subscribe();
            worker.handle.spawn(async move {
                clusters.warm().await;
                rosters.warm().await;
                service.start_service(Some(Arc::new(sockets.into())), stopping, 1).await;
            });
        }
        Ok(())
    }

    /// Takes another configuration while calls go on; one that cannot work changes nothing. Listeners that are new
    /// take connections before those that are gone ask theirs to leave, which end after the drain time.
    pub async fn reload(&self, loaded: Loaded) -> Result<(), StartError> {
        let core = &self.core;
        let (before, mut left) = {
            let serving = core.serving();
            if serving.bootstrap.admin != loaded.bootstrap.admin {
                tracing::warn!("the admin interface stays as it is: restart the gateway for that");
            }
            (Arc::clone(&serving.clusters), serving.ports.clone())
        };
        let Core { stats, logs, rosters, drainer, .. } = &**core;
        let table = Table::compile(loaded.bootstrap, Some(&before), stats, logs, rosters, drainer)
            .map_err(|problem| loaded.lines.locate(problem))?;
        let (mut ports, mut kept, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        for listener in table.listeners {
            if let Some(at) = left.iter().position(|port| port.is_for(&listener)) {
                let port = left.remove(at);
                ports.push(Arc::clone(&port));
                kept.push((port, listener));
            } else {
                let (port, socket) = Port::bind(listener)?;
                ports.push(Arc::clone(&port));
                opened.push((port, socket));
            }
        }
        if let Some(main) = self.workers.last() {
            table.clusters.start(&main.handle, &core.background);
            core.rosters.start(&main.handle, &core.background);
            table.exports.start(&main.handle, &core.exporting);
        }
        // A name that cannot be looked up must not keep the rest from its new routes.
        let warm = async { tokio::join!(table.clusters.warm(), core.rosters.warm()) };
        if tokio::time::timeout(WARM, warm).await.is_err() {
            tracing::warn!("some clusters have not met their hosts yet, or a database has not answered");
        }
        for (port, socket) in opened {
            self.serve(&port, &socket, &table.clusters)?;
        }
        for (port, listener) in kept {
            let before = port.listener.load_full();
            let listener = Arc::new(listener.take_over(&before));
            port.listener.store(Arc::clone(&listener));
            before.retire(Some(&listener), core.options.drain_time);
        }
        *core.serving() = Serving {
            bootstrap: table.bootstrap,
            clusters: table.clusters,
            secret_files: table.secret_files,
            ports,
        };
        core.tell_parts();
        for port in left {
            port.close();
            port.listener.load().retire(None, core.options.drain_time);
        }
        Ok(())
    }

    /// The files besides the bootstrap that its secrets stand in: one that has changed wants a reload.
    pub fn secret_files(&self) -> Vec<String> {
        self.core.serving().secret_files.clone()
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
        self.core.exporting.finish().await;
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
