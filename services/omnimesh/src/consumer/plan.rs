//! `omnimesh consumer plan`: how much consumers may call.

use edge::{Plan, Rate};
use serde::Serialize;

use super::open;
use crate::{
    cli::{PlanArgs, PlanCommand, ReadArgs},
    error::Failure,
    output,
    table::table,
};

/// A plan as programs read it.
#[derive(Debug, Serialize)]
struct Entry {
    plan: String,
    rate: Option<u32>,
    burst: Option<u32>,
    monthly_quota: Option<u64>,
    consumers: Vec<String>,
}

pub(crate) async fn run(command: PlanCommand) -> Result<(), Failure> {
    match command {
        PlanCommand::Set(args) => set(args).await,
        PlanCommand::List(args) => list(args).await,
        PlanCommand::Assign(args) => {
            let consumers = open(&args.common).await?;
            consumers.assign_plan(&args.name, args.plan.as_deref()).await.map_err(Failure::usage)?;
            eprintln!(
                "{} is on {}",
                args.name,
                args.plan.map_or("no plan".to_owned(), |plan| format!("plan {plan}"))
            );
            Ok(())
        }
        PlanCommand::Remove(args) => {
            open(&args.common).await?.remove_plan(&args.name).await.map_err(Failure::usage)?;
            eprintln!("removed plan {}", args.name);
            Ok(())
        }
    }
}

async fn set(args: PlanArgs) -> Result<(), Failure> {
    let consumers = open(&args.common).await?;
    let rate = args.rate.map(|rate| Rate { per_second: rate, burst: args.burst.unwrap_or(rate) });
    let plan = Plan { name: args.name, rate, monthly_quota: args.monthly_quota };
    consumers.set_plan(&plan).await.map_err(Failure::usage)?;
    let rate = plan.rate.map(|rate| format!("{} calls a second, {} at once", rate.per_second, rate.burst));
    let quota = plan.monthly_quota.map(|quota| format!("{quota} calls a month"));
    let bounds: Vec<_> = rate.into_iter().chain(quota).collect();
    let bounds = if bounds.is_empty() { "no bound".to_owned() } else { bounds.join("; ") };
    eprintln!("plan {}: {bounds}", plan.name);
    Ok(())
}

async fn list(args: ReadArgs) -> Result<(), Failure> {
    let plans = open(&args.common).await?.plans().await.map_err(|error| Failure::Failed(error.into()))?;
    let entries: Vec<_> = plans.into_iter().map(entry).collect();
    if args.json {
        return output::json(&entries);
    }
    let bound = |bound: Option<u64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
    let rows = entries.into_iter().map(|entry| {
        vec![
            entry.plan,
            bound(entry.rate.map(u64::from)),
            bound(entry.burst.map(u64::from)),
            bound(entry.monthly_quota),
            entry.consumers.join(", "),
        ]
    });
    output::line(table(&["plan", "calls/s", "burst", "calls/month", "consumers"], &[1, 2, 3], rows))
}

fn entry((plan, consumers): (Plan, Vec<String>)) -> Entry {
    Entry {
        plan: plan.name,
        rate: plan.rate.map(|rate| rate.per_second),
        burst: plan.rate.map(|rate| rate.burst),
        monthly_quota: plan.monthly_quota,
        consumers,
    }
}
