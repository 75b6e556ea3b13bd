//! Waiting until everything that was told has been heard: every consumer, the lake among them, has caught up.

use anyhow::Context;
use events::{Consumers, Cursor, Directory};

/// Returns once no consumer of this process lags behind a log of this process.
///
/// What one consumer derives is news to another, so the round is repeated until no log has grown.
pub(crate) async fn settle(logs: &Directory, consumers: &Consumers) -> anyhow::Result<()> {
    let mut seen = heads(logs).await?;
    loop {
        for position in consumers.positions() {
            let Some((_, head)) = seen.iter().find(|(domain, _)| *domain == position.domain) else { continue };
            let mut cursor = position.cursor;
            cursor
                .wait_for(|cursor| cursor >= head)
                .await
                .with_context(|| format!("the consumer {} ended before it had caught up", position.consumer))?;
        }
        let now = heads(logs).await?;
        if now == seen {
            return Ok(());
        }
        seen = now;
    }
}

async fn heads(logs: &Directory) -> anyhow::Result<Vec<(&'static str, Cursor)>> {
    let mut heads = Vec::new();
    for log in logs.logs() {
        heads.push((log.domain(), log.head().await?));
    }
    Ok(heads)
}
