//! What TLS towards clients and TLS towards upstreams have in common.

pub(crate) mod certificate;
pub(crate) mod parameters;
pub(crate) mod stats;
pub(crate) mod verify;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::CommonTlsContext;
use pb::common_tls_context::ValidationContextType;

use crate::value;

/// The files that a TLS context is made of.
pub(crate) fn files(common: &CommonTlsContext) -> Vec<&str> {
    let mut sources = Vec::new();
    for certificate in &common.tls_certificates {
        sources.extend([&certificate.certificate_chain, &certificate.private_key]);
    }
    if let Some(ValidationContextType::ValidationContext(context)) = &common.validation_context_type {
        sources.extend([&context.trusted_ca, &context.crl]);
    }
    sources.into_iter().flatten().filter_map(value::file).collect()
}
