//! Measures the lake beside what else there is for the same work: the same Arrow input, the same two cores, in turn.
//! Only what finds the same is compared.

#![expect(clippy::print_stdout, reason = "what was measured is printed")]

#[path = "../binary.rs"]
mod binary;
mod commits;
mod demo;
mod export;
mod features;
mod join;
#[path = "../node.rs"]
mod node;
mod peer;
mod table;
mod vectors;
mod write;

use std::{
    path::PathBuf,
    process::{self, Command, Stdio},
};

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Runtime;

use demo::Demo;

// As in the binary that is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Both sides have these two to themselves, and as many threads as they choose to have there.
const CORES: &str = "0,1";

/// Measures the lake beside pylance, Polars, DuckDB and LanceDB on two cores. Figures are medians of the rounds; it takes
/// about a quarter of an hour.
#[derive(Debug, Parser)]
#[command(
    name = "bench-lake",
    after_help = "Examples:\n  make bench-lake\n  make bench-lake ARGS='--rounds 5 --only join'"
)]
struct Cli {
    /// How often each side does each work.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measures only subjects whose name contains this: write, join, vectors, export, features, commits.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The binary of Omnimesh [default: `omnimesh` beside this one].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Keeps the loaded demo here, and finds it here the next time [default: neither].
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // Whatever is started from here on inherits it.
    let bound = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", CORES, &process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset is missing: Debian's package is util-linux")?;
    anyhow::ensure!(bound.success(), "the cores {CORES} cannot be had");
    Runtime::new()?.block_on(run(cli))
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let binary = binary::locate(cli.binary)?;
    peer::check().await?;
    let directory = tempfile::Builder::new().prefix("bench").tempdir().context("no temporary directory")?;
    let directory = directory.path();
    let only = cli.only.unwrap_or_default();
    let wanted = |subject: &str| subject.contains(&only);
    let mut rows = Vec::new();
    if ["write", "join", "vectors", "export"].into_iter().any(wanted) {
        let demo = Demo::load(&binary, cli.keep.as_deref().unwrap_or(directory)).await?;
        if wanted("write") {
            rows.extend(write::measure(&demo, cli.rounds).await?);
        }
        if wanted("join") {
            rows.extend(join::measure(&demo, cli.rounds).await?);
        }
        if wanted("vectors") {
            rows.extend(vectors::measure(&demo, cli.rounds).await?);
        }
        if wanted("export") {
            rows.extend(export::measure(&demo, cli.rounds).await?);
        }
    }
    if wanted("features") {
        rows.extend(features::measure(&binary, directory, cli.rounds).await?);
    }
    if wanted("commits") {
        rows.extend(commits::measure(directory, cli.rounds).await?);
    }
    anyhow::ensure!(!rows.is_empty(), "no subject's name contains {only:?}; `--help` lists them");
    println!("{}", table::show(&rows));
    Ok(())
}
