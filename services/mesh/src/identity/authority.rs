//! The development certificate authority: made in the data directory at the first start, so that mutual TLS
//! works before anyone has set up a real one. Whoever reads its key can be any role.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::clock::Clock;
use crate::error::StartError;

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3653);
const LEAF_LIFETIME: Duration = DAY;
/// Certificates are valid from a little before they are made: peers' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

pub(super) struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Clock,
}

impl Authority {
    /// Opens the authority in `directory`, or makes it.
    pub(super) fn open(directory: &Path, clock: Clock) -> Result<Self, StartError> {
        let attempt = |what: &str| format!("{what} the development authority in {}", directory.display());
        let (certificate_pem, key_pem) =
            read_or_make(directory, &clock).map_err(|error| StartError::failed(attempt("open"), error))?;
        let issuer = KeyPair::from_pem(&key_pem)
            .and_then(|key| Issuer::from_ca_cert_pem(&certificate_pem, key))
            .map_err(|error| StartError::failed(attempt("read"), error))?;
        Ok(Self { certificate_pem, issuer, clock })
    }

    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, StartError> {
        CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .map_err(|error| StartError::failed("read the development authority's certificate", error))
    }

    /// Issues a leaf for a role: chain and key.
    pub(super) fn issue(
        &self,
        role: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), StartError> {
        self.sign(role)
            .map_err(|error| StartError::failed(format!("issue the certificate of role {role}"), error))
    }

    fn sign(
        &self,
        role: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([super::dns_name(role)])?;
        params.subject_alt_names.push(SanType::URI(format!("{}{role}", super::SPIFFE_PREFIX).try_into()?));
        params.distinguished_name.push(DnType::CommonName, role);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // One certificate serves both ends: a role is called and calls.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = self.clock.now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LEAF_LIFETIME).into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((vec![certificate.der().clone()], key))
    }
}

/// Reads certificate and key, or makes them. Locked, because processes of one data directory may start
/// together.
fn read_or_make(directory: &Path, clock: &Clock) -> io::Result<(String, String)> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock()?;
    let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
    // The certificate is written last, so that its presence means that both are whole.
    if !certificate.try_exists()? {
        let (certificate_pem, key_pem) = make(clock).map_err(io::Error::other)?;
        write(&key, &key_pem, 0o600)?;
        write(&certificate, &certificate_pem, 0o644)?;
    }
    Ok((fs::read_to_string(certificate)?, fs::read_to_string(key)?))
}

fn make(clock: &Clock) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "omnimesh development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = clock.now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file whole: a crash leaves either nothing or all of it.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let draft: PathBuf = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}
