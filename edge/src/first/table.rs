//! What the configuration becomes: the way to every backend, and the certificate for clients.
//!
//! A table never changes. When a file of certificates does, another table takes its place; whoever began with the
//! old one ends with it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v2::Connector;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::first::config::{Address, Config};
use crate::first::error::StartError;
use crate::first::filter::router::Router;
use crate::first::tls;
use crate::first::upstream::Upstream;

/// Idle connections kept to each backend.
const POOL_SIZE: usize = 128;
/// How often the files are looked at: secrets that are mounted change without a signal.
const REFRESH: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) router: Router,
    certificate: Option<Arc<CertifiedKey>>,
}

/// The table in force.
pub(crate) struct Tables {
    config: Config,
    connector: Arc<Connector>,
    current: RwLock<Arc<Table>>,
    /// Of the files when they were last read.
    digest: Mutex<[u8; 32]>,
}

impl Tables {
    pub(crate) fn load(config: &Config) -> Result<Self, StartError> {
        let connector = Arc::new(Connector::new(Some(ConnectorOptions::new(POOL_SIZE))));
        // Before they are read: what changes between is seen as a change.
        let digest = Mutex::new(digest(config));
        let current = RwLock::new(Arc::new(read(config, &connector)?));
        Ok(Self { config: config.clone(), connector, current, digest })
    }

    pub(crate) fn current(&self) -> Arc<Table> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps up with the files of certificates, if there are any.
    pub(crate) async fn follow(self: Arc<Self>) {
        if files(&self.config).next().is_none() {
            return;
        }
        loop {
            tokio::time::sleep(REFRESH).await;
            match self.refresh() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the edge uses new certificates"),
                Err(error) => {
                    tracing::warn!(%error, "the edge keeps its certificates, for the new ones cannot be used")
                }
            }
        }
    }

    /// Reads the files again if they have changed, and says whether they have.
    fn refresh(&self) -> Result<bool, StartError> {
        let found = digest(&self.config);
        let mut seen = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return Ok(false);
        }
        // Files that cannot be used are complained of once.
        *seen = found;
        let table = Arc::new(read(&self.config, &self.connector)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(true)
    }
}

impl ResolvesServerCert for Tables {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().certificate.clone()
    }
}

// Keys must not reach a log.
impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("config", &self.config).finish_non_exhaustive()
    }
}

fn read(config: &Config, connector: &Arc<Connector>) -> Result<Table, StartError> {
    let mut router = Router::default();
    for upstream in &config.upstreams {
        let backend = Arc::new(Upstream::new(&upstream.address, &config.limits, connector)?);
        router.add(&upstream.services, &backend)?;
    }
    let identity = config.tls.as_ref().map(|tls| tls::load_identity(&tls.cert, &tls.key)).transpose()?;
    Ok(Table { router, certificate: identity.map(|identity| identity.certified) })
}

/// Every file of certificates that the configuration names.
fn files(config: &Config) -> impl Iterator<Item = &Path> {
    let shown = config.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let towards = config.upstreams.iter().filter_map(|upstream| match &upstream.address {
        Address::Tcp { tls: Some(tls), .. } => Some([&tls.ca, &tls.cert, &tls.key]),
        _ => None,
    });
    shown.chain(towards.flatten()).map(|path| path.as_path())
}

/// What is in the files. One that is missing for a moment is as if it were empty.
fn digest(config: &Config) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files(config) {
        digest.update(Sha256::digest(fs::read(file).unwrap_or_default()));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first::config::{Cors, Limits, ServerTls};

    #[tokio::test]
    async fn files_that_cannot_be_used_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tls = ServerTls { cert: directory.path().join("cert"), key: directory.path().join("key") };
        let renew = || {
            let new = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).unwrap();
            fs::write(&tls.key, new.signing_key.serialize_pem()).unwrap();
            fs::write(&tls.cert, new.cert.pem()).unwrap();
        };
        renew();
        let tables = Tables::load(&Config {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Some(tls.clone()),
            admin: ([127, 0, 0, 1], 0).into(),
            upstreams: Vec::new(),
            cors: Cors::default(),
            limits: Limits::default(),
        })
        .unwrap();
        let first = tables.current();
        assert!(!tables.refresh().unwrap());
        fs::write(&tls.cert, "half a certifi").unwrap();
        assert!(matches!(tables.refresh(), Err(StartError::Tls { .. })));
        assert!(!tables.refresh().unwrap(), "it is said once");
        assert!(Arc::ptr_eq(&tables.current(), &first));
        renew();
        assert!(tables.refresh().unwrap());
        assert!(!Arc::ptr_eq(&tables.current(), &first));
    }
}
