//! What a cluster's configuration says of its hosts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};

use super::host::{CheckAt, Spec, Stated, Target};
use super::read::refuse;
use crate::problem::{Path, Problem};
use crate::value::number;

/// How the addresses of hosts are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    Static,
    /// Each address of a name is a host.
    StrictDns,
    /// A name is one host, at the first of its addresses.
    LogicalDns,
}

/// An endpoint as it is configured.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    At(Spec),
    /// Still to be looked up: what it is but for its address.
    Named {
        name: String,
        port: u16,
        spec: Spec,
    },
}

pub(super) fn discovery(config: &ClusterConfig, at: &Path<'_>) -> Result<Discovery, Problem> {
    let at = at.field("type");
    match &config.cluster_discovery_type {
        None => Ok(Discovery::Static),
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            Err(at.problem("cluster_type is not supported: use type"))
        }
        Some(ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
            Ok(DiscoveryType::Static) => Ok(Discovery::Static),
            Ok(DiscoveryType::StrictDns) => Ok(Discovery::StrictDns),
            Ok(DiscoveryType::LogicalDns) => Ok(Discovery::LogicalDns),
            _ => Err(at.problem("is not supported: use STATIC, STRICT_DNS or LOGICAL_DNS")),
        },
    }
}

/// Every endpoint of the cluster.
pub(super) fn endpoints(
    assignment: &ClusterLoadAssignment,
    discovery: Discovery,
    at: &Path<'_>,
) -> Result<Vec<Endpoint>, Problem> {
    refuse!(assignment, at, named_endpoints);
    if let Some(policy) = &assignment.policy {
        refuse!(policy, at.field("policy"), drop_overloads, endpoint_stale_after, weighted_priority_health);
    }
    let mut endpoints = Vec::new();
    let at_localities = at.field("endpoints");
    for (index, locality) in assignment.endpoints.iter().enumerate() {
        let at = at_localities.index(index);
        refuse!(locality, at, lb_config);
        let at = at.field("lb_endpoints");
        for (index, endpoint) in locality.lb_endpoints.iter().enumerate() {
            endpoints.push(self::endpoint(endpoint, locality, discovery, &at.index(index))?);
        }
    }
    if discovery == Discovery::LogicalDns && endpoints.len() != 1 {
        return Err(at.problem("LOGICAL_DNS clusters must have exactly one endpoint"));
    }
    Ok(endpoints)
}

fn endpoint(
    config: &LbEndpoint,
    locality: &LocalityLbEndpoints,
    discovery: Discovery,
    at: &Path<'_>,
) -> Result<Endpoint, Problem> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &config.host_identifier else {
        return Err(at.problem("name an endpoint with an address"));
    };
    let at = at.field("endpoint");
    refuse!(endpoint, at, additional_addresses);
    let place = locality.locality.clone().unwrap_or_default();
    let weight = number(config.load_balancing_weight.as_ref(), 1);
    if weight == 0 {
        return Err(at.problem("load_balancing_weight must be at least 1"));
    }
    let mut spec = Spec {
        target: Target::Unix(PathBuf::new()),
        hostname: endpoint.hostname.clone(),
        weight,
        priority: locality.priority,
        region: place.region,
        zone: place.zone,
        sub_zone: place.sub_zone,
        stated: match config.health_status() {
            HealthStatus::Unknown | HealthStatus::Healthy => Stated::Healthy,
            HealthStatus::Degraded => Stated::Degraded,
            _ => Stated::Unhealthy,
        },
        check: CheckAt::default(),
    };
    if let Some(check) = &endpoint.health_check_config {
        let at = at.field("health_check_config");
        refuse!(check, at, address);
        let port =
            u16::try_from(check.port_value).map_err(|_| at.field("port_value").problem("is not a port"))?;
        spec.check = CheckAt {
            port: Some(port).filter(|port| *port != 0),
            hostname: check.hostname.clone(),
            off: check.disable_active_health_check,
        };
    }
    let at = at.field("address");
    place_at(endpoint.address.as_ref(), spec, discovery, &at)
}

fn place_at(
    address: Option<&Address>,
    mut spec: Spec,
    discovery: Discovery,
    at: &Path<'_>,
) -> Result<Endpoint, Problem> {
    match address.and_then(|address| address.address.as_ref()) {
        Some(AddressKind::Pipe(pipe)) => {
            spec.target = Target::Unix(pipe.path.clone().into());
            Ok(Endpoint::At(spec))
        }
        Some(AddressKind::SocketAddress(address)) => {
            let at = at.field("socket_address");
            let port = port(address, &at)?;
            if let Ok(ip) = address.address.parse::<IpAddr>() {
                spec.target = Target::Tcp(SocketAddr::new(ip, port));
                return Ok(Endpoint::At(spec));
            }
            if discovery == Discovery::Static {
                return Err(at.field("address").problem(format!(
                    "malformed IP address: {}. Set the cluster's type to STRICT_DNS or LOGICAL_DNS for a name",
                    address.address
                )));
            }
            if spec.hostname.is_empty() {
                spec.hostname.clone_from(&address.address);
            }
            Ok(Endpoint::Named { name: address.address.clone(), port, spec })
        }
        _ => Err(at.problem("needs a socket_address or a pipe")),
    }
}

fn port(address: &SocketAddress, at: &Path<'_>) -> Result<u16, Problem> {
    refuse!(address, at, resolver_name, network_namespace_filepath);
    if address.protocol != 0 {
        return Err(at.field("protocol").problem("must be TCP"));
    }
    match &address.port_specifier {
        Some(PortSpecifier::PortValue(port)) => {
            u16::try_from(*port).map_err(|_| at.field("port_value").problem("must be at most 65535"))
        }
        _ => Err(at.problem("needs a port_value")),
    }
}
