//! Certificates: our own from files, and what a peer's says.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::call::PeerCertificate;
use crate::problem::{Path, Problem};
use crate::value;

/// A certificate chain of ours with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) uris: Vec<String>,
    dns: Vec<String>,
}

impl Identity {
    /// Whether the certificate carries `name`, itself or by a wildcard for its first label.
    pub(crate) fn serves(&self, name: &str) -> bool {
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        self.dns.iter().any(|dns| {
            dns.eq_ignore_ascii_case(name)
                || dns.strip_prefix("*.").is_some_and(|suffix| suffix.eq_ignore_ascii_case(parent))
        })
    }
}

/// Reads a certificate chain and its key, and checks that they belong together.
pub(crate) fn identity(config: &TlsCertificate, at: &Path<'_>) -> Result<Identity, Problem> {
    let (chain_at, key_at) = (at.field("certificate_chain"), at.field("private_key"));
    let missing = |at: &Path<'_>| at.problem("missing");
    let pem = value::read(config.certificate_chain.as_ref().ok_or_else(|| missing(&chain_at))?, &chain_at)?;
    let chain = certificates(&pem, &chain_at)?;
    let pem = value::read(config.private_key.as_ref().ok_or_else(|| missing(&key_at))?, &key_at)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| key_at.problem(format!("not a private key in PEM: {error}")))?;
    let names = chain.first().and_then(|leaf| peer(std::slice::from_ref(leaf))).unwrap_or_default();
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| key_at.problem(format!("the key cannot be used: {error}")))?;
    if !chain.first().is_some_and(|leaf| fits(&*key, leaf)) {
        return Err(key_at.problem("the key does not fit the certificate: give the key of its first one"));
    }
    Ok(Identity { key: Arc::new(CertifiedKey::new(chain, key)), uris: names.uris, dns: names.dns })
}

/// Whether a key is that of a certificate. The TLS library would say so of X.509 version 3 only, and a server's own
/// certificate is for its clients to judge.
fn fits(key: &dyn SigningKey, leaf: &CertificateDer<'_>) -> bool {
    let Ok((_, leaf)) = parse_x509_certificate(leaf) else { return false };
    key.public_key().is_none_or(|public| public.as_ref() == leaf.public_key().raw)
}

/// Every certificate of a PEM file; at least one.
pub(crate) fn certificates(pem: &[u8], at: &Path<'_>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let unusable = |error: &dyn std::fmt::Display| at.problem(format!("not certificates in PEM: {error}"));
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unusable(&error))?;
    if all.is_empty() {
        return Err(at.problem("holds no certificate"));
    }
    for certificate in &all {
        parse_x509_certificate(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(all)
}

/// What a peer's certificate chain says of it.
pub(crate) fn peer(chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
    let leaf = chain.first()?;
    let (_, parsed) = parse_x509_certificate(leaf).ok()?;
    let Names { uris, dns, .. } = names(&parsed);
    Some(PeerCertificate {
        pem: pem(leaf),
        chain_pem: chain.iter().map(|certificate| pem(certificate)).collect(),
        sha256: hex(&Sha256::digest(leaf)),
        serial: hex(parsed.raw_serial()),
        subject: distinguished_name(parsed.subject()),
        issuer: distinguished_name(parsed.issuer()),
        uris,
        dns,
        verified: false,
    })
}

/// The alternative names of a certificate.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) emails: Vec<String>,
    pub(crate) addresses: Vec<String>,
}

pub(crate) fn names(certificate: &X509Certificate<'_>) -> Names {
    let mut names = Names::default();
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return names };
    for name in &alternatives.value.general_names {
        match name {
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

/// A name as RFC 2253 writes it: the most specific part first.
fn distinguished_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_attributes()
        .map(|attribute| {
            let oid = attribute.attr_type();
            let short = x509_parser::objects::oid2abbrev(oid, x509_parser::objects::oid_registry())
                .map_or_else(|_| oid.to_id_string(), str::to_owned);
            format!("{short}={}", attribute.as_str().unwrap_or_default())
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
