//! What goes on in the background of a cluster: names, health checks, the outlier detection's sweeps.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::discover::Lookup;
use super::host::{Flaw, Host, Spec};

impl Core {
    /// Makes the hosts be those of `specs`; hosts that stay are not touched. The new ones come back.
    pub(super) fn adopt(&self, specs: Vec<Spec>) -> Vec<Arc<Host>> {
        let before = self.members.hosts();
        let mut new = Vec::new();
        let hosts: Vec<_> = specs
            .into_iter()
            .map(|spec| {
                if let Some(stays) = before.iter().find(|host| host.spec == spec) {
                    return Arc::clone(stays);
                }
                let host = Host::new(spec, self.detector.clone());
                if !self.checks.is_empty() && !host.spec.check.off {
                    // Nobody is called before he was asked once.
                    host.mark(Flaw::FailedActiveCheck, true);
                    host.mark(Flaw::PendingActiveCheck, true);
                }
                new.push(Arc::clone(&host));
                host
            })
            .collect();
        if new.is_empty() && hosts.len() == before.len() {
            self.stats.update_no_rebuild.inc();
        } else {
            self.members.set(hosts);
        }
        new
    }

    /// Begins to check hosts; done when each was checked once.
    async fn check(self: &Arc<Self>, hosts: &[Arc<Host>], stop: &CancellationToken) {
        let mut first_checks = Vec::new();
        for host in hosts.iter().filter(|host| !host.spec.check.off) {
            for check in &self.checks {
                let (done, first) = oneshot::channel();
                first_checks.push(first);
                let watch = Arc::clone(check).watch(Arc::clone(self), Arc::clone(host), done);
                let (gone, stop) = (host.gone.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = watch => {}
                        () = gone.cancelled() => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        }
        join_all(first_checks).await;
    }
}

/// Keeps a cluster's hosts up to date until `stop`; tells `warm` when it may be called.
pub(super) async fn run(core: Arc<Core>, lookup: Lookup, warm: watch::Sender<bool>, stop: CancellationToken) {
    let sweeps = async {
        match &core.detector {
            None => std::future::pending().await,
            Some(detector) => loop {
                sleep(detector.interval).await;
                detector.sweep(Instant::now());
            },
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = sweeps => {}
        () = follow(&core, &lookup, &warm, &stop) => {}
    }
}

async fn follow(core: &Arc<Core>, lookup: &Lookup, warm: &watch::Sender<bool>, stop: &CancellationToken) {
    if !lookup.has_names() {
        core.check(&core.members.hosts(), stop).await;
        warm.send_replace(true);
        return std::future::pending().await;
    }
    // Hosts with addresses in the configuration are there already, but are not checked yet.
    let mut unchecked = core.members.hosts();
    let mut failures = 0;
    loop {
        let found = lookup.look(&core.members.hosts(), &core.stats).await;
        failures = if found.failed { failures + 1 } else { 0 };
        unchecked.extend(core.adopt(found.specs));
        core.check(&unchecked, stop).await;
        unchecked.clear();
        warm.send_replace(true);
        sleep(lookup.pause(failures)).await;
    }
}
