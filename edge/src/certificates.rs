//! Follows the files of certificates: rotating one is writing it, and no call notices.

use std::sync::Arc;
use std::time::Duration;

use crate::gateway::Core;
use crate::stamp::stamps;

/// How often files are looked at: what a mount shows may change without a word to those who watch.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the files again whenever one has changed. One that cannot be used is told once, and changes nothing.
pub(crate) async fn follow(core: Arc<Core>) {
    let mut looks = tokio::time::interval(LOOK);
    // The first look reads what may have changed since the start.
    let mut seen = Vec::new();
    loop {
        looks.tick().await;
        // Before they are read: what changes between is seen as a change.
        let found = stamps(&core.certificate_files());
        if found == seen {
            continue;
        }
        seen = found;
        for problem in core.reload_certificates() {
            tracing::error!(%problem, "a certificate stays as it was");
        }
    }
}
