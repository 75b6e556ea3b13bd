//! Event logs on SQLite behind a real server, and a lake that reads them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use events::{Consumers, Cursor, Log, NewEvent};
use futures::TryStreamExt;
use lake::{Config, Manifest, Root};
use lance::Dataset;
use mesh::{Channel, Peers, Policy, ServerBuilder};
use storage::{
    Database,
    sqlx::{self, Row, migrate::Migrator},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

pub(crate) const DOMAINS: [&str; 6] = ["ingest", "identity", "customer", "catalog", "order", "inventory"];
static NONE: Migrator = Migrator::DEFAULT;
/// Longer than anything takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at what nobody tells of: who looks all the time takes the time from those who work.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks until `done`, or for as long as that may take.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let mut glance = tokio::time::interval(GLANCE);
    let done = async {
        while !done().await {
            glance.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("{what}"));
}

/// What a call came to whose answer is streamed: its last message.
pub(crate) async fn last<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<T, Status> {
    let mut messages: Vec<_> = call.await?.into_inner().try_collect().await?;
    Ok(messages.pop().unwrap())
}

pub(crate) struct Sandbox {
    root: PathBuf,
    logs: BTreeMap<&'static str, (Database, Log)>,
}

impl Sandbox {
    pub(crate) async fn open(directory: &Path) -> Self {
        let config = storage::Config { url: format!("sqlite:{}", directory.display()) };
        let mut logs = BTreeMap::new();
        for domain in DOMAINS {
            let database = Database::open(&config, domain, &NONE).await.unwrap();
            let log = Log::open(domain, &database).await.unwrap();
            logs.insert(domain, (database, log));
        }
        Self { root: directory.join("lake"), logs }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Publishes in transactions of `size` events.
    pub(crate) async fn publish(&self, domain: &str, events: &[NewEvent], size: usize) {
        let (database, log) = &self.logs[domain];
        for portion in events.chunks(size) {
            let mut tx = database.begin().await.unwrap();
            log.publish(&mut tx, portion).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// Makes another payload of the first event, and returns what it was.
    pub(crate) async fn replace_first(&self, domain: &str, payload: Vec<u8>) -> Vec<u8> {
        let mut tx = self.logs[domain].0.begin().await.unwrap();
        let first = sqlx::query("SELECT seq, payload FROM outbox ORDER BY seq LIMIT 1");
        let first = first.fetch_one(tx.connection().unwrap()).await.unwrap();
        let other = sqlx::query("UPDATE outbox SET payload = $1 WHERE seq = $2");
        let other = other.bind(payload).bind(first.get::<i64, _>(0));
        other.execute(tx.connection().unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        first.get(1)
    }

    /// Exports to the lake in `root` until it has everything; then `after` happens, then all is stopped.
    pub(crate) async fn export_then(&self, root: impl Into<Root>, after: impl Future<Output = ()>) {
        self.serve(Self::config(root), mesh::Config::default(), async |_| after.await).await;
    }

    /// As `export_then`, with a channel to the lake's services.
    pub(crate) async fn serve_then(&self, root: impl Into<Root>, after: impl AsyncFnOnce(Channel)) {
        let service = "omnimesh.lake.v1.DatasetService";
        let after = async |peers: Peers| after(peers.channel_to("lake", service)).await;
        self.serve(Self::config(root), mesh::Config::default(), after).await;
    }

    /// Where the edge reaches a lake that is served by [`Self::serve_edge`].
    pub(crate) fn socket(root: &Path) -> PathBuf {
        root.with_extension("sock")
    }

    /// As `export_then`, for callers that the edge speaks for and for peers.
    pub(crate) async fn serve_edge(&self, config: Config, after: impl AsyncFnOnce(Peers)) {
        let mut mesh = mesh::Config::default();
        mesh.listen.unix = config.root.directory().map(Self::socket);
        self.serve(config, mesh, after).await;
    }

    /// Exports until `done` is, whether everything is there or not.
    pub(crate) async fn export_until(&self, done: impl Future<Output = ()>) {
        self.serve_while(Self::config(&self.root), mesh::Config::default(), async |_, _| done.await).await;
    }

    async fn serve(&self, config: Config, mesh: mesh::Config, after: impl AsyncFnOnce(Peers)) {
        let caught_up = async |peers: Peers, consumers: Consumers| {
            for mut position in consumers.positions() {
                let head: Cursor = self.logs[position.domain].1.head().await.unwrap();
                let caught_up = position.cursor.wait_for(|cursor| *cursor >= head);
                let caught_up = tokio::time::timeout(PATIENCE, caught_up).await;
                caught_up.unwrap_or_else(|_| panic!("{} does not catch up", position.consumer)).unwrap();
            }
            after(peers).await;
        };
        self.serve_while(config, mesh, caught_up).await;
    }

    async fn serve_while(
        &self,
        config: Config,
        mesh: mesh::Config,
        work: impl AsyncFnOnce(Peers, Consumers),
    ) {
        let permissions = ["event.read", "lake.read", "lake.write", "lake.erase"];
        let policy = Policy::new([("lake", permissions.as_slice()), ("bi", &["lake.query"])]);
        let mut server = ServerBuilder::new(mesh, policy, None);
        let peers = server.host("lake");
        for domain in DOMAINS {
            server.host(domain);
            events::serve(&mut server, self.logs[domain].1.clone());
        }
        let (consumers, _) = server.shared::<Consumers>();
        lake::start(&config, &peers, &mut server).unwrap();
        let stop = CancellationToken::new();
        let server = server.build().await.unwrap();
        let server = tokio::spawn(server.serve(stop.clone().cancelled_owned()));
        work(peers, consumers.clone()).await;
        consumers.stop().await;
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    pub(crate) async fn export(&self) {
        self.export_then(&self.root, async {}).await;
    }

    pub(crate) fn config(root: impl Into<Root>) -> Config {
        Config { root: root.into(), quiet_ms: 20, buffer_mib: 1, refresh_seconds: 0, ..Config::default() }
    }

    /// Computes the tables that are made of others.
    pub(crate) async fn run(&self) -> Manifest {
        lake::run(&Self::config(&self.root), &[], &|_| {}).await.unwrap()
    }

    /// The rows of a table (`<layer>/<name>`) in order, as texts between bars.
    pub(crate) async fn rows(&self, table: &str, columns: &[&str]) -> Vec<String> {
        let path = self.root.join(format!("{table}.lance"));
        let dataset = Dataset::open(path.to_str().unwrap()).await.unwrap();
        let batch = dataset.scan().project(columns).unwrap().try_into_batch().await.unwrap();
        let options = FormatOptions::default();
        let cells: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let row = |row| cells.iter().map(|cell| cell.value(row).to_string()).collect::<Vec<_>>().join("|");
        let mut rows: Vec<_> = (0..batch.num_rows()).map(row).collect();
        rows.sort();
        rows
    }
}
