//! `omnimesh verify`: the invariants of what is loaded, a line each.

mod checks;
mod orders;
mod stock;

use serde::Serialize;

use crate::{
    cli::ReadArgs,
    client::{self, Client},
    config::Config,
    error::Failure,
    output, status,
    table::table,
};

/// An invariant, and whether it holds.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) holds: bool,
    /// What was compared, in words and numbers.
    pub(crate) finding: String,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    checks: Vec<Check>,
    lake: Vec<lake::TableSummary>,
}

pub(crate) async fn run(args: ReadArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, None)?;
    let lake = config.lake()?.root;
    let silos = silos::summary(&config.silos()).map_err(Failure::usage)?;
    let report = client::with_services(&config, |client| async move {
        let lake = lake::exported(lake).await?;
        let checks = check(client, &lake, silos.as_ref()).await?;
        Ok(Report { sound: checks.iter().all(|check| check.holds), checks, lake })
    })
    .await?;
    if args.json {
        output::json(&report)?;
    } else {
        let rows = report.checks.iter().map(|check| {
            let verdict = if check.holds { "holds" } else { "FAILS" };
            vec![check.name.clone(), verdict.to_owned(), check.finding.clone()]
        });
        output::line(table(&["invariant", "", "finding"], &[], rows))?;
    }
    match report.checks.iter().filter(|check| !check.holds).count() {
        0 => Ok(()),
        failed => {
            Err(Failure::Unsound(format!("{failed} of {} invariants do not hold", report.checks.len())))
        }
    }
}

async fn check(
    client: Client,
    lake: &[lake::TableSummary],
    silos: Option<&silos::Summary>,
) -> anyhow::Result<Vec<Check>> {
    let sources = status::sources(client.clone()).await?;
    let orders = orders::Totals::read(client.clone()).await?;
    let stock = stock::Totals::read(client.clone()).await?;
    let customers = checks::customers(client).await?;
    let mut checks = checks::landed(&sources);
    checks.extend(silos.into_iter().flat_map(|silos| checks::demo(&orders, silos)));
    checks.extend(checks::orders(&orders, lake));
    checks.extend(checks::customers_in_lake(customers, lake));
    checks.extend(checks::stock(&stock, lake));
    Ok(checks)
}
