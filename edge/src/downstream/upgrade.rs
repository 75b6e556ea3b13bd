//! Connections that go over to another protocol, such as WebSocket: which ones may, and what is carried then.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use crate::clock::Meter;
use crate::problem::{Path, Problem};

/// What is carried at once.
const PIECE: usize = 16 << 10;

/// Protocols that a connection may go over to, and those that it may not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgrades(Vec<(String, bool)>);

impl Upgrades {
    /// Of each its `upgrade_type`, and whether it is enabled.
    pub(crate) fn compile<'c>(
        config: impl Iterator<Item = (&'c str, bool)>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let at = at.field("upgrade_configs");
        let mut known: Vec<(String, bool)> = Vec::new();
        for (index, (name, enabled)) in config.enumerate() {
            let (name, at) = (name.to_ascii_lowercase(), at.index(index));
            match &*name {
                "" => return Err(at.field("upgrade_type").problem("must not be empty")),
                "connect" | "connect-udp" => return Err(at.problem("CONNECT is not supported: remove it")),
                _ if known.iter().any(|(other, _)| *other == name) => {
                    return Err(at.problem(format!("Duplicate upgrade {name}")));
                }
                _ => known.push((name, enabled)),
            }
        }
        Ok(Self(known))
    }

    /// Whether a protocol is allowed, where anything is said of it.
    pub(crate) fn allows(&self, protocol: &str) -> Option<bool> {
        let known = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(protocol));
        known.map(|(_, enabled)| *enabled)
    }
}

/// Who ended what was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

/// Carries bytes both ways until either side ends; `sent` counts those for the client.
pub(crate) async fn carry(client: Upgraded, upstream: Upgraded, meter: &Meter, sent: &AtomicU64) -> Side {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_upstream, to_upstream) = split(TokioIo::new(upstream));
    let up = pump(from_client, to_upstream, |len| meter.count(len, Instant::now()));
    let down = pump(from_upstream, to_client, |len| {
        sent.fetch_add(len as u64, Ordering::Relaxed);
        meter.touch(Instant::now());
    });
    let (ended, side) = tokio::select! {
        ended = up => (ended, Side::Client),
        ended = down => (ended, Side::Upstream),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an upgraded connection broke off");
    }
    side
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: impl Fn(usize),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).await? {
            0 => return to.shutdown().await,
            len => {
                to.write_all(&piece[..len]).await?;
                to.flush().await?;
                moved(len);
            }
        }
    }
}
