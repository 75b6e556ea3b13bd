//! What is compared: anything that starts from an Envoy bootstrap.

mod envoy;
mod omnimesh;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;

use crate::admin;

pub(crate) use envoy::Envoy;
pub(crate) use omnimesh::Omnimesh;

#[async_trait]
pub(crate) trait Gateway {
    /// Starts with a bootstrap; the error says why it was refused.
    async fn start(&self, bootstrap: &str, directory: &Path) -> Result<Box<dyn Running>, String>;
}

#[async_trait]
pub(crate) trait Running: Send {
    fn addresses(&self) -> &Addresses;

    /// Stops, after which all that was logged is in the files.
    async fn stop(self: Box<Self>);
}

/// Where a gateway listens.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) admin: SocketAddr,
    /// By name, in the bootstrap's order.
    pub(crate) listeners: Vec<(String, SocketAddr)>,
}

impl Addresses {
    /// Asks the admin endpoints, once they are ready.
    pub(crate) async fn ask(admin: SocketAddr) -> Option<Self> {
        let ready = || async { admin::get(admin, "/ready").await.filter(|(status, _)| *status == 200) };
        crate::eventually_async(ready).await?;
        let (_, body) = admin::get(admin, "/listeners?format=json").await?;
        let listeners: Value = serde_json::from_str(&body).ok()?;
        let of = |listener: &Value| {
            let socket = &listener["local_address"]["socket_address"];
            let address = format!("{}:{}", socket["address"].as_str()?, socket["port_value"]);
            Some((listener["name"].as_str()?.to_owned(), address.parse().ok()?))
        };
        let listeners =
            listeners["listener_statuses"].as_array().into_iter().flatten().filter_map(of).collect();
        Some(Self { admin, listeners })
    }

    pub(crate) fn of(&self, name: Option<&str>) -> SocketAddr {
        match name {
            Some("admin") => self.admin,
            Some(name) => self.listeners.iter().find(|(known, _)| known == name).expect("a listener").1,
            None => self.listeners.first().expect("a listener").1,
        }
    }

    /// The values of statistics by name.
    pub(crate) async fn stats(&self) -> BTreeMap<String, u64> {
        let text = admin::get(self.admin, "/stats").await.map(|(_, body)| body).unwrap_or_default();
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }
}
