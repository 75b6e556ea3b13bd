//! Reading sources: each to its end, and then everything that is derived from them.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use omnimesh_proto::ingest::v1::{RunSourceRequest, ingest_service_client::IngestServiceClient};
use tokio::time::timeout;

use crate::{
    client::{self, Client},
    config::Config,
    error::Failure,
    lakes::{self, Told},
    node::Node,
    progress::Progress,
    settle::settle,
    status,
    table::grouped,
};

/// Sources that are read at one time: as many as there are cores to read with.
const CONCURRENT: usize = 2;
/// How long nothing is computed for what is loaded: a source, or a table that cannot be written, may never come to an end.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// Runs the sources of each phase to their end, then waits until everything derived from them is there.
pub(crate) async fn load(
    node: &Node,
    config: &Config,
    phases: &[Vec<&str>],
    progress: &Progress,
) -> Result<(), Failure> {
    if phases.is_empty() {
        return Ok(());
    }
    let client = client::connect(&config.data_dir).await?;
    let reading = async {
        let mut outcome = Ok(());
        for sources in phases {
            // A source that fails keeps no other from being read.
            let mut running = futures::stream::iter(sources)
                .map(|source| run_source(client.clone(), source, progress))
                .buffer_unordered(CONCURRENT);
            while let Some(ended) = running.next().await {
                outcome = outcome.and(ended);
            }
        }
        let stage = progress.stage("catch up", 0);
        settle(&node.logs, &node.consumers).await?;
        stage.done("services and lake");
        Ok::<_, Failure>(outcome)
    };
    tokio::pin!(reading);
    // What is computed of half a load would be computed again.
    let lake = node.lake.as_ref().context("the lake is served elsewhere")?;
    let held = lake.hold().await;
    let (outcome, lake) = match timeout(LONGEST_HOLD, &mut reading).await {
        Ok(outcome) => (outcome?, held),
        Err(_) => {
            drop(held);
            (reading.await?, lake.hold().await)
        }
    };
    if config.lake.refresh_seconds > 0 {
        lakes::compute_with(async |told: Told<'_>| lake.run(told).await, progress).await?;
    }
    let sources = status::sources(client.clone()).await?;
    let waiting: i64 =
        sources.iter().flat_map(|source| &source.entities).map(|entity| entity.quarantined_count).sum();
    if waiting > 0 {
        eprintln!("  {} records wait in quarantine: `omnimesh status` tells why", grouped(waiting));
    }
    outcome
}

async fn run_source(client: Client, source: &str, progress: &Progress) -> Result<(), Failure> {
    let stage = progress.stage(&format!("ingest {source}"), 0);
    let mut client = IngestServiceClient::new(client);
    let failed = |status: tonic::Status| {
        anyhow::anyhow!("the source {source} cannot be ingested: {}", status.message())
    };
    let request = RunSourceRequest { name: format!("sources/{source}") };
    let mut messages = client.run_source(request).await.map_err(failed)?.into_inner();
    let (mut records, mut quarantined) = (0, 0);
    while let Some(message) = messages.next().await {
        let message = message.map_err(failed)?;
        (records, quarantined) = (message.record_count, message.quarantined_count);
        stage.set(records.try_into().unwrap_or(0));
    }
    let aside =
        if quarantined == 0 { String::new() } else { format!(", {} quarantined", grouped(quarantined)) };
    stage.done(&format!("{} records{aside}", grouped(records)));
    Ok(())
}
