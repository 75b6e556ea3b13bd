//! Certificates as an operator's authority issues them: a file each, named in `[mesh.certificate]`.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// The authority that all roles trust.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// A new one, with its certificate in `ca.pem` of the directory.
    pub(crate) fn new(directory: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(directory.join("ca.pem"), certificate.pem()).expect("ca.pem is written");
        Self(Issuer::new(params, key))
    }

    /// Gives a role its certificate: `chain.pem` and `key.pem` in the directory.
    pub(crate) fn issue(&self, role: &str, directory: &Path) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([format!("{role}.mesh.omnimesh")]).expect("a DNS name");
        let identity = format!("spiffe://omnimesh/role/{role}").try_into().expect("a SPIFFE id");
        params.subject_alt_names.push(SanType::URI(identity));
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        fs::write(directory.join("chain.pem"), certificate.pem()).expect("chain.pem is written");
        fs::write(directory.join("key.pem"), key.serialize_pem()).expect("key.pem is written");
    }
}
