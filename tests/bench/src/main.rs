//! Measures the release binary as a whole process and prints a table of what was found beside what is aimed at.

#![expect(clippy::print_stdout, reason = "what was measured is printed")]

mod binary;
mod latency;
mod load;
mod node;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};

/// Measures the release binary as a whole process. Figures are medians of the runs; with more than one, the lowest and
/// the highest stand beside.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = "Examples:\n  make bench\n  make bench ARGS='--runs 5 load'")]
struct Cli {
    /// What to measure [default: everything].
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// How often to measure each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The binary [default: `omnimesh` beside this one].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// `up --demo` on the full data: time to `ready`, memory.
    Load,
    /// Orders from landed record to durable unified order.
    Orders,
    /// `GetOrder` through the edge, and from an acknowledged write to its event at a subscriber.
    Latency,
}

/// A thing that is measured.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    values: Vec<f64>,
}

impl Figure {
    fn new(name: &'static str, unit: &'static str, goal: &'static str) -> Self {
        Self { name, unit, goal, values: Vec::new() }
    }

    fn row(mut self) -> [String; 4] {
        self.values.sort_by(f64::total_cmp);
        let median = self.values[self.values.len() / 2];
        let digits = if median < 100.0 { 1 } else { 0 };
        let shown = |value: f64| format!("{value:.digits$}");
        let range = match self.values.as_slice() {
            [lowest, .., highest] => format!("{} … {}", shown(*lowest), shown(*highest)),
            _ => String::new(),
        };
        [format!("{} ({})", self.name, self.unit), shown(median), range, self.goal.to_owned()]
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let binary = binary::locate(cli.binary)?;
    let wanted = |subject| cli.subjects.is_empty() || cli.subjects.contains(&subject);
    // One directory keeps the loaded deployment from subject to subject; building the silos is not what is measured.
    let directory = tempfile::Builder::new().prefix("bench").tempdir().context("no temporary directory")?;
    let mut figures = Vec::new();
    if wanted(Subject::Load) {
        figures.extend(load::whole_demo(&binary, directory.path(), cli.runs).await?);
    }
    if wanted(Subject::Orders) {
        figures.extend(load::orders(&binary, directory.path(), cli.runs).await?);
    }
    if wanted(Subject::Latency) {
        figures.extend(latency::measure(&binary, directory.path(), cli.runs).await?);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["measured", "median", "range", "goal"]);
    table.add_rows(figures.into_iter().map(Figure::row));
    for index in [1, 2] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    Ok(())
}
