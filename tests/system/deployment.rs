//! A data directory, and what runs on it.

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::process::{PATIENCE, Process};

/// The demo that loads quickest.
pub(crate) const DEMO: [&str; 3] = ["--demo", "--demo-size", "small"];
/// The system chooses the ports: nothing that runs on this machine is in the way.
const ANY_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// A deployment: a data directory, and the processes that run on it one after the other.
#[derive(Debug)]
pub(crate) struct Deployment {
    directory: TempDir,
    database_url: Option<String>,
    /// Whether what the lake is made of is computed, which takes longer than all else.
    computes: bool,
}

impl Deployment {
    /// On SQLite in the data directory.
    pub(crate) fn embedded() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self { directory, database_url: None, computes: true }
    }

    /// On a fresh PostgreSQL database.
    pub(crate) async fn postgres() -> Self {
        let database_url = Some(storage::testing::postgres_database().await.url);
        Self { database_url, ..Self::embedded() }
    }

    /// The same, with tables of events alone in its lake.
    pub(crate) fn of_events(self) -> Self {
        Self { computes: false, ..self }
    }

    /// Another one on the same database.
    pub(crate) fn beside(&self) -> Self {
        Self { database_url: Some(self.database_url()), ..Self::embedded() }
    }

    /// The data directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the services' databases are.
    pub(crate) fn database_url(&self) -> String {
        self.database_url.clone().unwrap_or_else(|| format!("sqlite:{}", self.path().join("db").display()))
    }

    /// A process of a command on this deployment.
    pub(crate) fn start(&self, command: &str, flags: &[&str]) -> Process {
        let mut arguments: Vec<OsString> = [command].iter().chain(flags).map(Into::into).collect();
        arguments.extend(["--data-dir".into(), self.path().into()]);
        if let Some(url) = &self.database_url {
            arguments.extend(["--database-url".into(), url.into()]);
        }
        let environment: &[_] = if self.computes { &[] } else { &[("OMNIMESH__LAKE__REFRESH_SECONDS", "0")] };
        Process::start_with(environment, arguments)
    }

    /// `omnimesh up`.
    pub(crate) fn up(&self, flags: &[&str]) -> Process {
        self.start("up", &[&ANY_PORTS, flags].concat())
    }

    /// Loads the demo to its end, however much of it was there.
    pub(crate) async fn load(&self) {
        let ended = self.up(&[&DEMO[..], &["--exit-when-ready"]].concat()).ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stdout.lines().last(), Some("ready"), "{}", ended.stdout);
    }

    /// What `omnimesh verify --json` reports: every invariant must hold.
    pub(crate) async fn verify(&self) -> Value {
        let ended = self.start("verify", &["--json"]).ended().await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout).expect("verify prints JSON")
    }

    /// Gives it the demo's silos that another one has built; returns where they are.
    pub(crate) fn share_silos(&self, builder: &Self) -> PathBuf {
        let silos = self.path().join("silos");
        symlink(builder.path().join("silos"), &silos).expect("the same silos");
        silos
    }

    /// Waits until the lake has heard everything.
    pub(crate) async fn lake_holds(&self, expected: &Value) {
        let root = self.path().join("lake");
        let found =
            async || serde_json::to_value(lake::exported(&root).await.expect("a lake")).expect("JSON");
        // Every look reads all of the lake: those that came too late are not made up for.
        let mut poll = interval(Duration::from_secs(2));
        poll.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let caught_up = async {
            while found().await != *expected {
                poll.tick().await;
            }
        };
        // What is still missing then is for the caller to compare, in full.
        timeout(PATIENCE, caught_up).await.ok();
    }

    /// Where clients reach the process that runs here.
    pub(crate) fn address(&self) -> SocketAddr {
        edge_address(self.path())
    }

    /// The first administrator's key.
    pub(crate) fn key(&self) -> String {
        admin_key(self.path())
    }
}

/// Where clients reach the edge that runs on a data directory.
pub(crate) fn edge_address(data_dir: &Path) -> SocketAddr {
    let text = std::fs::read(data_dir.join("run/node.json")).expect("a process runs on the data directory");
    let node: Value = serde_json::from_slice(&text).expect("node.json is JSON");
    node["listen"].as_str().expect("the node has an edge").parse().expect("an address")
}

/// The first administrator's key.
pub(crate) fn admin_key(data_dir: &Path) -> String {
    let key = std::fs::read_to_string(admin_key_file(data_dir)).expect("the administrator's key");
    key.trim().to_owned()
}

/// Where that key is kept.
pub(crate) fn admin_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.key")
}
