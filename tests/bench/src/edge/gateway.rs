//! The gateways that are compared, and the backend behind them: processes, each on its core.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// The gateway has this core to itself; the load and the backend share the other.
const GATEWAY_CORE: &str = "0";
pub(crate) const LOAD_CORE: &str = "1";

const PLAIN: &str = include_str!("plain.yaml");
const FILTERS: &str = include_str!("filters.yaml");
const NGINX: &str = include_str!("nginx.conf");

/// The answer to every call: one message, its status in the trailers.
const PATH: &str = "omnimesh.bench.v1.BenchService/Call";
const MESSAGE: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Envoy,
    Nginx,
    Omnimesh,
}

/// One message as gRPC frames it.
pub(crate) fn framed() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, MESSAGE as u8];
    frame.resize(5 + MESSAGE, b'm');
    frame
}

/// The Envoy that the tests' Python environment holds.
pub(crate) fn installed_envoy() -> anyhow::Result<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = std::process::Command::new("python3").args(["-c", script]).output()?;
    let binary = Path::new(String::from_utf8(output.stdout)?.trim()).join("envoy/_bin/envoy");
    anyhow::ensure!(binary.is_file(), "Envoy is missing: `make bench-edge` installs it, or give --envoy");
    Ok(binary)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn reachable(port: u16, process: &mut Child) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return Ok(());
        }
        if let Some(status) = process.try_wait()? {
            anyhow::bail!("a server ended before it listened: {status}");
        }
    }
}

/// An HTTP/2 server that answers every call alike.
#[derive(Debug)]
pub(crate) struct Backend {
    _process: Child,
    port: u16,
}

impl Backend {
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let root = directory.join("backend");
        let file = root.join(PATH);
        std::fs::create_dir_all(file.parent().context("a path of two parts")?)?;
        std::fs::write(&file, framed())?;
        let types = directory.join("types");
        // The file has no extension, so its whole name stands for one.
        std::fs::write(&types, "application/grpc Call\n")?;
        let port = free_port()?;
        let mut process = pinned(LOAD_CORE, Path::new("nghttpd"))
            .args(["--no-tls", "--trailer=grpc-status: 0", "--max-concurrent-streams=1000", "--htdocs"])
            .arg(&root)
            .arg("--mime-types-file")
            .arg(&types)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .context("nghttpd is missing: Debian's package is nghttp2-server")?;
        reachable(port, &mut process).await?;
        Ok(Self { _process: process, port })
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) kind: Kind,
    process: Child,
    pub(crate) port: u16,
}

impl Gateway {
    pub(crate) async fn start(
        kind: Kind,
        binary: &Path,
        filters: bool,
        backend: &Backend,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let template = match (kind, filters) {
            (Kind::Nginx, _) => NGINX,
            (_, true) => FILTERS,
            (_, false) => PLAIN,
        };
        let (port, admin) = (free_port()?, free_port()?);
        let name = format!("{kind:?}-{port}");
        let text = template
            .replace("<port>", &port.to_string())
            .replace("<admin>", &admin.to_string())
            .replace("<backend>", &backend.port.to_string())
            .replace("<log>", &directory.join(format!("{name}.log")).display().to_string())
            .replace("<directory>", &directory.display().to_string())
            .replace("<jwks>", crate::load::token("jwks")?);
        // Envoy reads the form from the extension.
        let config = directory.join(format!("{name}.yaml"));
        let errors = directory.join(format!("{name}.err"));
        std::fs::write(&config, text)?;
        let mut command = pinned(GATEWAY_CORE, binary);
        match kind {
            Kind::Envoy => command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "error"]),
            Kind::Omnimesh => command.args(["edge", "--concurrency", "1", "-l", "error"]),
            Kind::Nginx => command.args(["-e", "stderr"]),
        };
        let mut process = command
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors)?)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        reachable(port, &mut process)
            .await
            .with_context(|| format!("{kind:?}: {}", std::fs::read_to_string(&errors).unwrap_or_default()))?;
        Ok(Self { kind, process, port })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{PATH}", self.port)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let id = self.process.id().context("the gateway has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{id}/{file}"))?)
    }

    /// Nanoseconds of CPU that its threads have taken, as the scheduler counts them.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let id = self.process.id().context("the gateway has ended")?;
        let mut total = 0.0;
        for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().context("a figure")?.parse::<f64>()?;
        }
        Ok(total)
    }

    /// What it holds in memory, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such figure")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}
