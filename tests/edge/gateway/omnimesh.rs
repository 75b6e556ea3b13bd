//! The edge of this workspace, in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge::gateway::Options;
use edge::problem::Problem;

use super::{Addresses, Gateway, Running};

pub(crate) struct Omnimesh;

#[async_trait]
impl Gateway for Omnimesh {
    async fn start(&self, bootstrap: &str, _: &Path) -> Result<Box<dyn Running>, String> {
        let list =
            |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        let loaded = edge::bootstrap::load(bootstrap).map_err(list)?;
        let options = Options {
            concurrency: 1,
            drain_time: Duration::from_secs(600),
            set_log_filter: Some(Arc::new(|_| Ok(()))),
            render_metrics: None,
        };
        let gateway = edge::gateway::start(loaded, &options).map_err(|error| error.to_string())?;
        let admin = gateway.admin().ok_or("it has no admin interface")?;
        let addresses = Addresses::ask(admin).await.ok_or("it does not become ready")?;
        Ok(Box::new(Started { gateway, addresses }))
    }
}

struct Started {
    gateway: edge::gateway::Running,
    addresses: Addresses,
}

#[async_trait]
impl Running for Started {
    fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    async fn stop(self: Box<Self>) {
        self.gateway.shutdown(Duration::from_secs(1)).await;
    }
}
