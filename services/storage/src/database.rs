//! One service's database: a file of its own (SQLite) or a schema of its own (PostgreSQL).

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::Migrator,
    pool::PoolConnection,
};
use tokio::sync::watch;

use crate::{Config, Error, Tx, config::redacted, group_commit::GroupCommit};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Connections for reading, and on PostgreSQL for writing too.
const CONNECTIONS: u32 = 8;

/// Waiting this long for a connection is worth a warning.
const SLOW_CONNECTION: Duration = Duration::from_secs(10);

/// What every SQLite connection is set to. FULL, because acked means durable even when the power fails.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; \
    PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2000; PRAGMA wal_autocheckpoint = 10000;";

/// The writer keeps more of the file at hand than each of many readers, in KiB.
const WRITER_CACHE: &str = "PRAGMA cache_size = -16000";

/// What a URL says. Statements are not logged: they can be long, and a slow one tells of the machine, not of itself.
fn options(url: &str) -> Result<AnyConnectOptions, Error> {
    let options: AnyConnectOptions = url.parse().map_err(|_| Error::Url(redacted(url)))?;
    Ok(options.disable_statement_logging())
}

fn pool() -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_slow_threshold(SLOW_CONNECTION)
}

/// Which engine a database runs on: for the few statements that cannot be the same on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite in this process.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// A service's database. Clones share it.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    engine: Engine,
    // SQLite only: PostgreSQL groups commits by itself.
    writer: Option<Arc<GroupCommit>>,
    commits: watch::Sender<u64>,
}

impl Database {
    /// Opens the database of `service`, makes it where there is none, and brings its schema up to date.
    pub async fn open(config: &Config, service: &str, migrations: &Migrator) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let commits = watch::Sender::new(0);
        let database = if let Some(directory) = config.url.strip_prefix("sqlite:") {
            Self::open_sqlite(Path::new(directory), service, commits).await?
        } else if config.url.starts_with("postgres://") || config.url.starts_with("postgresql://") {
            Self::open_postgres(&config.url, service, commits).await?
        } else {
            return Err(Error::Url(redacted(&config.url)));
        };
        database.migrate("storage", &MIGRATIONS).await?;
        database.migrate(service, migrations).await?;
        Ok(database)
    }

    async fn open_sqlite(
        directory: &Path,
        service: &str,
        commits: watch::Sender<u64>,
    ) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Directory { path: directory.display().to_string(), reason };
        std::fs::create_dir_all(directory).map_err(|error| unusable(error.to_string()))?;
        let file = directory.join(format!("{service}.db"));
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let options = options(&url)?;
        let pool = pool().idle_timeout(Duration::from_secs(30)).after_connect(|connection, _| {
            Box::pin(async move { connection.execute(PRAGMAS).await.map(drop) })
        });
        let readers =
            pool.clone().connect_with(options.clone()).await.map_err(|error| unusable(error.to_string()))?;
        let writer = pool.max_connections(1).idle_timeout(None).connect_with(options).await?;
        let mut writer = writer.acquire().await?.detach();
        writer.execute(WRITER_CACHE).await?;
        let writer = GroupCommit::start(writer, commits.clone());
        Ok(Self { pool: readers, engine: Engine::Sqlite, writer: Some(writer), commits })
    }

    async fn open_postgres(url: &str, service: &str, commits: watch::Sender<u64>) -> Result<Self, Error> {
        let options = options(url)?;
        // `BLOB` is what SQLite calls it; the domain lets one migration serve both engines. The lock makes the first
        // start of several replicas safe.
        let setup = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtext('{service}')); CREATE SCHEMA IF NOT EXISTS \"{service}\"; \
             SET search_path TO \"{service}\"; \
             DO $$ BEGIN CREATE DOMAIN blob AS bytea; EXCEPTION WHEN duplicate_object THEN NULL; END $$; COMMIT;"
        );
        // A pool would try again for half a minute before it said why it cannot connect.
        let mut connection =
            AnyConnection::connect_with(&options).await.map_err(|error| Error::Unreachable {
                server: options.database_url.authority().rsplit('@').next().unwrap_or_default().to_owned(),
                reason: error.to_string(),
            })?;
        connection.execute(AssertSqlSafe(setup)).await?;
        connection.close().await?;
        let search_path = format!("SET search_path TO \"{service}\"");
        let pool = pool()
            .after_connect(move |connection, _| {
                let search_path = search_path.clone();
                Box::pin(async move { connection.execute(AssertSqlSafe(search_path)).await.map(drop) })
            })
            .connect_with(options)
            .await?;
        Ok(Self { pool, engine: Engine::Postgres, writer: None, commits })
    }

    /// Brings the tables of one owner up to date; each owner's versions are counted apart.
    pub async fn migrate(&self, owner: &str, migrations: &Migrator) -> Result<(), Error> {
        let mut migrator = Migrator::with_migrations(migrations.iter().cloned().collect());
        migrator.dangerous_set_table_name(format!("_{owner}_migrations"));
        Ok(migrator.run(&self.pool).await?)
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, Error> {
        match &self.writer {
            Some(writer) => Ok(Tx::grouped(writer.begin().await?)),
            None => Ok(Tx::own(self.pool.begin().await?, self.commits.clone())),
        }
    }

    /// A connection for reading what is committed.
    pub async fn reader(&self) -> Result<PoolConnection<Any>, Error> {
        Ok(self.pool.acquire().await?)
    }

    /// Which engine it runs on.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Counts this process's commits: whoever waits for new rows waits here instead of polling.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }
}
