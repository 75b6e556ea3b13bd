//! Workload identity: the certificate by which a role proves itself, and the check of a peer's.
//!
//! A role is the SPIFFE id `spiffe://omnimesh/role/<role>` in a certificate, with the DNS name
//! `<role>.mesh.omnimesh` beside it, by which TLS libraries check the server they reach.

mod authority;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::config::CertificateFiles;
use crate::error::StartError;
use authority::Authority;

/// How often a process renews its certificates: well before the 24 hours of a leaf are over.
pub(crate) const RENEWAL: Duration = Duration::from_secs(8 * 3600);

const SPIFFE_PREFIX: &str = "spiffe://omnimesh/role/";
const DNS_SUFFIX: &str = ".mesh.omnimesh";
const ALPN_HTTP2: &[u8] = b"h2";

/// The certificates of the roles in this process, and the authorities it trusts. Clones share them.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    source: Source,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    /// By role, so that renewal reaches every connection made after it.
    leaves: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

enum Source {
    Development(Authority),
    Files(CertificateFiles),
}

impl Identity {
    /// Certificates from files, or without files from the development authority in `directory` (mode 0700),
    /// which is made there at the first start.
    pub fn open(
        files: Option<&CertificateFiles>,
        directory: &Path,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (source, trusted) = match files {
            Some(files) => (Source::Files(files.clone()), read_chain(&files.ca)?),
            None => {
                let authority = Authority::open(directory, clock)?;
                let certificate = authority.certificate()?;
                (Source::Development(authority), vec![certificate])
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots
                .add(certificate)
                .map_err(|error| StartError::failed("use the mesh's certificate authority", error))?;
        }
        Ok(Self(Arc::new(Inner {
            source,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots: Arc::new(roots),
            leaves: RwLock::default(),
        })))
    }

    /// Makes sure that a role has a certificate.
    pub(crate) fn ensure(&self, role: &str) -> Result<(), StartError> {
        if self.0.leaf(role).is_some() {
            return Ok(());
        }
        self.renew_role(role)
    }

    /// Replaces the certificates of all roles in use. Connections that stand keep theirs.
    pub(crate) fn renew(&self) -> Result<(), StartError> {
        let roles: Vec<String> =
            self.0.leaves.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        roles.iter().try_for_each(|role| self.renew_role(role))
    }

    fn renew_role(&self, role: &str) -> Result<(), StartError> {
        let (chain, key) = match &self.0.source {
            Source::Development(authority) => authority.issue(role)?,
            Source::Files(files) => (read_chain(&files.chain)?, read_key(&files.key)?),
        };
        // A certificate of another role would be refused by every peer: say so here, where it can be mended.
        if chain.first().and_then(role_of).as_deref() != Some(role) {
            return Err(StartError::config(format!(
                "the certificate is not role {role}'s: it must hold the URI SAN {SPIFFE_PREFIX}{role}"
            )));
        }
        let leaf = CertifiedKey::from_der(chain, key, &self.0.provider)
            .map_err(|error| StartError::failed(format!("use the certificate of role {role}"), error))?;
        let mut leaves = self.0.leaves.write().unwrap_or_else(PoisonError::into_inner);
        leaves.insert(role.to_owned(), Arc::new(leaf));
        Ok(())
    }

    /// TLS for the listener: presents the role that the client asks for, and demands a certificate.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, StartError> {
        let failed = |error: rustls::Error| StartError::failed("set up TLS for the mesh listener", error);
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.0.roots),
            Arc::clone(&self.0.provider),
        )
        .build()
        .map_err(|error| StartError::failed("set up the check of client certificates", error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS for calls that a role makes.
    pub(crate) fn client_config(&self, role: &str) -> Result<Arc<ClientConfig>, StartError> {
        self.ensure(role)?;
        let resolver = RoleCertificate { identity: Arc::clone(&self.0), role: role.to_owned() };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::failed("set up TLS for calls to peers", error))?
            .with_root_certificates(Arc::clone(&self.0.roots))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(Arc::new(config))
    }
}

impl Inner {
    fn leaf(&self, role: &str) -> Option<Arc<CertifiedKey>> {
        self.leaves.read().unwrap_or_else(PoisonError::into_inner).get(role).cloned()
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(hello.server_name()?.strip_suffix(DNS_SUFFIX)?)
    }
}

struct RoleCertificate {
    identity: Arc<Inner>,
    role: String,
}

impl ResolvesClientCert for RoleCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.identity.leaf(&self.role)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// Keys must not reach a log, so the source is left out.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl fmt::Debug for RoleCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleCertificate").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The DNS name by which TLS checks a server of the role.
pub(crate) fn dns_name(role: &str) -> String {
    format!("{role}{DNS_SUFFIX}")
}

/// The role that a certificate, already checked against the authority, proves. Exactly one SPIFFE id makes an
/// identity (SPIFFE X.509-SVID, section 2).
pub(crate) fn role_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.strip_prefix(SPIFFE_PREFIX).map(str::to_owned),
        _ => None,
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(StartError::config(format!("{}: holds no certificate", path.display()))),
        Err(error) => {
            Err(StartError::config(format!("{}: cannot read certificates: {error}", path.display())))
        }
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        StartError::config(format!("{}: cannot read a private key: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_replaces_leaves_before_they_expire() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(Clock::system().now_micros());
        let identity = Identity::open(None, directory.path(), clock.clone()).unwrap();
        identity.ensure("lake").unwrap();
        let expiry = || {
            let leaf = identity.0.leaf("lake").unwrap();
            let (_, certificate) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
            certificate.validity().not_after.timestamp()
        };
        let first = expiry();
        clock.advance(RENEWAL);
        identity.renew().unwrap();
        assert_eq!(expiry() - first, i64::try_from(RENEWAL.as_secs()).unwrap());
        assert!(RENEWAL * 2 < Duration::from_secs(24 * 3600), "a failed renewal has time to be tried again");
    }

    #[test]
    fn a_certificate_proves_its_role() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::open(None, directory.path(), Clock::system()).unwrap();
        identity.ensure("lake").unwrap();
        let leaf = identity.0.leaf("lake").unwrap();
        assert_eq!(role_of(&leaf.cert[0]).as_deref(), Some("lake"));
        let authority = read_chain(&directory.path().join("ca.pem")).unwrap();
        assert_eq!(role_of(&authority[0]), None);
    }
}
