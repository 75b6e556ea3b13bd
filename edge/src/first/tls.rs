//! Certificates and keys from PEM files, checked before anything is done with them.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::first::error::StartError;

/// A certificate chain and the private key that belongs to its first certificate.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Both, as rustls shows them.
    pub(crate) certified: Arc<CertifiedKey>,
}

pub(crate) fn load_identity(cert: &Path, key: &Path) -> Result<Identity, StartError> {
    let chain = load_certificates(cert)?;
    let unusable = |reason: String| StartError::Tls { path: key.to_owned(), reason };
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
    let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider())
        .map_err(|error| unusable(format!("it does not fit the certificate: {error}")))?;
    Ok(Identity { chain, key, certified: Arc::new(certified) })
}

pub(crate) fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let unusable = |reason: String| StartError::Tls { path: path.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    for certificate in &certificates {
        x509_parser::parse_x509_certificate(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(certificates)
}
