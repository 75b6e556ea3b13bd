//! What the parts of a configuration are compiled with.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;

use crate::access_log::Files;
use crate::consumers::Rosters;
use crate::drain::Drainer;
use crate::filter::Context;
use crate::stats::{Scope, Stats};
use crate::telemetry::Exports;
use crate::upstream::Clusters;

#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) clusters: &'a Arc<Clusters>,
    pub(crate) stats: &'a Stats,
    pub(crate) files: &'a Files,
    pub(crate) rosters: &'a Rosters,
    pub(crate) exports: &'a Exports,
    pub(crate) drainer: &'a Drainer,
    /// What this edge is called.
    pub(crate) node: &'a Node,
}

impl<'a> Shared<'a> {
    /// What filters see of it, where their figures are `stats`.
    pub(crate) fn context(&self, stats: &'a Scope) -> Context<'a> {
        let Self { clusters, rosters, node, .. } = *self;
        Context { clusters, stats, rosters, node_cluster: &node.cluster }
    }
}

/// A configuration's parts for tests.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) stats: Stats,
    files: Option<Files>,
    rosters: Rosters,
    exports: Exports,
    drainer: Drainer,
    node: Node,
}

#[cfg(test)]
impl Parts {
    pub(crate) fn shared(&mut self) -> Shared<'_> {
        let Self { clusters, stats, files, rosters, exports, drainer, node } = self;
        let files = files.get_or_insert_with(|| Files::new(stats));
        Shared { clusters, stats, files, rosters, exports, drainer, node }
    }
}
