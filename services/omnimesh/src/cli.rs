//! The command line.

mod lake;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::lake::{
    LakeCommand, LakeDiffArgs, LakeEraseArgs, LakeMirrorArgs, LakeRunArgs, LakeStatusArgs, LakeTagArgs,
};
use crate::{config::Config, consumer, error::Failure, gateway, lakes, serve, status, up, verify};

/// The omnichannel retail data mesh.
#[derive(Debug, Parser)]
#[command(name = "omnimesh", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every role in this process, and read the configured sources; with the demo's data if asked.
    #[command(
        after_help = "Examples:\n  omnimesh up --demo\n  omnimesh up --data-dir /var/lib/omnimesh --listen 127.0.0.1:8080\n  \
        omnimesh up --demo --demo-size small --exit-when-ready"
    )]
    Up(UpArgs),
    /// Run chosen roles in this process; the others are found through `[mesh.peers]`.
    #[command(after_help = "Example:\n  omnimesh serve --role order,customer --config omnimesh.toml")]
    Serve(ServeArgs),
    /// Show what runs where, how far the sources are, what waits in quarantine and what the lake holds. Exit code 1 if
    /// nothing runs or something is in quarantine.
    #[command(
        after_help = "Examples:\n  omnimesh status --data-dir omnimesh-data --json\n  omnimesh status --ready"
    )]
    Status(StatusArgs),
    /// Check the invariants of what is loaded, a line each. Exit code 1 if one does not hold.
    #[command(after_help = "Example:\n  omnimesh verify --data-dir omnimesh-data")]
    Verify(ReadArgs),
    /// Say who may call from outside, by which keys, until when and how much.
    #[command(
        subcommand,
        after_help = "Examples:\n  omnimesh consumer add till-7 --permission order.write --expires 90d\n  \
        omnimesh consumer list\n  omnimesh consumer revoke till-7\n  \
        omnimesh consumer plan set silver --rate 20 --burst 40 --monthly-quota 100000\n  \
        omnimesh consumer plan assign till-7 silver\n  omnimesh consumer usage"
    )]
    Consumer(ConsumerCommand),
    /// Run a gateway of an Envoy v3 bootstrap in place of Envoy; or check, explain and migrate such a file.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  omnimesh edge -c envoy.yaml\n  omnimesh edge -c envoy.yaml --mode validate\n  \
        omnimesh edge support envoy.yaml\n  omnimesh edge explain GET /api -c envoy.yaml\n  \
        omnimesh edge migrate old.yaml > envoy.yaml\n  \
        omnimesh edge --print-config --config omnimesh.toml > edge.yaml\n\n\
        SIGHUP, and any change of the file, makes it take the file's new content; a file that cannot work changes \
        nothing. SIGTERM and Ctrl-C drain: calls under way end."
    )]
    Edge(EdgeArgs),
    /// Look into the lake, and compute the tables that are made of other tables.
    #[command(
        subcommand,
        after_help = "Examples:\n  omnimesh lake status\n  omnimesh lake run\n  omnimesh lake run --table gold/fct_order_line\n  \
        omnimesh lake tag gold/dim_customer train-churn-2026-11\n  \
        omnimesh lake diff gold/dim_customer@train-churn-2026-11 gold/dim_customer"
    )]
    Lake(LakeCommand),
    /// Print the configuration that a command would run with, passwords left out.
    #[command(after_help = "Example:\n  omnimesh config > omnimesh.toml")]
    Config(Common),
}

/// Where a deployment is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Directory of everything that is kept: databases, lake, keys, certificates [default: omnimesh-data].
    #[arg(long, env = "OMNIMESH_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML); see `omnimesh config`.
    #[arg(long, env = "OMNIMESH_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Database: `sqlite:<directory>` or `postgres://user@host/database` [default: SQLite in the data directory].
    // It can hold a password, which `--help` would show.
    #[arg(long, env = "OMNIMESH_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}

