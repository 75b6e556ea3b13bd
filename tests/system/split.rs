//! A deployment with a process per role, as on a cluster: every call between them over TCP with mutual TLS.

use std::{fs, net::SocketAddr, path::PathBuf};

use ingest::Definition;
use serde::Serialize;

use crate::{certificates::Authority, deployment::Deployment, process::Process};

const ROLES: [&str; 8] = ["identity", "customer", "catalog", "inventory", "order", "ingest", "lake", "edge"];
const FIRST_PORT: u16 = 7000;

/// The processes. Their databases and their lake are the deployment's.
pub(crate) struct Split<'d> {
    deployment: &'d Deployment,
    processes: Vec<Process>,
}

impl<'d> Split<'d> {
    /// Starts a process per role and waits until all are ready.
    pub(crate) async fn start(deployment: &'d Deployment, sources: Vec<Definition>) -> Self {
        let authority = Authority::new(deployment.path());
        let sources = Sources { ingest: ingest::Config { sources } };
        let sources = toml::to_string(&sources).expect("sources as TOML");
        let mut split = Self { deployment, processes: Vec::new() };
        for role in ROLES {
            let home = split.home(role);
            fs::create_dir(&home).expect("a directory per role");
            authority.issue(role, &home);
            let file = home.join("omnimesh.toml");
            fs::write(&file, split.configuration(role) + &sources).expect("a file per role");
            let file = file.to_str().expect("a path in UTF-8");
            split.processes.push(Process::start(["serve", "--role", role, "--config", file]));
        }
        for process in &mut split.processes {
            process.ready().await;
        }
        split
    }

    /// The data directory of a role's process.
    pub(crate) fn home(&self, role: &str) -> PathBuf {
        self.deployment.path().join(role)
    }

    /// Stops the processes, those that call before those that are called.
    pub(crate) async fn stop(self) {
        for process in self.processes.into_iter().rev() {
            let ended = process.stop("TERM").await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
    }

    fn configuration(&self, role: &str) -> String {
        let base = self.deployment.path().display();
        let url = self.deployment.database_url();
        let own = ROLES.iter().position(|known| *known == role).map(address).expect("a role");
        let peers: String = ROLES
            .iter()
            .enumerate()
            .map(|(index, peer)| format!("{peer} = \"{}\"\n", address(index)))
            .collect();
        format!(
            "data_dir = \"{base}/{role}\"\n\
             storage.url = \"{url}\"\n\
             lake.root = \"{base}/lake\"\n\
             lake.refresh_seconds = 0\n\
             edge.listen = \"127.0.0.1:0\"\n\
             edge.admin = \"127.0.0.1:0\"\n\
             mesh.listen.tcp = \"{own}\"\n\
             mesh.certificate.ca = \"{base}/ca.pem\"\n\
             mesh.certificate.chain = \"{base}/{role}/chain.pem\"\n\
             mesh.certificate.key = \"{base}/{role}/key.pem\"\n\
             [mesh.peers]\n\
             {peers}"
        )
    }
}

#[derive(Serialize)]
struct Sources {
    ingest: ingest::Config,
}

/// Where the role of this index listens: peers must know it before it does, so the system cannot choose the port. On a
/// loopback address of this test's own nobody else asks for one.
fn address(index: usize) -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = FIRST_PORT + u16::try_from(index).expect("a handful of roles");
    ([127, 0x40 | high, middle, low], port).into()
}
