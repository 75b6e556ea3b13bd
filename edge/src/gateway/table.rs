//! A configuration made ready to serve.

use std::sync::Arc;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;

use crate::access_log::Files;
use crate::admin;
use crate::compile::Shared;
use crate::consumers::Rosters;
use crate::downstream::listener::Listener;
use crate::drain::Drainer;
use crate::problem::{Path, Problem};
use crate::stats::Stats;
use crate::telemetry::Exports;
use crate::tls::secrets;
use crate::upstream::Clusters;

/// The parts of a configuration, ready to serve.
pub(crate) struct Table {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) clusters: Arc<Clusters>,
    pub(super) secret_files: Vec<String>,
    pub(super) exports: Exports,
    pub(crate) listeners: Vec<Listener>,
    pub(super) admin: Option<admin::Settings>,
}

impl Table {
    /// Compiles everything before anything is changed; what `before` has in the same form is taken over.
    pub(super) fn compile(
        bootstrap: Bootstrap,
        before: Option<&Clusters>,
        stats: &Stats,
        files: &Files,
        rosters: &Rosters,
        drainer: &Drainer,
    ) -> Result<Self, Problem> {
        let root = Path::root();
        let at = root.field("static_resources");
        let mut resources = bootstrap.static_resources.clone().unwrap_or_default();
        let secret_files = secrets::inline(&mut resources, &at)?;
        let clusters =
            Arc::new(Clusters::compile(&resources.clusters, before, stats, &at.field("clusters"))?);
        let node = bootstrap.node.clone().unwrap_or_default();
        let exports = Exports::default();
        let (exported, node) = (&exports, &node);
        let shared = Shared { clusters: &clusters, stats, files, rosters, exports: exported, drainer, node };
        let listeners_at = at.field("listeners");
        let listeners = resources.listeners.iter().enumerate();
        let listeners = listeners
            .map(|(i, listener)| Listener::compile(listener, &shared, &listeners_at.index(i)))
            .collect::<Result<_, _>>()?;
        let admin_at = root.field("admin");
        let admin = match &bootstrap.admin {
            Some(admin) => admin::Settings::compile(admin, &admin_at, &shared)?,
            None => None,
        };
        Ok(Self { bootstrap, clusters, secret_files, exports, listeners, admin })
    }
}
