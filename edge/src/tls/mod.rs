//! What TLS towards clients and TLS towards upstreams have in common.

pub(crate) mod certificate;
pub(crate) mod parameters;
pub(crate) mod secrets;
pub(crate) mod stats;
pub(crate) mod verify;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::common_tls_context::ValidationContextType;
use pb::{CertificateValidationContext, CommonTlsContext};

use crate::value;

/// What the other side's certificate must be like.
pub(crate) fn validation(common: &CommonTlsContext) -> Option<&CertificateValidationContext> {
    match &common.validation_context_type {
        Some(ValidationContextType::ValidationContext(context)) => Some(context),
        _ => None,
    }
}

/// The files that a TLS context is made of.
pub(crate) fn files(common: &CommonTlsContext) -> Vec<&str> {
    let mut sources = Vec::new();
    for certificate in &common.tls_certificates {
        sources.extend([&certificate.certificate_chain, &certificate.private_key]);
    }
    if let Some(context) = validation(common) {
        sources.extend([&context.trusted_ca, &context.crl]);
    }
    sources.into_iter().flatten().filter_map(value::file).collect()
}
