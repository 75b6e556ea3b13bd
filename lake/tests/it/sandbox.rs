//! Event logs on SQLite behind a real server, and a lake that reads them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use events::{Consumers, Cursor, Log, NewEvent};
use lake::Config;
use mesh::{Channel, Policy, ServerBuilder};
use storage::{Database, sqlx::migrate::Migrator};
use tokio_util::sync::CancellationToken;

pub(crate) const DOMAINS: [&str; 4] = ["ingest", "customer", "order", "inventory"];
static NONE: Migrator = Migrator::DEFAULT;

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

    /// Exports to the lake in `root` until it has everything; then `after` happens, then all is stopped.
    pub(crate) async fn export_then(&self, root: &Path, after: impl Future<Output = ()>) {
        self.serve_then(root, async |_| after.await).await;
    }

    /// As `export_then`, with a channel to the lake's services.
    pub(crate) async fn serve_then(&self, root: &Path, after: impl AsyncFnOnce(Channel)) {
        let permissions = ["event.read", "lake.read", "lake.write", "lake.erase"];
        let policy = Policy::new([("lake", permissions.as_slice())]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let peers = server.host("lake");
        for domain in DOMAINS {
            server.host(domain);
            events::serve(&mut server, self.logs[domain].1.clone());
        }
        let (consumers, _) = server.shared::<Consumers>();
        let config = Config { root: root.to_owned(), quiet_ms: 20, buffer_mib: 1, ..Config::default() };
        lake::start(&config, &peers, &mut server).unwrap();
        let channel = peers.channel_to("lake", "omnimesh.lake.v1.DatasetService");
        let stop = CancellationToken::new();
        let server = server.build().await.unwrap();
        let server = tokio::spawn(server.serve(stop.clone().cancelled_owned()));

        for mut position in consumers.positions() {
            let head: Cursor = self.logs[position.domain].1.head().await.unwrap();
            let caught_up = position.cursor.wait_for(|cursor| *cursor >= head);
            let caught_up = tokio::time::timeout(Duration::from_secs(120), caught_up).await;
            caught_up.unwrap_or_else(|_| panic!("{} does not catch up", position.consumer)).unwrap();
        }
        after(channel).await;
        consumers.stop().await;
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    pub(crate) async fn export(&self) {
        self.export_then(&self.root, async {}).await;
    }
}
