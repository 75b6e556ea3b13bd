//! Measures the edge beside Envoy and nginx: the same meaning of the configuration, the same backend and the same load,
//! one core for the gateway and one for everything else, in turn.

#![expect(clippy::print_stdout, reason = "what was measured is printed")]

#[path = "../binary.rs"]
mod binary;
mod gateway;
mod load;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};

use gateway::{Backend, Gateway, Kind};
use load::Load;

/// Measures the edge beside Envoy and nginx on one core each. CPU is the process's own accounting; figures are
/// medians of the rounds.
#[derive(Debug, Parser)]
#[command(
    name = "bench-edge",
    after_help = "Examples:\n  make bench-edge\n  make bench-edge ARGS='--rounds 5 --only text'"
)]
struct Cli {
    /// How often each gateway gets each load.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measures only the CPU of loads whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The binary of Omnimesh [default: `omnimesh` beside this one].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The binary of Envoy [default: the one that the Python environment holds].
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

/// What a gateway was measured to take for a load, a value for each round.
#[derive(Debug, Default)]
struct Measured {
    /// Microseconds of CPU for a call.
    cpu: Vec<f64>,
    /// Calls a second.
    rate: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let ours = binary::locate(cli.binary)?;
    let envoy = cli.envoy.map_or_else(gateway::installed_envoy, Ok)?;
    let directory = tempfile::Builder::new().prefix("bench").tempdir().context("no temporary directory")?;
    let directory = directory.path();
    let backend = Backend::start(directory).await?;
    let binary = |kind: Kind| match kind {
        Kind::Omnimesh => ours.as_path(),
        Kind::Envoy => envoy.as_path(),
        Kind::Nginx => Path::new("nginx"),
    };

    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "CPU a call, µs",
        "Envoy",
        "nginx",
        "Omnimesh",
        "of Envoy's",
        "goal",
        "calls/s: Envoy",
        "Omnimesh",
    ]);
    let mut peak = f64::NAN;
    let only = cli.only.as_deref().unwrap_or_default();
    for load in Load::ALL.iter().filter(|load| load.name.contains(only)) {
        let mut gateways = Vec::new();
        for kind in load.gateways {
            let gateway = Gateway::start(*kind, binary(*kind), load.filters, &backend, directory).await?;
            gateways.push((gateway, Measured::default()));
        }
        for round in 0..=cli.rounds {
            for (gateway, measured) in &mut gateways {
                let (cpu, rate) = load.measure(gateway, directory).await?;
                // The first one warms up.
                if round > 0 {
                    measured.cpu.push(cpu);
                    measured.rate.push(rate);
                }
            }
        }
        let of =
            |kind: Kind| gateways.iter().find(|(gateway, _)| gateway.kind == kind).map(|(_, found)| found);
        let (Some(envoy), Some(ours)) = (of(Kind::Envoy), of(Kind::Omnimesh)) else { continue };
        if peak.is_nan() {
            peak = median(&envoy.rate);
        }
        let (theirs, own) = (median(&envoy.cpu), median(&ours.cpu));
        table.add_row([
            load.name.to_owned(),
            format!("{theirs:.1}"),
            of(Kind::Nginx).map_or_else(String::new, |nginx| format!("{:.1}", median(&nginx.cpu))),
            format!("{own:.1}"),
            format!("{:.2}", own / theirs),
            load.goal.to_owned(),
            format!("{:.0}", median(&envoy.rate)),
            format!("{:.0}", median(&ours.rate)),
        ]);
    }
    align(&mut table);
    println!("{table}");
    if cli.only.is_some() {
        return Ok(());
    }
    println!();

    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["", "Envoy", "Omnimesh", "goal"]);
    let mut latencies = Vec::new();
    let mut memories = Vec::new();
    for kind in [Kind::Envoy, Kind::Omnimesh] {
        let gateway = Gateway::start(kind, binary(kind), false, &backend, directory).await?;
        let mut p99 = Vec::new();
        for round in 0..=cli.rounds {
            let found = load::p99(&gateway, 0.7 * peak, directory).await?;
            if round > 0 {
                p99.push(found);
            }
        }
        latencies.push(median(&p99));
        drop(gateway);
        let gateway = Gateway::start(kind, binary(kind), false, &backend, directory).await?;
        memories.push(load::memory_with_idle(&gateway).await?);
    }
    let row = |name: String, values: &[f64], goal: &str| {
        let shown = values.iter().map(|value| format!("{value:.1}"));
        std::iter::once(name).chain(shown).chain([goal.to_owned()]).collect::<Vec<_>>()
    };
    table.add_row(row(format!("p99 at {:.0} calls/s, ms", 0.7 * peak), &latencies, "≤ Envoy's"));
    table.add_row(row(format!("memory with {} idle connections, MiB", load::IDLE), &memories, "≤ 30"));
    align(&mut table);
    println!("{table}");
    Ok(())
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
