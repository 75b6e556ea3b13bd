//! `omnimesh consumer usage`: what consumers have used of their quotas.

use edge::{Month, Usage};
use mesh::Clock;
use serde::Serialize;

use super::{open, time};
use crate::{cli::UsageArgs, error::Failure, output, table::table};

/// A month as programs read it.
#[derive(Debug, Serialize)]
struct Report {
    month: String,
    consumers: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    consumer: String,
    plan: Option<String>,
    used: u64,
    quota: Option<u64>,
    /// Leased by edges, and not used (yet).
    held: u64,
}

pub(crate) async fn run(args: UsageArgs) -> Result<(), Failure> {
    let month: Month = match &args.month {
        Some(month) => month.parse().map_err(Failure::usage)?,
        None => Month::of(time(Clock::system().now_micros())?),
    };
    let usage = open(&args.read.common).await?.usage(month).await;
    let usage = usage.map_err(|error| Failure::Failed(error.into()))?;
    let entries: Vec<_> = usage.into_iter().map(entry).collect();
    if args.read.json {
        let report = Report { month: month.to_string(), consumers: entries };
        return output::json(&report);
    }
    let rows = entries.into_iter().map(|entry| {
        let percent = |quota: u64| format!("{:.1} %", entry.used as f64 * 100.0 / quota.max(1) as f64);
        vec![
            entry.consumer.clone(),
            entry.plan.clone().unwrap_or_default(),
            entry.used.to_string(),
            entry.quota.map_or("any".to_owned(), |quota| quota.to_string()),
            entry.quota.map(percent).unwrap_or_default(),
        ]
    });
    output::line(table(
        &["consumer", "plan", &format!("used in {month}"), "quota", "share"],
        &[2, 3, 4],
        rows,
    ))
}

fn entry(usage: Usage) -> Entry {
    let Usage { consumer, plan, quota, used, held } = usage;
    Entry { consumer, plan, used, quota, held }
}
