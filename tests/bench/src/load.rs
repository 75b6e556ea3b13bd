//! How long data takes to get in.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use omnimesh_proto::ingest::v1::{
    GetSourceRequest, RunSourceRequest, ingest_service_client::IngestServiceClient,
};

use crate::{Figure, node::Node};

/// A process whose memory has not shrunk for so many seconds is idle.
const QUIET: u32 = 10;

/// Where the loaded demo stays for whoever measures next.
fn demo(directory: &Path) -> PathBuf {
    directory.join("demo")
}

/// A deployment with the whole demo loaded.
pub(crate) async fn loaded(binary: &Path, directory: &Path) -> anyhow::Result<Node> {
    Node::up(binary, &demo(directory), &["--demo"]).await
}

/// `up --demo` from nothing to `ready`, over and over.
pub(crate) async fn whole_demo(binary: &Path, directory: &Path, runs: u32) -> anyhow::Result<Vec<Figure>> {
    let mut ready = Figure::new("up --demo to ready", "s", "≤ 90, aim 45");
    let mut peak = Figure::new("its peak memory", "MiB", "≤ 1024");
    let mut idle = Figure::new("its memory once idle", "MiB", "≤ 300");
    let data_dir = demo(directory);
    for _ in 0..runs {
        if data_dir.exists() {
            tokio::fs::remove_dir_all(&data_dir).await?;
        }
        let node = loaded(binary, directory).await?;
        ready.values.push(node.started_in.as_secs_f64());
        peak.values.push(node.memory("VmHWM").await?);
        idle.values.push(idle_memory(&node).await?);
        node.stop().await?;
    }
    Ok(vec![ready, peak, idle])
}

/// What is left in memory when the process has given back what it will.
async fn idle_memory(node: &Node) -> anyhow::Result<f64> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let (mut lowest, mut quiet) = (f64::INFINITY, 0);
    while quiet < QUIET {
        ticks.tick().await;
        let now = node.memory("VmRSS").await?;
        quiet = if now < 0.99 * lowest { 0 } else { quiet + 1 };
        lowest = lowest.min(now);
    }
    Ok(lowest)
}

/// The tills' receipts into an empty deployment: landed, mapped, unified, durable, with everything that follows
/// (stock, lake) running beside.
pub(crate) async fn orders(binary: &Path, directory: &Path, runs: u32) -> anyhow::Result<Vec<Figure>> {
    let mut speed = Figure::new("tills' lines to durable orders", "1000 lines/s", "≥ 40");
    let data_dir = directory.join("orders");
    // The silos are built once; a directory that holds them knows its sources.
    if !demo(directory).exists() {
        loaded(binary, directory).await?.stop().await?;
    }
    for _ in 0..runs {
        if data_dir.exists() {
            tokio::fs::remove_dir_all(&data_dir).await?;
        }
        tokio::fs::create_dir(&data_dir).await?;
        tokio::fs::symlink(demo(directory).join("silos"), data_dir.join("silos")).await?;
        let node = Node::up(binary, &data_dir, &[]).await?;
        let mut client = IngestServiceClient::new(node.client().await?);
        let name = || "sources/pos".to_owned();
        let start = Instant::now();
        let mut messages = client.run_source(RunSourceRequest { name: name() }).await?.into_inner();
        while messages.message().await?.is_some() {}
        let elapsed = start.elapsed().as_secs_f64();
        let source = client
            .get_source(GetSourceRequest { name: name() })
            .await?
            .into_inner()
            .source
            .unwrap_or_default();
        let lines: i64 = source.entities.iter().map(|entity| entity.applied_count).sum();
        speed.values.push(lines as f64 / elapsed / 1000.0);
        node.stop().await?;
    }
    Ok(vec![speed])
}
