//! The point-in-time join: for each order line the last order of the same customer before it.
//!
//! What was known when is the same for all here, because the others have no word for it.

use std::{collections::HashMap, time::Instant};

use anyhow::Context;
use arrow::{
    array::{AsArray, UInt32Array},
    datatypes::{TimestampMicrosecondType, UInt32Type},
};
use lake::bench::Join;

use crate::{demo::Demo, peer::python, table::Row};

const SCRIPT: &str = include_str!("join.py");

pub(crate) async fn measure(demo: &Demo, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let (spine, features) = (demo.read_whole("spine")?, demo.read_whole("features")?);
    let entities = spine.column(0).as_string::<i32>();
    let times = spine.column(1).as_primitive::<TimestampMicrosecondType>();
    let title = format!("join {} × {} rows, million/s", spine.num_rows(), features.num_rows());
    let mut rows =
        [("polars", Row::new(title, "Polars", "≥ 20")), ("duckdb", Row::new("the same", "DuckDB", "≥ 3 ×"))];
    for round in 0..=rounds {
        let start = Instant::now();
        let found = Join::new(features.clone())?.find(entities, times);
        let ours = start.elapsed().as_secs_f64();
        let seconds: HashMap<String, f64> =
            serde_json::from_slice(&python(SCRIPT, &[demo.directory()]).await?)?;
        for (engine, row) in &mut rows {
            let theirs = demo.read_whole(engine)?;
            let theirs: &UInt32Array = theirs.column(0).as_primitive::<UInt32Type>();
            anyhow::ensure!(*theirs == found, "{engine} finds other rows than ours");
            // The first one warms up.
            if round > 0 {
                let theirs = seconds.get(*engine).with_context(|| format!("{engine} was not measured"))?;
                let speed = |seconds: f64| spine.num_rows() as f64 / seconds / 1e6;
                row.ours.push(speed(ours));
                row.theirs.push(speed(*theirs));
            }
        }
    }
    Ok(rows.map(|(_, row)| row).into())
}