/// Where clients and operators connect.
#[derive(Debug, Clone, Args)]
pub(crate) struct Addresses {
    /// Where clients connect: gRPC and gRPC-Web [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where operators connect; loopback only [default: 127.0.0.1:9901].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) addresses: Addresses,
    /// Build legacy silos from The Complete Journey (a year of real grocery purchases) and load them.
    #[arg(long)]
    pub(crate) demo: bool,
    /// How much of the demo's data.
    #[arg(long, value_enum, default_value_t = DemoSize::Full, requires = "demo")]
    pub(crate) demo_size: DemoSize,
    /// Stop cleanly once all is served and loaded.
    #[arg(long)]
    pub(crate) exit_when_ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoSize {
    /// A tenth of the households.
    Small,
    /// All of them: 1.5 million order lines.
    Full,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) addresses: Addresses,
    /// Roles to run, separated by commas: identity, customer, catalog, inventory, order, ingest, lake, edge.
    #[arg(long = "role", value_delimiter = ',', required = true, value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
}

/// Flags as Envoy's.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<EdgeCommand>,
    /// The bootstrap: YAML or JSON.
    #[arg(short = 'c', long = "config-path", value_name = "FILE", required_unless_present_any = ["config_yaml", "print_config"])]
    pub(crate) config_path: Option<PathBuf>,
    /// The bootstrap itself.
    #[arg(long, value_name = "TEXT", conflicts_with = "config_path")]
    pub(crate) config_yaml: Option<String>,
    /// Print the bootstrap that `up` (or `serve` with the same --role) runs its edge with.
    #[arg(long, conflicts_with_all = ["config_path", "config_yaml"])]
    pub(crate) print_config: bool,
    /// Serve, or only say whether the bootstrap would start.
    #[arg(long, value_enum, default_value_t = EdgeMode::Serve)]
    pub(crate) mode: EdgeMode,
    /// Threads that serve traffic [default: one per core].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) concurrency: Option<usize>,
    /// How long calls under way may take once the gateway shall end.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) drain_time_s: u64,
    /// What is logged to standard error.
    #[arg(short = 'l', long = "log-level", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: EdgeLogLevel,
    #[command(flatten, next_help_heading = "With --print-config, as for up and serve")]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) addresses: Addresses,
    /// Roles beside which the edge runs, separated by commas [default: all].
    #[arg(long = "role", value_delimiter = ',', value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
}

