//! What the gateways are asked: by h2load, from the core beside theirs.

use std::{net::Ipv4Addr, path::Path, process::Output};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::gateway::{Gateway, Kind, LOAD_CORE, framed};

/// Connections that are open and do nothing.
pub(crate) const IDLE: usize = 1000;

/// A client's preface: the magic, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) goal: &'static str,
    /// With a token to verify, a limit to count, an origin to check and a line to log.
    pub(crate) filters: bool,
    pub(crate) gateways: &'static [Kind],
    content_type: &'static str,
    calls: u32,
    /// h2load's: connections, calls at once on each, protocol.
    shape: &'static [&'static str],
}

const GRPC: &[&str] = &["-c", "8", "-m", "8"];
const HTTP1: &[&str] = &["-c", "32", "--h1"];
const BOTH: &[Kind] = &[Kind::Envoy, Kind::Omnimesh];

impl Load {
    #[rustfmt::skip]
    pub(crate) const ALL: [Self; 6] = [
        Self { name: "gRPC, h2", goal: "≤ 0.5", filters: false, gateways: &[Kind::Envoy, Kind::Nginx, Kind::Omnimesh],
               content_type: "application/grpc", calls: 60_000, shape: GRPC },
        Self { name: "gRPC-Web, h2", goal: "", filters: false, gateways: BOTH,
               content_type: "application/grpc-web+proto", calls: 40_000, shape: GRPC },
        Self { name: "gRPC-Web, h1", goal: "≤ 0.5", filters: false, gateways: BOTH,
               content_type: "application/grpc-web+proto", calls: 40_000, shape: HTTP1 },
        Self { name: "gRPC-Web text, h1", goal: "≤ 0.5", filters: false, gateways: BOTH,
               content_type: "application/grpc-web-text", calls: 40_000, shape: HTTP1 },
        Self { name: "gRPC, h2, with filters", goal: "≤ 0.6", filters: true, gateways: BOTH,
               content_type: "application/grpc", calls: 40_000, shape: GRPC },
        Self { name: "gRPC-Web, h1, with filters", goal: "≤ 0.6", filters: true, gateways: BOTH,
               content_type: "application/grpc-web+proto", calls: 30_000, shape: HTTP1 },
    ];

    /// Microseconds of CPU for a call, and calls a second.
    pub(crate) async fn measure(&self, gateway: &Gateway, directory: &Path) -> anyhow::Result<(f64, f64)> {
        let calls = self.calls.to_string();
        let before = gateway.cpu()?;
        let report = self.run(gateway, directory, &["-n", &calls]).await?;
        let cpu = (gateway.cpu()? - before) / 1000.0 / f64::from(self.calls);
        Ok((cpu, rate(&report).context("h2load tells no rate")?))
    }

    async fn run(&self, gateway: &Gateway, directory: &Path, flags: &[&str]) -> anyhow::Result<String> {
        let text = self.content_type.ends_with("-text");
        let body = directory.join(if text { "request.txt" } else { "request.bin" });
        let message = framed();
        tokio::fs::write(&body, if text { STANDARD.encode(message).into_bytes() } else { message }).await?;
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CORE, "h2load", "--data"]).arg(&body).args(self.shape).args(flags).args([
            "-H",
            &format!("content-type: {}", self.content_type),
            "-H",
            "te: trailers",
        ]);
        if text {
            command.args(["-H", &format!("accept: {}", self.content_type)]);
        }
        if self.filters {
            command.args(["-H", &format!("authorization: Bearer {}", token("rsa")?)]);
            command.args(["-H", "origin: https://shop.example"]);
        }
        let Output { stdout, .. } = command
            .arg(gateway.url())
            .output()
            .await
            .context("h2load is missing: Debian's package is nghttp2-client")?;
        let report = String::from_utf8(stdout)?;
        let all_well =
            report.contains(" 0 failed, 0 errored, 0 timeout") && report.contains(" 0 3xx, 0 4xx, 0 5xx");
        anyhow::ensure!(all_well, "{:?} failed calls of {}:\n{report}", gateway.kind, self.name);
        Ok(report)
    }
}

/// The value of that name among the tests' tokens.
pub(crate) fn token(name: &str) -> anyhow::Result<&'static str> {
    let tokens = include_str!("../../../edge/jwt.yaml").lines();
    let value =
        tokens.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": '")?.strip_suffix('\'')).next();
    value.with_context(|| format!("there is no token {name}"))
}

fn rate(report: &str) -> Option<f64> {
    let line = report.lines().find(|line| line.starts_with("finished in"))?;
    line.split(", ").find_map(|part| part.strip_suffix(" req/s"))?.parse().ok()
}

/// The 99th percentile of what calls take at that rate, in milliseconds.
pub(crate) async fn p99(gateway: &Gateway, rate: f64, directory: &Path) -> anyhow::Result<f64> {
    let log = directory.join("times");
    let load = &Load::ALL[0];
    // The rate is spread over the connections of the load; five seconds of it.
    let (each, calls) = ((rate / 8.0).round().to_string(), (5.0 * rate).round().to_string());
    let file = format!("--log-file={}", log.display());
    load.run(gateway, directory, &["-n", &calls, "--rps", &each, &file]).await?;
    let text = tokio::fs::read_to_string(&log).await?;
    tokio::fs::remove_file(&log).await?;
    let mut times: Vec<f64> = text.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 99 / 100).map(|micros| micros / 1000.0).context("h2load logged nothing")
}

/// What a gateway holds while clients are connected and ask nothing, in MiB.
pub(crate) async fn memory_with_idle(gateway: &Gateway) -> anyhow::Result<f64> {
    let mut clients = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port)).await?;
        client.write_all(PREFACE).await?;
        let mut settings = [0; 9];
        // Its settings: the gateway has taken the connection for HTTP/2.
        client.read_exact(&mut settings).await?;
        clients.push(client);
    }
    gateway.memory()
}
