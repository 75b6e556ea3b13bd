//! The whole lake anew from the events that the services keep: bronze and silver, with everything else running beside.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use lake::{Config, Root, TableSummary};

use crate::{
    demo::{Demo, count, until},
    table::Row,
    write,
};

/// Rows by layer and table.
type Sizes = BTreeMap<(String, String), u64>;

pub(crate) async fn measure(demo: &Demo, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut seconds = Row::new("export the demo, s", "", "≤ 30");
    let mut peak = Row::new("peak memory of the process meanwhile, MiB", "", "≤ 1024");
    // Beside a table that is merely written: theirs reads no events and makes no other table.
    let mut speed = Row::new("order lines that it exports, million/s", "pylance", "");
    let root = demo.lake();
    let tables = lake::exported(&root).await?;
    let complete = sizes(&root, &tables).await?;
    let lines = count(&demo.read("lines")?) as f64 / 1e6;
    for _ in 0..rounds {
        tokio::fs::remove_dir_all(&root).await?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let node = demo.up().await?;
        until("the lake is complete", async || {
            // A table that is being made may not be readable yet.
            let found = sizes(&root, &tables).await.ok();
            anyhow::Ok(found.filter(|found| *found == complete))
        })
        .await?;
        peak.ours.push(node.memory("VmHWM").await?);
        until("the lake is what it was", async || {
            let found = lake::exported(&root).await.ok();
            anyhow::Ok(found.filter(|found| *found == tables))
        })
        .await?;
        let took = last_commit(&root, &tables).await? - began;
        node.stop().await?;
        seconds.ours.push(took);
        speed.ours.push(lines / took);
        let directory = tempfile::tempdir_in(demo.directory())?;
        speed.theirs.push(lines / write::pylance(demo, directory.path()).await?);
    }
    Ok(vec![seconds, peak, speed])
}

/// How large the tables are, as their manifests say.
async fn sizes(root: &Path, tables: &[TableSummary]) -> anyhow::Result<Sizes> {
    let extents = lake::extents(root).await?.into_iter();
    let sizes: Sizes = extents.map(|table| ((table.layer, table.table), table.rows)).collect();
    let wanted = |table: &TableSummary| sizes.get_key_value(&(table.layer.clone(), table.table.clone()));
    Ok(tables.iter().filter_map(wanted).map(|(name, rows)| (name.clone(), *rows)).collect())
}

/// When the last of the tables was committed, in seconds since 1970.
async fn last_commit(root: &Path, tables: &[TableSummary]) -> anyhow::Result<f64> {
    let config = Config { root: Root::from(root), ..Config::default() };
    let mut datasets = lake::datasets(&config).await?;
    datasets
        .retain(|found| tables.iter().any(|table| table.layer == found.layer && table.table == found.table));
    let last = datasets.iter().map(|table| table.updated_at.as_microsecond()).max();
    Ok(last.context("the lake has no tables")? as f64 / 1e6)
}