/// Reads `NAME: VALUE`.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    /// Show what a bootstrap uses, and what of it is implemented, without effect or missing.
    #[command(after_help = "Example:\n  omnimesh edge support envoy.yaml")]
    Support {
        /// The bootstrap.
        file: PathBuf,
    },
    /// Say which listener, route, filters and cluster a request meets, and why.
    ///
    /// Nothing is sent. The exit status is 0 if a route takes the request, 1 if none does.
    #[command(after_help = "Examples:
  omnimesh edge explain GET /api/items -c envoy.yaml
  omnimesh edge explain POST /pkg.Service/Call -H 'content-type: application/grpc' -c envoy.yaml
  omnimesh edge explain GET / -c envoy.yaml --authority shop.example --listener public --json")]
    Explain {
        method: String,
        /// The path, with its query.
        path: String,
        /// The bootstrap.
        #[arg(short = 'c', long = "config-path", value_name = "FILE")]
        file: PathBuf,
        /// A header of the request; several times for several.
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
        headers: Vec<(String, String)>,
        /// Whom the request names as its host, in the TLS handshake too.
        #[arg(long, value_name = "HOST")]
        authority: Option<String>,
        /// The listener's name; without it the first one.
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Rewrite a bootstrap of older Envoys (v2 types, untyped filters) as v3, on standard output.
    #[command(after_help = "Example:\n  omnimesh edge migrate old.yaml > envoy.yaml")]
    Migrate {
        /// The bootstrap.
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EdgeMode {
    Serve,
    Validate,
}

/// Levels as Envoy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EdgeLogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
    Critical,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Print nothing; exit code 0 if the services answer, 1 if they do not. For a container's health check.
    #[arg(long, conflicts_with = "json")]
    pub(crate) ready: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerCommand {
    /// Make a key for a consumer, and print it: it is shown this once. A running edge takes it within seconds.
    #[command(after_help = "Examples:\n  omnimesh consumer add reports\n  \
        omnimesh consumer add till-7 --permission order.write --permission 'catalog.*' --expires 90d\n  \
        omnimesh consumer add partner --permission order.read --expires 2030-01-01T00:00:00Z > partner.key")]
    Add(AddArgs),
    /// List every key: whose it is, what it may do and until when.
    #[command(after_help = "Example:\n  omnimesh consumer list --json")]
    List(ReadArgs),
    /// End every key of a consumer, or one key. A running edge refuses it within seconds.
    #[command(
        after_help = "Examples:\n  omnimesh consumer revoke till-7\n  omnimesh consumer revoke omk_tZ3kM9qLw0aB\n\n\
        A consumer gets a new key without a gap: add the new one, hand it over, revoke the old one by its id.\n\
        `revoke admin` ends the keys in `admin.key` files; an edge writes itself another at its next start."
    )]
    Revoke(RevokeArgs),
    /// Say how much consumers may call.
    #[command(
        subcommand,
        after_help = "Examples:\n  omnimesh consumer plan set silver --rate 20 --burst 40 --monthly-quota 100000\n  \
        omnimesh consumer plan assign till-7 silver\n  omnimesh consumer plan list"
    )]
    Plan(PlanCommand),
    /// Show what consumers have used of their monthly quotas. Edges tell it every ten seconds, and at their end.
    #[command(
        after_help = "Examples:\n  omnimesh consumer usage\n  omnimesh consumer usage --month 2026-11 --json"
    )]
    Usage(UsageArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Make a plan, or change one for all who are on it. A running edge takes it within seconds.
    #[command(
        after_help = "Examples:\n  omnimesh consumer plan set silver --rate 20 --burst 40 --monthly-quota 100000\n  \
        omnimesh consumer plan set internal --rate 500\n\n\
        The rate holds on each edge; the quota over all of them, for a calendar month (UTC)."
    )]
    Set(PlanArgs),
    /// List every plan and who is on it.
    #[command(after_help = "Example:\n  omnimesh consumer plan list --json")]
    List(ReadArgs),
    /// Put a consumer on a plan; without a plan, on none.
    #[command(
        after_help = "Examples:\n  omnimesh consumer plan assign till-7 silver\n  omnimesh consumer plan assign till-7"
    )]
    Assign(AssignArgs),
    /// Forget a plan that nobody is on.
    #[command(after_help = "Example:\n  omnimesh consumer plan remove silver")]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The plan.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Calls a second on each edge [default: any].
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Calls at once [default: those of a second].
    #[arg(long, value_name = "CALLS", requires = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst: Option<u32>,
    /// Calls a calendar month over all edges [default: any].
    #[arg(long, value_name = "CALLS")]
    pub(crate) monthly_quota: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The consumer.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The plan.
    #[arg(value_name = "PLAN")]
    pub(crate) plan: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The plan.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// The month, in UTC [default: this one].
    #[arg(long, value_name = "YEAR-MONTH")]
    pub(crate) month: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Whom services will see as the caller. It may have several keys.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What the key may do: `order.read`, `order.*` or `*`; can be given several times [default: every `….read`].
    #[arg(long = "permission", value_delimiter = ',', value_name = "PERMISSION")]
    pub(crate) permissions: Vec<String>,
    /// When the key ends: a span from now, such as `90d` or `12h`, or a time (RFC 3339) [default: never].
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
    /// How much the consumer may call, with all its keys [default: as before; a new one as it likes].
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The consumer, or the id of one of its keys (`omk_…`).
    #[arg(value_name = "NAME|KEY-ID")]
    pub(crate) name: String,
}

impl Cli {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Up(args) => up::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Verify(args) => verify::run(args).await,
            Command::Consumer(command) => consumer::run(command).await,
            Command::Edge(args) => gateway::run(args).await,
            Command::Lake(command) => lakes::run(command).await,
            Command::Config(common) => Config::load(&common, None)?.print(),
        }
    }
}
