//! Fresh databases for tests, on both engines: `for database in testing::databases(…)` is how every store is tested.
//!
//! PostgreSQL is a server of this process's own, from the newest `/usr/lib/postgresql/*/bin`, unless
//! `OMNIMESH_TEST_POSTGRES` names one (a URL up to the database's name) that many test processes share.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, Executor, migrate::Migrator};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{Config, Database};

/// How long a PostgreSQL server may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A fresh database on one engine.
#[derive(Debug)]
pub struct TestDatabase {
    /// Where it is, to open it once more.
    pub config: Config,
    /// The database.
    pub database: Database,
    _directory: TempDir,
}

/// A fresh database on each engine, with the tables of `service`.
pub async fn databases(service: &str, migrations: &Migrator) -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    for config in [None, Some(postgres_database().await)] {
        let directory = TempDir::new().expect("a temporary directory");
        let config =
            config.unwrap_or_else(|| Config { url: format!("sqlite:{}", directory.path().display()) });
        let database = Database::open(&config, service, migrations).await.expect("a fresh database");
        databases.push(TestDatabase { config, database, _directory: directory });
    }
    databases
}

/// A fresh, empty database on PostgreSQL.
pub async fn postgres_database() -> Config {
    static SERVER: OnceLock<Server> = OnceLock::new();
    sqlx::any::install_default_drivers();
    let base = match std::env::var("OMNIMESH_TEST_POSTGRES") {
        Ok(url) => url,
        Err(_) => SERVER.get_or_init(Server::start).url.clone(),
    };
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut connection = tokio::time::timeout(START, connect(&format!("{base}/postgres")))
        .await
        .expect("PostgreSQL answers within a minute of its start");
    connection
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("a fresh PostgreSQL database");
    Config { url: format!("{base}/{name}") }
}

/// A server that has just been started refuses until it is up.
async fn connect(url: &str) -> sqlx::AnyConnection {
    loop {
        match sqlx::AnyConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A PostgreSQL server of this process's own.
struct Server {
    url: String,
    _process: Child,
}

impl Server {
    fn start() -> Self {
        let binaries = newest_binaries();
        let home = std::env::temp_dir().join(format!("omnimesh-postgres-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&home).expect("a directory for PostgreSQL");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&home));
        }
        let data = home.join("data");
        run(as_postgres(&binaries.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-N", "-U", "postgres"]));
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        // The shell ends the server and removes its files once this process is gone, however it went.
        let watch = format!(
            "\"$@\" & server=$!; while [ -d /proc/{parent} ]; do sleep 1; done; \
             kill -INT $server; wait $server; rm -rf {home}",
            parent = std::process::id(),
            home = home.display(),
        );
        let process = as_postgres(Path::new("/bin/sh"))
            .args(["-c", &watch, "sh"])
            .arg(binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"])
            .args(["-c", "fsync=off", "-c", "unix_socket_directories="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PostgreSQL starts");
        Self { url: format!("postgres://postgres@127.0.0.1:{port}"), _process: process }
    }
}

fn newest_binaries() -> PathBuf {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is needed by the tests: `make test` installs it (Debian package postgresql)")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|binaries| binaries.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server is needed by the tests: `make test` installs it")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// PostgreSQL refuses to run as root, so root becomes its user.
fn as_postgres(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program)
            .current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
