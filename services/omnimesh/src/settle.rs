//! Waiting until everything that was told has been heard: every consumer, the lake among them, has caught up.

use anyhow::Context;
use events::{Consumers, Cursor, Directory};

/// Returns once no consumer of this process lags behind a log of this process.
///
/// What one consumer derives is news to another, so the round is repeated until no log has grown.
pub(crate) async fn settle(logs: &Directory, consumers: &Consumers) -> anyhow::Result<()> {
    let mut seen = ends(logs).await?;
    loop {
        for position in consumers.positions() {
            let Some((_, end)) = seen.iter().find(|(domain, _)| *domain == position.domain) else { continue };
            let mut cursor = position.cursor;
            cursor.wait_for(|cursor| cursor >= end).await.with_context(|| {
                format!("the consumer {} ended before it had caught up", position.consumer)
            })?;
        }
        let now = ends(logs).await?;
        if now == seen {
            return Ok(());
        }
        seen = now;
    }
}

async fn ends(logs: &Directory) -> anyhow::Result<Vec<(&'static str, Cursor)>> {
    let mut ends = Vec::new();
    for log in logs.logs() {
        ends.push((log.domain(), log.committed().await?));
    }
    Ok(ends)
}
