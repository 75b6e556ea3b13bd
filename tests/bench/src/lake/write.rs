//! Writing the demo's order lines: as a run publishes a table, and as an exporter adds to one.
//!
//! Ours looks at every key, digests every row and is on disk when it ends; pylance's only writes.

use std::{collections::HashMap, path::Path, time::Instant};

use anyhow::Context;
use lake::{TableName, bench::Lake};

use crate::{
    demo::{Demo, count},
    peer::python,
    table::Row,
};

const SCRIPT: &str = include_str!("write.py");
const TABLE: &str = "gold/fct_order_line";
const KEY: [&str; 2] = ["order_uid", "line_no"];

pub(crate) async fn measure(demo: &Demo, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let lines = demo.read("lines")?;
    let rows = count(&lines);
    let name: TableName = TABLE.parse()?;
    let title = format!("write {rows} order lines, million/s");
    let mut published = Row::new(title, "pylance", "≥ 1.0 ×");
    let mut appended = Row::new("the same as an exporter commits them", "pylance", "≥ 0.7 ×");
    for round in 0..=rounds {
        let directory = tempfile::tempdir_in(demo.directory())?;
        let [ours, exported, theirs] = ["ours", "exported", "theirs"].map(|side| directory.path().join(side));
        let (ours, exported) = (Lake::create(&ours)?, Lake::create(&exported)?);
        let start = Instant::now();
        ours.publish(&name, &KEY, lines.clone()).await?;
        let publishing = start.elapsed().as_secs_f64();
        let start = Instant::now();
        exported.append(&name, &KEY, lines.clone()).await?;
        let appending = start.elapsed().as_secs_f64();
        let peer = pylance(demo, &theirs).await?;
        if round == 0 {
            // It only warms up, and tells whether all of them write the same.
            let theirs = Lake::create(&theirs)?.digest(&name).await?;
            anyhow::ensure!(theirs.0 == rows as u64, "pylance wrote {} rows of {rows}", theirs.0);
            anyhow::ensure!(ours.digest(&name).await? == theirs, "published rows are not pylance's");
            anyhow::ensure!(exported.digest(&name).await? == theirs, "appended rows are not pylance's");
            continue;
        }
        let speed = |seconds: f64| rows as f64 / seconds / 1e6;
        published.ours.push(speed(publishing));
        appended.ours.push(speed(appending));
        published.theirs.push(speed(peer));
        appended.theirs.push(speed(peer));
    }
    Ok(vec![published, appended])
}

/// Lets pylance write them into a lake in `root`; returns how many seconds it takes.
pub(crate) async fn pylance(demo: &Demo, root: &Path) -> anyhow::Result<f64> {
    let target = root.join(format!("{TABLE}.lance"));
    let answer = python(SCRIPT, &[&demo.directory().join("lines.arrow"), &target]).await?;
    let answer: HashMap<String, f64> = serde_json::from_slice(&answer)?;
    answer.get("seconds").copied().context("pylance was not measured")
}
