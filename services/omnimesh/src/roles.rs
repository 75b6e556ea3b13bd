//! Every role of the mesh: what it serves and what it may ask of the others. A line each.

use std::collections::BTreeSet;

use mesh::{Peers, ServerBuilder};

use crate::config::Config;

/// A part of the mesh that can run in a process of its own.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    /// The services that the edge routes to it.
    pub(crate) services: &'static [&'static str],
    /// The permissions that it holds as a workload.
    pub(crate) permissions: &'static [&'static str],
}

#[rustfmt::skip]
pub(crate) static ROLES: [Role; 8] = [
    Role { name: "identity",  services: &["omnimesh.identity.v1.IdentityService"],   permissions: &[] },
    Role { name: "customer",  services: &["omnimesh.customer.v1.CustomerService"],   permissions: &["event.read", "identity.read"] },
    Role { name: "catalog",   services: &["omnimesh.catalog.v1.CatalogService"],     permissions: &[] },
    Role { name: "inventory", services: &["omnimesh.inventory.v1.InventoryService"], permissions: &["event.read"] },
    Role { name: "order",     services: &["omnimesh.order.v1.OrderService"],         permissions: &["event.read"] },
    Role { name: "ingest",    services: &["omnimesh.ingest.v1.IngestService"],       permissions: &["identity.write", "catalog.write", "inventory.write", "order.write"] },
    Role { name: "lake",      services: &["omnimesh.feature.v1.FeatureService", "omnimesh.feature.v1.VectorService", "omnimesh.lake.v1.DatasetService", lake::FLIGHT.service], permissions: &["event.read"] },
    Role { name: "edge",      services: &[],                                         permissions: &[] },
];

/// What every workload may do.
pub(crate) fn policy() -> mesh::Policy {
    mesh::Policy::new(ROLES.iter().map(|role| (role.name, role.permissions)))
}

/// Every permission that a caller can need.
pub(crate) fn permissions() -> Result<BTreeSet<String>, mesh::StartError> {
    let mut permissions = mesh::permissions()?;
    permissions.insert(lake::FLIGHT.permission.to_owned());
    Ok(permissions)
}

/// The role of that name.
pub(crate) fn find(name: &str) -> Option<&'static Role> {
    ROLES.iter().find(|role| role.name == name)
}

/// Adds a role's services to a server. The node itself starts the lake, which follows the others, and the edge.
pub(crate) async fn register(
    role: &'static Role,
    config: &Config,
    peers: &Peers,
    server: &mut ServerBuilder,
) -> anyhow::Result<()> {
    let storage = config.storage();
    match role.name {
        "identity" => identity::register(config.identity.clone(), &storage, peers, server).await?,
        "customer" => customer::register(config.customer.clone(), &storage, peers, server).await?,
        "catalog" => catalog::register(config.catalog.clone(), &storage, peers, server).await?,
        "inventory" => inventory::register(config.inventory.clone(), &storage, peers, server).await?,
        "order" => order::register(config.order.clone(), &storage, peers, server).await?,
        "ingest" => ingest::register(config.ingest.clone(), &storage, peers, server).await?,
        _ => {}
    }
    Ok(())
}
