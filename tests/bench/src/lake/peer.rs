//! The other side: scripts that the Python environment of the tests runs. A process of its own for each round, in which
//! the first time only warms up.

use std::path::Path;

use anyhow::Context;
use tokio::process::Command;

const IMPORTS: &str = "import duckdb, lance, lancedb, polars";

/// Whether everything is installed.
pub(crate) async fn check() -> anyhow::Result<()> {
    let found = python(IMPORTS, &[]).await;
    found.map(drop).context("Python lacks what the lake is measured beside: `make bench-lake` installs it")
}

/// Runs a script; returns what it prints.
pub(crate) async fn python(script: &str, arguments: &[&Path]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("python3")
        .args(["-c", script])
        .args(arguments)
        .env("RUST_LOG", "error")
        .kill_on_drop(true)
        .output()
        .await
        .context("python3 does not start")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
