//! `omnimesh status`: what runs where, how far the sources are, what the lake holds.

use omnimesh_proto::ingest::v1::{ListSourcesRequest, Source, ingest_service_client::IngestServiceClient};
use serde::Serialize;

use crate::{
    cli::ReadArgs,
    client,
    config::Config,
    error::Failure,
    node::Whereabouts,
    table::{grouped, table},
};

#[derive(Debug, Serialize)]
struct Status {
    running: Option<Whereabouts>,
    sources: Vec<Entity>,
    lake: Vec<lake::TableSummary>,
}

#[derive(Debug, Serialize)]
struct Entity {
    system: String,
    entity: String,
    landed: i64,
    applied: i64,
    quarantined: i64,
}

pub(crate) async fn run(args: ReadArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, None)?;
    let running = Whereabouts::read(&config.data_dir);
    let sources = match &running {
        Some(node) if node.roles.iter().any(|role| role == "ingest") => {
            entities(sources(client::connect(&config.data_dir).await?).await?)
        }
        _ => Vec::new(),
    };
    let lake = lake::summary(&config.lake().root).await.map_err(|error| Failure::Failed(error.into()))?;
    let status = Status { running, sources, lake };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status).map_err(Failure::usage)?);
    } else {
        print(&status, &config);
    }
    if status.running.is_some() { Ok(()) } else { Err(Failure::Unsound) }
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

fn print(status: &Status, config: &Config) {
    match &status.running {
        None => println!("nothing runs on {}", config.data_dir.display()),
        Some(node) => {
            println!("process {} runs {}", node.pid, node.roles.join(", "));
            if let Some(listen) = node.listen {
                println!("clients connect to {listen}, operators to {}", node.admin.unwrap_or(listen));
            }
        }
    }
    if !status.sources.is_empty() {
        let rows = status.sources.iter().map(|row| {
            let count = |number| grouped(number);
            vec![row.system.clone(), row.entity.clone(), count(row.landed), count(row.applied), count(row.quarantined)]
        });
        println!("{}", table(&["source", "entity", "landed", "applied", "quarantined"], &[2, 3, 4], rows));
    }
    if !status.lake.is_empty() {
        let rows = status.lake.iter().map(|row| {
            let rows = i64::try_from(row.rows).unwrap_or(i64::MAX);
            vec![row.layer.clone(), row.table.clone(), grouped(rows)]
        });
        println!("{}", table(&["layer", "table", "rows"], &[2], rows));
    }
}
