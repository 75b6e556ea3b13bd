//! The bootstrap of the edge that `up` and `serve` run, and that `omnimesh edge --print-config` shows.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, anyhow};
use edge::{Address, ClientTls, DatabaseUrl, Priority, Upstream, bootstrap::Loaded, gateway};

use crate::{
    config::Config,
    node::Whereabouts,
    roles::{ROLES, Role},
};

/// What every process serves itself, beside its roles' services.
const HERE: [&str; 3] = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", events::SERVICE];
/// A shop that is overwhelmed sells first, shows what it has next, and reports last; what is not here is shown.
const PRIORITIES: [(&str, &[&str], u32); 2] = [
    (
        "checkout",
        &[
            "omnimesh.order.v1.OrderService",
            "omnimesh.inventory.v1.InventoryService",
            "grpc.health.v1.Health",
        ],
        100,
    ),
    ("analytics", &[events::SERVICE, "omnimesh.ingest.v1.IngestService"], 50),
];
/// Holds the URL of a database that has a password: `--database-url` takes it from there, too.
const DATABASE_VARIABLE: &str = "OMNIMESH_DATABASE_URL";

/// Whether an edge could start so. To be asked before anything else is started, so that an address that cannot be
/// served leaves nothing behind.
pub(crate) fn check(config: &Config, roles: &[&'static Role]) -> anyhow::Result<()> {
    let (listen, admin) = (config.edge.listen, config.edge.admin);
    if config.edge.tls.is_none() && !listen.ip().is_loopback() {
        return Err(anyhow!(
            "refusing to serve {listen} without TLS: give a certificate and key ([edge.tls]), or listen on loopback \
             (--listen)"
        ));
    }
    if !admin.ip().is_loopback() {
        return Err(anyhow!(
            "the admin interface {admin} must be a loopback address: choose one with --admin"
        ));
    }
    gateway::validate(&load(config, roles)?).map_err(|problem| anyhow!("{}", problem.message))?;
    // Both are open at once: they may be the same by mistake.
    let _listening = (bind(listen, "--listen")?, bind(admin, "--admin")?);
    Ok(())
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|reason| {
        anyhow!("cannot listen on {address}: {reason}; free the port or choose another with {flag}")
    })
}

/// The bootstrap of the edge of a node with these roles.
pub(crate) fn load(config: &Config, roles: &[&'static Role]) -> anyhow::Result<Loaded> {
    let edge = edge_of(config, roles, DatabaseUrl::Plain(config.storage().url))?;
    edge::bootstrap::load(&edge.to_bootstrap()).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow!("the edge cannot be configured so: {}", lines.join("; "))
    })
}

/// The same as a file of its own; and what its reader has to provide, for passwords are not printed.
pub(crate) fn print(config: &Config, roles: &[&'static Role]) -> anyhow::Result<(String, Option<String>)> {
    let url = config.storage().url;
    let has_password = storage::redacted(&url) != url;
    let database = match has_password {
        true => DatabaseUrl::Variable(DATABASE_VARIABLE.to_owned()),
        false => DatabaseUrl::Plain(url),
    };
    let note = has_password
        .then(|| format!("the database's URL has a password: set {DATABASE_VARIABLE} to it for the gateway"));
    Ok((edge_of(config, roles, database)?.to_bootstrap(), note))
}

fn edge_of(config: &Config, roles: &[&'static Role], consumers: DatabaseUrl) -> anyhow::Result<edge::Config> {
    let here = |role: &&Role| roles.iter().any(|hosted| hosted.name == role.name);
    let services = ROLES.iter().filter(here).flat_map(|role| role.services).copied().chain(HERE);
    let mut upstreams = vec![Upstream {
        name: "here".to_owned(),
        services: services.map(str::to_owned).collect(),
        address: Address::Unix(Whereabouts::mesh_socket(config)),
    }];
    for role in ROLES.iter().filter(|role| !here(role) && !role.services.is_empty()) {
        upstreams.push(remote(config, role)?);
    }
    Ok(edge::Config {
        listen: config.edge.listen,
        tls: config.edge.tls.clone(),
        admin: config.edge.admin,
        access_log: config.edge.access_log.clone(),
        consumers,
        failure_mode_deny: config.edge.failure_mode_deny,
        upstreams,
        priorities: PRIORITIES.map(priority).to_vec(),
        cors: config.edge.cors.clone(),
        limits: config.edge.limits.clone(),
    })
}

fn priority((name, services, share_percent): (&str, &[&str], u32)) -> Priority {
    let services = services.iter().map(|&service| service.to_owned()).collect();
    Priority { name: name.to_owned(), services, share_percent }
}

/// A role in another process, over mutual TLS.
fn remote(config: &Config, role: &Role) -> anyhow::Result<Upstream> {
    let name = role.name;
    let peer = config.mesh.peers.get(name).ok_or_else(|| {
        anyhow!("the role {name} runs neither here nor elsewhere: add it to --role, or `{name} = \"host:port\"` to [mesh.peers]")
    })?;
    let files = config.mesh.certificate.as_ref().context(
        "an edge apart from the services needs [mesh.certificate] with the edge's own certificate",
    )?;
    let place = peer.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = place.with_context(|| format!("the peer {name} = \"{peer}\" is not host:port"))?;
    Ok(Upstream {
        name: name.to_owned(),
        services: role.services.iter().map(|&service| service.to_owned()).collect(),
        address: Address::Tcp {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls: Some(ClientTls {
                ca: files.ca.clone(),
                cert: files.chain.clone(),
                key: files.key.clone(),
                server_name: format!("{name}.mesh.omnimesh"),
            }),
        },
    })
}
