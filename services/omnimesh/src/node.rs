//! One process of the mesh: the roles it hosts, from the first lock to the last flush.

use std::{
    fs::{DirBuilder, File},
    net::SocketAddr,
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use edge::gateway;
use events::{Consumers, Directory};
use fs4::fs_std::FileExt;
use mesh::{Clock, Identity, ServerBuilder, telemetry::Telemetry};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    bootstrap,
    config::Config,
    error::Failure,
    roles::{self, Role},
};

/// Calls that are under way when the node is told to stop get this long.
const GRACE: Duration = Duration::from_secs(10);

/// What a running node leaves in its data directory, for other commands to find it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    pub(crate) pid: u32,
    pub(crate) roles: Vec<String>,
    /// Where clients connect, if the node has an edge.
    pub(crate) listen: Option<SocketAddr>,
    /// Where operators connect, if the node has an edge.
    pub(crate) admin: Option<SocketAddr>,
}

impl Whereabouts {
    fn path(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join("run").join("node.json")
    }

    /// The socket that the services of `data_dir` listen on.
    pub(crate) fn socket(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join("run").join("mesh.sock")
    }

    /// The socket that the services of a node listen on.
    pub(crate) fn mesh_socket(config: &Config) -> std::path::PathBuf {
        config.mesh.listen.unix.clone().unwrap_or_else(|| Self::socket(&config.data_dir))
    }

    /// Whoever reads them next must not find a node that is gone; that there are none is as good.
    fn forget(data_dir: &Path) {
        std::fs::remove_file(Self::path(data_dir)).ok();
    }

    /// Those of the node that serves `data_dir`, if one does. Asking takes no lock, so it is in nobody's way.
    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        // Nobody listens on the socket: what the file says is from a node that is gone.
        UnixStream::connect(Self::socket(data_dir)).ok()?;
        serde_json::from_slice(&std::fs::read(Self::path(data_dir)).ok()?).ok()
    }
}

/// A process's part of the mesh, running.
pub(crate) struct Node {
    pub(crate) whereabouts: Whereabouts,
    pub(crate) logs: Directory,
    pub(crate) consumers: Consumers,
    pub(crate) lake: Option<lake::Served>,
    edge: Option<gateway::Running>,
    server: JoinHandle<Result<(), mesh::ServeError>>,
    stop: CancellationToken,
    data_dir: std::path::PathBuf,
    // Last but for the lock: what is dropped before it may still tell something.
    _telemetry: Arc<Telemetry>,
    _lock: File,
}

impl Node {
    /// Starts `roles`. When this returns, they serve; an error means that nothing was started.
    pub(crate) async fn start(config: &Config, roles: &[&'static Role]) -> Result<Self, Failure> {
        let has_edge = roles.iter().any(|role| role.name == "edge");
        if has_edge {
            if Whereabouts::read(&config.data_dir).is_some() {
                return Err(Failure::Usage(occupied(&config.data_dir)));
            }
            bootstrap::check(config, roles).map_err(Failure::Usage)?;
        }
        prepare(&config.data_dir).map_err(Failure::Usage)?;
        let lock = lock(&config.data_dir).map_err(Failure::Usage)?;
        Whereabouts::forget(&config.data_dir);
        let telemetry = Arc::new(mesh::telemetry::init(&config.telemetry).map_err(Failure::usage)?);
        let tls = config.data_dir.join("tls");
        let identity = Identity::open(config.mesh.certificate.as_ref(), &tls, Clock::system())
            .map_err(Failure::usage)?;
        let mut mesh = config.mesh.clone();
        mesh.listen.unix = Some(Whereabouts::mesh_socket(config));
        let mut server = ServerBuilder::new(mesh, roles::policy(), Some(identity));
        for role in roles {
            let peers = server.host(role.name);
            roles::register(role, config, &peers, &mut server).await.map_err(Failure::Usage)?;
        }
        let lake = match roles.iter().any(|role| role.name == "lake") {
            true => Some(lake::start(&config.lake()?, &server.peers("lake"), &mut server)),
            false => None,
        };
        let lake = lake.transpose().map_err(Failure::usage)?;
        // Shared with whoever registered first, so asked for last.
        let (logs, _) = server.shared::<Directory>();
        let (consumers, _) = server.shared::<Consumers>();
        let server = server.build().await.map_err(Failure::usage)?;
        let edge = match has_edge {
            true => Some(start_edge(config, roles, telemetry.clone()).await?),
            false => None,
        };
        let whereabouts = Whereabouts {
            pid: std::process::id(),
            roles: roles.iter().map(|role| role.name.to_owned()).collect(),
            listen: edge.as_ref().and_then(|edge| Some(edge.listeners().first()?.1)),
            admin: edge.as_ref().and_then(gateway::Running::admin),
        };
        let text = serde_json::to_vec_pretty(&whereabouts).map_err(Failure::usage)?;
        std::fs::write(Whereabouts::path(&config.data_dir), text).map_err(Failure::usage)?;
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
        Ok(Self {
            whereabouts,
            logs,
            consumers,
            lake,
            edge,
            server,
            stop,
            data_dir: config.data_dir.clone(),
            _telemetry: telemetry,
            _lock: lock,
        })
    }

    /// Stops so that nothing is cut: no new calls; those under way end, and streams are told to go on elsewhere.
    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        self.consumers.stop().await;
        let edge = async {
            match self.edge {
                Some(edge) => edge.shutdown(GRACE).await,
                None => true,
            }
        };
        self.stop.cancel();
        let (_, server) = tokio::join!(edge, self.server);
        server.context("the server's task failed")??;
        Whereabouts::forget(&self.data_dir);
        Ok(())
    }
}

async fn start_edge(
    config: &Config,
    roles: &[&'static Role],
    telemetry: Arc<Telemetry>,
) -> Result<gateway::Running, Failure> {
    let consumers = edge::Consumers::open(&config.storage()).await.map_err(Failure::usage)?;
    consumers.ensure_admin(&config.data_dir).await.map_err(Failure::usage)?;
    let options = gateway::Options {
        concurrency: config.edge.limits.threads.unwrap_or_else(gateway::cores),
        drain_time: GRACE,
        set_log_filter: None,
        render_metrics: Some(Arc::new(move || telemetry.render())),
    };
    let loaded = bootstrap::load(config, roles).map_err(Failure::Usage)?;
    gateway::start(loaded, &options).map_err(Failure::usage)
}

fn prepare(data_dir: &Path) -> anyhow::Result<()> {
    let unusable = || format!("cannot use the data directory {}", data_dir.display());
    if let Some(parent) = data_dir.parent() {
        std::fs::create_dir_all(parent).with_context(unusable)?;
    }
    // What is kept is personal; nobody else on the machine reads it.
    let mut directory = DirBuilder::new();
    directory.mode(0o700).recursive(true);
    [data_dir.to_owned(), data_dir.join("run")]
        .iter()
        .try_for_each(|path| directory.create(path).with_context(unusable))
}

/// Takes the data directory for this process.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("run").join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock_exclusive() {
        Ok(true) => Ok(file),
        _ => Err(occupied(data_dir)),
    }
}

fn occupied(data_dir: &Path) -> anyhow::Error {
    anyhow!("another omnimesh process runs on {}: stop it, or choose another --data-dir", data_dir.display())
}
