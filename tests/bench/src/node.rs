//! A running `omnimesh`, as a process.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// Adds the API key to every call.
#[derive(Debug, Clone)]
pub(crate) struct Key(MetadataValue<Ascii>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("x-api-key", self.0.clone());
        Ok(request)
    }
}

/// A channel to the edge.
pub(crate) type Client = InterceptedService<Channel, Key>;

/// A running process.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    // Held open: a process that cannot write any more ends.
    _stdout: tokio::io::Lines<BufReader<ChildStdout>>,
    data_dir: PathBuf,
    /// From start to `ready`.
    pub(crate) started_in: Duration,
}

impl Node {
    /// Starts `omnimesh up` and waits until it is ready.
    pub(crate) async fn up(binary: &Path, data_dir: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut process = Command::new(binary)
            .args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let stdout = process.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            if line == "ready" {
                let started_in = start.elapsed();
                return Ok(Self { process, _stdout: lines, data_dir: data_dir.to_owned(), started_in });
            }
        }
        bail!("omnimesh ended before it was ready: {}", process.wait().await?)
    }

    /// A channel to the edge, with the operator's key.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let text = tokio::fs::read(self.data_dir.join("run/node.json")).await?;
        let whereabouts: serde_json::Value = serde_json::from_slice(&text)?;
        let listen = whereabouts["listen"].as_str().context("the node has no edge")?;
        let key = tokio::fs::read_to_string(self.data_dir.join("admin.key")).await?;
        let channel = Endpoint::try_from(format!("http://{listen}"))?.tcp_nodelay(true).connect().await?;
        Ok(InterceptedService::new(channel, Key(key.trim().parse()?)))
    }

    /// A figure of the process in MiB, such as `VmRSS` or `VmHWM`.
    pub(crate) async fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let id = self.process.id().context("the process has ended")?;
        let status = tokio::fs::read_to_string(format!("/proc/{id}/status")).await?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such figure")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// Stops it as Ctrl-C does.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.process.id().context("the process has ended")?;
        Command::new("kill").args(["-INT", &id.to_string()]).status().await?;
        let status = self.process.wait().await?;
        anyhow::ensure!(status.success(), "omnimesh did not stop cleanly: {status}");
        Ok(())
    }
}
