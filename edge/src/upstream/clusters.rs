//! The clusters of a configuration.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::problem::{Path, Problem};
use crate::stats::Stats;

/// Every cluster by name.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    pub(super) by_name: HashMap<Arc<str>, Arc<Cluster>>,
}

impl Clusters {
    /// Compiles every cluster. One whose configuration is what it was stays as it is, with its connections.
    pub(crate) fn compile(
        configs: &[ClusterConfig],
        before: Option<&Self>,
        stats: &Stats,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let mut by_name = HashMap::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            let at = at.index(index);
            let same = before.and_then(|before| before.get(&config.name));
            let cluster = match same.filter(|same| same.config == *config) {
                Some(same) => Arc::clone(same),
                None => Arc::new(Cluster::compile(config, &at, stats)?),
            };
            if by_name.insert(Arc::clone(&cluster.name), cluster).is_some() {
                return Err(at.field("name").problem(format!("there is another cluster {}", config.name)));
            }
        }
        Ok(Self { by_name })
    }

    /// Begins the background work of every cluster that is new.
    pub(crate) fn start(&self, runtime: &Handle, stop: &CancellationToken) {
        for cluster in self.by_name.values() {
            cluster.start(runtime, stop);
        }
    }

    /// Done when every cluster can be called.
    pub(crate) async fn warm(&self) {
        join_all(self.by_name.values().map(|cluster| cluster.warm())).await;
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.by_name.get(name)
    }
}
