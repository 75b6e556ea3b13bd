//! `omnimesh status`: what runs where, how far the sources are, what the lake holds.

use std::{collections::HashSet, time::Duration};

use omnimesh_proto::ingest::v1::{
    ListQuarantinedRecordsRequest, ListSourcesRequest, Source, ingest_service_client::IngestServiceClient,
};
use serde::Serialize;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    cli::StatusArgs,
    client,
    config::Config,
    error::Failure,
    lakes,
    node::Whereabouts,
    output,
    table::{grouped, table},
};

/// Services that take longer to say that they are well are not.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Status {
    running: Option<Whereabouts>,
    sources: Vec<Entity>,
    quarantine: Vec<Quarantined>,
    lake: Vec<lake::TableExtent>,
}

#[derive(Debug, Serialize)]
struct Entity {
    system: String,
    entity: String,
    landed: i64,
    applied: i64,
    quarantined: i64,
}

/// A record that waits in quarantine.
#[derive(Debug, Serialize)]
struct Quarantined {
    name: String,
    system: String,
    entity: String,
    position: String,
    reason: String,
}

pub(crate) async fn run(args: StatusArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?;
    let running = Whereabouts::read(&config.data_dir);
    if args.ready {
        return ready(running.is_some(), &config).await;
    }
    let has_ingest = running.as_ref().is_none_or(|node| node.roles.iter().any(|role| role == "ingest"));
    let (sources, quarantine) = client::with_services(&config, |client| async move {
        match has_ingest {
            true => Ok((entities(sources(client.clone()).await?), quarantine(client).await?)),
            false => Ok((Vec::new(), Vec::new())),
        }
    })
    .await?;
    let lake = lake::extents(config.lake()?.root).await.map_err(|error| Failure::Failed(error.into()))?;
    let status = Status { running, sources, quarantine, lake };
    if args.read.json {
        output::json(&status)?;
    } else {
        print(&status, &config)?;
    }
    let broken: Vec<_> = status.lake.iter().filter_map(|table| table.error.clone()).collect();
    lakes::all_readable(&broken)?;
    match (&status.running, status.quarantine.len()) {
        (Some(_), 0) => Ok(()),
        (None, 0) => Err(nothing_runs(&config)),
        (_, waiting) => Err(Failure::Unsound(format!("{waiting} records wait in quarantine"))),
    }
}

/// Whether the services answer; nothing else is asked, so that it can be asked often.
async fn ready(runs: bool, config: &Config) -> Result<(), Failure> {
    if !runs {
        return Err(nothing_runs(config));
    }
    let check = async {
        let mut health = HealthClient::new(client::connect(&config.data_dir).await?);
        Ok::<_, anyhow::Error>(health.check(HealthCheckRequest::default()).await?.into_inner().status())
    };
    match tokio::time::timeout(ANSWER, check).await {
        Ok(Ok(ServingStatus::Serving)) => Ok(()),
        Ok(Ok(_)) => Err(Failure::Unsound("the services are stopping".to_owned())),
        Ok(Err(error)) => Err(Failure::Failed(error)),
        Err(_) => Err(Failure::Unsound(format!("the services did not answer within {ANSWER:?}"))),
    }
}

fn nothing_runs(config: &Config) -> Failure {
    Failure::Unsound(format!("nothing runs on {}", config.data_dir.display()))
}

/// Every source, with what came of each of its entities.
pub(crate) async fn sources(client: client::Client) -> anyhow::Result<Vec<Source>> {
    let mut client = IngestServiceClient::new(client);
    let mut sources = Vec::new();
    let mut request = ListSourcesRequest::default();
    loop {
        let page = client.list_sources(request.clone()).await?.into_inner();
        sources.extend(page.sources);
        if page.next_page_token.is_empty() {
            return Ok(sources);
        }
        request.page_token = page.next_page_token;
    }
}

async fn quarantine(client: client::Client) -> anyhow::Result<Vec<Quarantined>> {
    let mut client = IngestServiceClient::new(client).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
    let mut quarantine = Vec::new();
    let mut request =
        ListQuarantinedRecordsRequest { page_size: 1_000, ..ListQuarantinedRecordsRequest::default() };
    loop {
        let page = client.list_quarantined_records(request.clone()).await?.into_inner();
        quarantine.extend(page.records.into_iter().map(|record| Quarantined {
            name: record.name,
            system: record.system,
            entity: record.entity,
            position: record.position,
            reason: record.reason,
        }));
        if page.next_page_token.is_empty() {
            return Ok(quarantine);
        }
        request.page_token = page.next_page_token;
    }
}

fn entities(sources: Vec<Source>) -> Vec<Entity> {
    let rows = sources.into_iter().flat_map(|source| {
        source.entities.into_iter().map(move |entity| Entity {
            system: source.system.clone(),
            entity: entity.entity,
            landed: entity.landed_count,
            applied: entity.applied_count,
            quarantined: entity.quarantined_count,
        })
    });
    rows.collect()
}

fn print(status: &Status, config: &Config) -> Result<(), Failure> {
    match &status.running {
        None => output::line(format_args!("nothing runs on {}", config.data_dir.display()))?,
        Some(node) => {
            output::line(format_args!("process {} runs {}", node.pid, node.roles.join(", ")))?;
            if let Some(listen) = node.listen {
                let admin = node.admin.unwrap_or(listen);
                output::line(format_args!("clients connect to {listen}, operators to {admin}"))?;
            }
        }
    }
    if !status.sources.is_empty() {
        let rows = status.sources.iter().map(|row| {
            let count = |number| grouped(number);
            vec![
                row.system.clone(),
                row.entity.clone(),
                count(row.landed),
                count(row.applied),
                count(row.quarantined),
            ]
        });
        output::line(table(&["source", "entity", "landed", "applied", "quarantined"], &[2, 3, 4], rows))?;
    }
    if !status.quarantine.is_empty() {
        let mut seen = HashSet::new();
        let first = status.quarantine.iter().filter(|record| seen.insert((&record.system, &record.entity)));
        let rows = first.map(|record| {
            vec![record.system.clone(), record.entity.clone(), record.position.clone(), record.reason.clone()]
        });
        output::line("In quarantine, for example (--json shows every record):")?;
        output::line(table(&["source", "entity", "record", "reason"], &[], rows))?;
    }
    if !status.lake.is_empty() {
        let readable = status.lake.iter().filter(|row| row.error.is_none());
        let rows = readable.map(|row| {
            let rows = i64::try_from(row.rows).unwrap_or(i64::MAX);
            vec![row.layer.clone(), row.table.clone(), row.version.to_string(), grouped(rows)]
        });
        output::line(table(&["layer", "table", "version", "rows"], &[2, 3], rows))?;
    }
    Ok(())
}
