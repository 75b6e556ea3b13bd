//! Very many very small commits, of a source of which a little comes all the time, and what is left of them on disk.

use std::{fs, io, path::Path, sync::Arc, time::Instant};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    error::ArrowError,
};
use lake::{TableName, bench::Lake};

use crate::table::Row;

const TABLE: &str = "bronze/bronze_bench__events";
const KEY: [&str; 1] = ["_key"];
const COMMITS: i64 = 1_000;
/// Of a commit.
const ROWS: i64 = 100;

pub(crate) async fn measure(directory: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut metadata = Row::new(format!("{COMMITS} commits of {ROWS} rows leave metadata of, MB"), "", "< 1");
    let mut scan = Row::new("opening and reading what they wrote, ms", "", "< 5");
    let name: TableName = TABLE.parse()?;
    let commits = (0..COMMITS).map(rows).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..rounds {
        let directory = tempfile::tempdir_in(directory)?;
        let lake = Lake::create(directory.path())?;
        lake.append(&name, &KEY, commits.clone()).await?;
        let table = directory.path().join(format!("{TABLE}.lance"));
        metadata.ours.push((bytes(&table)? - bytes(&table.join("data"))?) as f64 / 1e6);
        // Once to warm up.
        lake.scan(&name).await?;
        let start = Instant::now();
        let rows = lake.scan(&name).await?;
        scan.ours.push(start.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(rows as i64 == COMMITS * ROWS, "{rows} rows are left of {}", COMMITS * ROWS);
    }
    Ok(vec![metadata, scan])
}

fn rows(commit: i64) -> Result<RecordBatch, ArrowError> {
    let numbers = commit * ROWS..(commit + 1) * ROWS;
    let keys = StringArray::from_iter_values(numbers.clone().map(|number| format!("bench:{number:08}")));
    let payloads =
        StringArray::from_iter_values(numbers.clone().map(|number| format!("{{\"id\":{number}}}")));
    RecordBatch::try_from_iter_with_nullable([
        ("_key", Arc::new(keys) as ArrayRef, false),
        ("_seq", Arc::new(Int64Array::from_iter_values(numbers)) as _, false),
        ("_payload", Arc::new(payloads) as _, false),
    ])
}

/// What the files below a directory take.
fn bytes(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}
