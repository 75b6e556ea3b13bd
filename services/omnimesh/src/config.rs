//! One configuration tree; a section is a crate, and its defaults live in that crate.
//!
//! Precedence: defaults, then the file, then `OMNIMESH__<SECTION>__<KEY>` in the environment, then flags.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Addresses, Common},
    error::Failure,
    output,
};

/// Everything that can be configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Directory of everything that is kept.
    pub(crate) data_dir: PathBuf,
    /// Where the services' databases are. Default: SQLite in `<data_dir>/db`.
    pub(crate) storage: Option<storage::Config>,
    /// How services talk.
    pub(crate) mesh: mesh::Config,
    /// Logs, traces and metrics.
    pub(crate) telemetry: mesh::config::TelemetryConfig,
    /// Where clients connect.
    pub(crate) edge: EdgeConfig,
    /// The domains.
    pub(crate) identity: identity::Config,
    pub(crate) customer: customer::Config,
    pub(crate) catalog: catalog::Config,
    pub(crate) inventory: inventory::Config,
    pub(crate) order: order::Config,
    pub(crate) ingest: ingest::Config,
    /// Systems of the sources that were configured, as opposed to the demo's: `up` reads them.
    #[serde(skip)]
    pub(crate) configured: Vec<String>,
    /// The lake.
    pub(crate) lake: lake::Config,
}

/// The edge as an operator sees it; its backends follow from the roles.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EdgeConfig {
    /// Where clients connect. Anything but loopback needs `tls`. Default: 127.0.0.1:8080.
    pub(crate) listen: SocketAddr,
    /// Where operators connect; loopback only. Default: 127.0.0.1:9901.
    pub(crate) admin: SocketAddr,
    /// The certificate shown to clients. Default: none.
    pub(crate) tls: Option<edge::ServerTls>,
    /// Where a line of JSON about each call is written, such as `/dev/stderr`. Default: nowhere.
    pub(crate) access_log: Option<PathBuf>,
    /// Whether calls are refused whose quota cannot be counted because the database does not answer. Default: false.
    pub(crate) failure_mode_deny: bool,
    /// Which web pages may call.
    pub(crate) cors: edge::Cors,
    /// Bounds on what one client can make the edge hold.
    pub(crate) limits: edge::Limits,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin: (Ipv4Addr::LOCALHOST, 9901).into(),
            tls: None,
            access_log: None,
            failure_mode_deny: false,
            cors: edge::Cors::default(),
            limits: edge::Limits::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "omnimesh-data".into(),
            storage: None,
            mesh: mesh::Config::default(),
            telemetry: mesh::config::TelemetryConfig::default(),
            edge: EdgeConfig::default(),
            identity: identity::Config::default(),
            customer: customer::Config::default(),
            catalog: catalog::Config::default(),
            inventory: inventory::Config::default(),
            order: order::Config::default(),
            ingest: ingest::Config::default(),
            configured: Vec::new(),
            lake: lake::Config::default(),
        }
    }
}

impl Config {
    /// The configuration that a command runs with; anything unknown in it is an error.
    pub(crate) fn load(common: &Common, addresses: Option<&Addresses>) -> Result<Self, Failure> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &common.config {
            if !file.is_file() {
                return Err(Failure::Usage(anyhow!("cannot read the configuration file {}", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut config: Self = figment
            .merge(Env::prefixed("OMNIMESH__").split("__"))
            .extract()
            .map_err(|error| explain(&error))?;
        if let Some(data_dir) = &common.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(url) = &common.database_url {
            config.storage = Some(storage::Config { url: url.clone() });
        }
        if let Some(addresses) = addresses {
            config.edge.listen = addresses.listen.unwrap_or(config.edge.listen);
            config.edge.admin = addresses.admin.unwrap_or(config.edge.admin);
        }
        config.configured = config.ingest.sources.iter().map(|source| source.system.clone()).collect();
        // A directory that holds the demo keeps its sources, whoever looks at it.
        if config.silos().is_dir() {
            config.add_demo()?;
        }
        Ok(config)
    }

    /// Adds the silos that the demo builds; a source that is configured under the name of one takes its place.
    pub(crate) fn add_demo(&mut self) -> Result<(), Failure> {
        let is_configured = |source: &ingest::Definition| self.configured.contains(&source.system);
        let mut demo = ingest::demo_sources(&self.silos(), None).map_err(Failure::usage)?;
        demo.retain(|source| !is_configured(source));
        self.ingest.sources.retain(is_configured);
        self.ingest.sources.extend(demo);
        Ok(())
    }

    /// Where the services' databases are.
    pub(crate) fn storage(&self) -> storage::Config {
        let default = || storage::Config { url: format!("sqlite:{}", self.data_dir.join("db").display()) };
        self.storage.clone().unwrap_or_else(default)
    }

    /// That there is a data directory: a mistyped one is not made.
    pub(crate) fn must_exist(&self) -> Result<(), Failure> {
        if self.data_dir.is_dir() {
            return Ok(());
        }
        let data_dir = self.data_dir.display();
        Err(Failure::Usage(anyhow!(
            "there is no data directory {data_dir}: `omnimesh up --data-dir {data_dir}` makes it"
        )))
    }

    /// Where the demo's silos are.
    pub(crate) fn silos(&self) -> PathBuf {
        self.data_dir.join("silos")
    }

    /// The lake's; a relative directory is meant from the data directory.
    pub(crate) fn lake(&self) -> Result<lake::Config, Failure> {
        let root = self.lake.root.below(&self.data_dir).map_err(Failure::usage)?;
        let text_model = self.lake.text_model.clone().or_else(fetched_text_model);
        Ok(lake::Config { root, text_model, ..self.lake.clone() })
    }

    /// Prints it as TOML, without the passwords in URLs.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let unshowable = "the configuration cannot be shown as TOML";
        let mut tree = toml::Value::try_from(self).context(unshowable)?;
        redact(&mut tree);
        output::text(toml::to_string_pretty(&tree).context(unshowable)?)
    }
}

/// Where `make text-model` puts its model, if it is there.
#[expect(clippy::disallowed_methods, reason = "this is where configuration is read")]
fn fetched_text_model() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("omnimesh/text-model/wl256")).filter(|model| model.join("model.safetensors").is_file())
}

/// Whatever has the form of a URL may hold a password: a source's, or a collector's of telemetry.
fn redact(tree: &mut toml::Value) {
    match tree {
        toml::Value::String(text) if text.contains("://") => *text = storage::redacted(text),
        toml::Value::Array(items) => items.iter_mut().for_each(redact),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| redact(value)),
        _ => {}
    }
}

/// What is wrong with the configuration, and where, in a line.
fn explain(error: &figment::Error) -> Failure {
    let place = error.metadata.as_ref().map_or_else(String::new, |metadata| match &metadata.source {
        Some(source) => format!("{source}: "),
        None => format!("{}: ", metadata.name),
    });
    let key = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) };
    // A mistake in the syntax comes with a drawing of its place, over several lines.
    let text = error.kind.to_string();
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(" |")).collect();
    let text = lines.join(", ");
    // What was found instead of what was expected may be a URL.
    let words = text.split(' ').map(|word| match word.contains("://") {
        true => storage::redacted(word),
        false => word.to_owned(),
    });
    Failure::Usage(anyhow!("{place}{key}{}", words.collect::<Vec<_>>().join(" ")))
}
