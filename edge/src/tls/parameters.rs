//! Versions and cipher suites.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsParameters;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedProtocolVersion, version};

use crate::problem::{Path, Problem};

/// TLS 1.2 suites by the names that Envoy's files use.
const SUITES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The suites that are allowed. Those of TLS 1.3 always are, as in Envoy.
pub(crate) fn provider(parameters: Option<&TlsParameters>, at: &Path<'_>) -> Result<CryptoProvider, Problem> {
    let mut provider = ring::default_provider();
    let wanted = parameters.map(|parameters| parameters.cipher_suites.as_slice()).unwrap_or_default();
    if wanted.is_empty() {
        return Ok(provider);
    }
    let at = at.field("tls_params");
    let at = at.field("cipher_suites");
    let mut allowed = Vec::new();
    // Suites in brackets are equally preferred.
    for name in wanted.iter().flat_map(|group| group.trim_matches(['[', ']']).split('|')) {
        let suite = SUITES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<_> = SUITES.iter().map(|(known, _)| *known).collect();
            at.problem(format!("{name} is not supported; known: {}", known.join(", ")))
        })?;
        allowed.push(suite.1);
    }
    provider.cipher_suites.retain(|suite| suite.tls13().is_some() || allowed.contains(&suite.suite()));
    Ok(provider)
}

/// The versions that are allowed: 1.2 and 1.3, as far as the bounds let them.
pub(crate) fn versions(parameters: Option<&TlsParameters>) -> Vec<&'static SupportedProtocolVersion> {
    let bound = |bound: fn(&TlsParameters) -> TlsProtocol| parameters.map_or(TlsProtocol::TlsAuto, bound);
    let minimum = bound(TlsParameters::tls_minimum_protocol_version);
    let maximum = bound(TlsParameters::tls_maximum_protocol_version);
    let mut versions = Vec::with_capacity(2);
    if minimum != TlsProtocol::TlSv13 {
        versions.push(&version::TLS12);
    }
    if matches!(maximum, TlsProtocol::TlsAuto | TlsProtocol::TlSv13) {
        versions.push(&version::TLS13);
    }
    versions
}
